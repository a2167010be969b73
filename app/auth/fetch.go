package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxDocument  = 1 << 20
	fetchTimeout = 10 * time.Second
	maxRedirects = 3
	// Bounds of how long an issuer may tell us to keep its keys, and what counts
	// when it says nothing.
	minKeep, usualKeep, maxKeep = time.Minute, time.Hour, 24 * time.Hour
)

// newClient returns a client for issuers: every step has a time limit, and it
// does not follow an issuer to another host. rt is nil except in tests.
func newClient(rt http.RoundTripper) *http.Client {
	if rt == nil {
		rt = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout:    5 * time.Second,
			ResponseHeaderTimeout:  5 * time.Second,
			IdleConnTimeout:        30 * time.Second,
			MaxIdleConns:           4,
			MaxConnsPerHost:        2,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	}
	return &http.Client{
		Transport: rt,
		Timeout:   fetchTimeout,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			if from := via[0].URL; req.URL.Host != from.Host || req.URL.Scheme != from.Scheme {
				return errors.New("a redirect to another host, which is not followed")
			}
			return nil
		},
	}
}

// checkURL accepts https anywhere, and http on this machine only.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%.200q is not a plain URL such as https://issuer.example/keys", raw)
	}
	if u.Scheme == "https" || (u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil
	}
	return fmt.Errorf("%.200q must begin with https:// (http:// is for 127.0.0.1 only): keys that travel in the open can be exchanged", raw)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// fetch reads a document of at most 1 MiB and how long it may be kept.
func fetch(ctx context.Context, client *http.Client, from string) (body []byte, keep time.Duration, err error) {
	if err := checkURL(from); err != nil {
		return nil, 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "agentnet")
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("GET %s: status %d, not 200", from, resp.StatusCode)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, 0, fmt.Errorf("GET %s: %w", from, err)
	}
	if len(body) > maxDocument {
		return nil, 0, fmt.Errorf("GET %s: the answer is larger than %d bytes", from, maxDocument)
	}
	return body, keepFor(resp.Header), nil
}

// keepFor reads Cache-Control: max-age less Age, within bounds.
func keepFor(h http.Header) time.Duration {
	keep := usualKeep
	for part := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if s, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
			age, _ := strconv.ParseUint(h.Get("Age"), 10, 31)
			keep = (time.Duration(s) - time.Duration(age)) * time.Second
		}
	}
	return min(max(keep, minKeep), maxKeep)
}

// discover asks an OpenID issuer where its keys are.
func discover(ctx context.Context, client *http.Client, issuer string) (jwksURL string, err error) {
	body, _, err := fetch(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", errors.New("the OpenID configuration is not JSON")
	}
	if doc.Issuer != issuer {
		return "", fmt.Errorf("the OpenID configuration is of issuer %.200q, not %q", doc.Issuer, issuer)
	}
	if err := checkURL(doc.JWKSURI); err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	return doc.JWKSURI, nil
}
