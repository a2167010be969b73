// Package oidc signs people in at an OpenID provider: code flow with PKCE, state
// and nonce.
//
// The provider is looked up when it is first needed and again after a failure, so
// that a provider that is down does not keep the relay from starting. It keeps no
// state of its own: what has to be remembered between the two steps lies in the
// browser. It trusts the provider about who somebody is and in which groups, and
// nobody else about anything.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/account"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	// askTime bounds one look-up of the provider, or one exchange with it.
	askTime = 10 * time.Second
	// restTime is how long a provider that did not answer is left alone.
	restTime = 5 * time.Second
	// maxAnswer bounds what a provider may answer.
	maxAnswer = 1 << 20
)

// People is where those who were vouched for are signed in. *account.Service is one.
type People interface {
	SignInVouched(ctx context.Context, v account.Vouched, from account.Attempt) (account.Ticket, error)
}

// Config names the provider. Issuer, ClientID and People are required.
type Config struct {
	Issuer       string // https, or http on this machine
	ClientID     string
	ClientSecret string // "" for a public client
	Label        string // what the button says; "" is the issuer's host
	Scopes       []string
	NameClaim    string // "" is preferred_username
	GroupsClaim  string // "" is groups
	Groups       account.Groups
	People       People
	Transport    http.RoundTripper // nil is one with time limits
	Now          func() time.Time  // nil is time.Now
}

// A Provider is one OpenID provider. Its methods may be called concurrently.
type Provider struct {
	cfg    Config
	client *http.Client

	mu     sync.Mutex
	found  *oidc.Provider // nil: not looked up yet
	failed time.Time      // the last look-up that failed
	err    error
}

// New checks the configuration and asks nobody.
func New(cfg Config) (*Provider, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("issuer %q: expected an address such as https://id.example", cfg.Issuer)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && onThisMachine(u.Hostname())) {
		return nil, fmt.Errorf("issuer %q: it must be https, or http on this machine", cfg.Issuer)
	}
	if cfg.ClientID == "" || cfg.People == nil {
		return nil, errors.New("a client id is needed")
	}
	if cfg.Label == "" {
		cfg.Label = u.Hostname()
	}
	if cfg.NameClaim == "" {
		cfg.NameClaim = "preferred_username"
	}
	if cfg.GroupsClaim == "" {
		cfg.GroupsClaim = "groups"
	}
	if !slices.Contains(cfg.Scopes, oidc.ScopeOpenID) {
		cfg.Scopes = append([]string{oidc.ScopeOpenID}, cfg.Scopes...)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 5 * time.Second, ResponseHeaderTimeout: askTime,
			MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true}
	}
	return &Provider{cfg: cfg, client: &http.Client{Transport: bounded{cfg.Transport}, Timeout: askTime}}, nil
}

func onThisMachine(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// Close lets go of the connections to the provider.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

// Name is what its button says.
func (p *Provider) Name() string { return p.cfg.Label }

// provider looks the provider up, once.
func (p *Provider) provider(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if now := p.cfg.Now(); p.err != nil && now.Sub(p.failed) < restTime {
		return nil, p.err
	}
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.cfg.Issuer)
	if err == nil {
		err = p.checkEndpoints(found.Endpoint())
	}
	if err != nil {
		p.failed, p.err = p.cfg.Now(), fmt.Errorf("look up the OpenID provider: %w", err)
		return nil, p.err
	}
	p.found, p.err = found, nil
	return found, nil
}

// checkEndpoints refuses endpoints that would carry secrets in the clear.
func (p *Provider) checkEndpoints(e oauth2.Endpoint) error {
	for _, text := range []string{e.AuthURL, e.TokenURL} {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && onThisMachine(u.Hostname())) {
			return fmt.Errorf("its endpoint %.200q is neither https nor on this machine", text)
		}
	}
	return nil
}

func (p *Provider) oauth(found *oidc.Provider, back string) *oauth2.Config {
	return &oauth2.Config{ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret, Endpoint: found.Endpoint(), RedirectURL: back, Scopes: p.cfg.Scopes}
}

// Begin returns where to send the browser, and what it has to keep until it is back.
func (p *Provider) Begin(ctx context.Context, back string) (to, remember string, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found, err := p.provider(ctx)
	if err != nil {
		return "", "", err
	}
	state, nonce, verifier := random(), random(), oauth2.GenerateVerifier()
	to = p.oauth(found, back).AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	return to, strings.Join([]string{state, nonce, verifier}, "."), nil
}

func random() string {
	var b [24]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func same(a, b string) bool { return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// Finish takes what the browser came back with and signs the person in. An
// *account.Invalid says why not, for them to read.
func (p *Provider) Finish(ctx context.Context, back, remember string, query func(string) string, from account.Attempt) (account.Ticket, error) {
	kept := strings.Split(remember, ".")
	if len(kept) != 3 || !same(kept[0], query("state")) {
		return account.Ticket{}, &account.Invalid{Field: "state", Text: "this sign-in was not begun in this browser, or too long ago; begin again"}
	}
	if iss := query("iss"); iss != "" && iss != p.cfg.Issuer { // RFC 9207
		return account.Ticket{}, errors.New("the answer came from another issuer")
	}
	if word := query("error"); word != "" {
		if word == "access_denied" {
			return account.Ticket{}, &account.Invalid{Field: "error", Text: p.cfg.Label + " did not let you in"}
		}
		return account.Ticket{}, fmt.Errorf("the OpenID provider answered with the error %.64q", word)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found, err := p.provider(ctx)
	if err != nil {
		return account.Ticket{}, err
	}
	who, err := p.exchange(ctx, found, back, query("code"), kept[1], kept[2])
	if err != nil {
		return account.Ticket{}, err
	}
	return p.cfg.People.SignInVouched(ctx, who, from)
}

// exchange trades the code for the provider's word on who somebody is.
func (p *Provider) exchange(ctx context.Context, found *oidc.Provider, back, code, nonce, verifier string) (who account.Vouched, err error) {
	if code == "" {
		return who, errors.New("the OpenID provider sent no code")
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.oauth(found, back).Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return who, errors.New("the OpenID provider did not take the code") // its text may repeat secrets
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return who, errors.New("the OpenID provider sent no id token: is the scope openid allowed?")
	}
	id, err := found.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, Now: p.cfg.Now}).Verify(ctx, raw)
	if err != nil {
		return who, fmt.Errorf("the id token is not valid: %w", err)
	}
	if !same(id.Nonce, nonce) {
		return who, errors.New("the id token was made for another sign-in")
	}
	if id.Subject == "" {
		return who, errors.New("the id token has no subject")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return who, fmt.Errorf("claims of the id token: %w", err)
	}
	if _, told := claims[p.cfg.GroupsClaim]; !told && found.UserInfoEndpoint() != "" {
		p.addUserInfo(ctx, found, token, id.Subject, claims)
	}
	return account.Vouched{Key: p.cfg.Issuer + " " + id.Subject, Name: p.name(claims, id.Subject), Role: p.cfg.Groups.Role(words(claims[p.cfg.GroupsClaim])), How: "oidc"}, nil
}

// addUserInfo asks for what the id token does not say; that it fails is no reason
// to keep anybody out, who has the groups that are known then.
func (p *Provider) addUserInfo(ctx context.Context, found *oidc.Provider, token *oauth2.Token, subject string, claims map[string]any) {
	info, err := found.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil || info.Subject != subject {
		return
	}
	more := map[string]any{}
	if info.Claims(&more) != nil {
		return
	}
	for _, name := range []string{p.cfg.GroupsClaim, p.cfg.NameClaim, "email"} {
		if _, told := claims[name]; !told {
			claims[name] = more[name]
		}
	}
}

// name is what to call somebody.
func (p *Provider) name(claims map[string]any, subject string) string {
	for _, claim := range []string{p.cfg.NameClaim, "preferred_username", "email"} {
		if text, ok := claims[claim].(string); ok && text != "" {
			return text
		}
	}
	return subject
}

// words reads a claim that is a list of strings, or one string.
func words(claim any) (out []string) {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		for _, item := range v {
			if text, ok := item.(string); ok {
				out = append(out, text)
			}
		}
	}
	return out
}

// bounded keeps answers of the provider small.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// CloseIdleConnections is what http.Client looks for.
func (b bounded) CloseIdleConnections() {
	if c, ok := b.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
