package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	usualLeeway = 30 * time.Second
	maxLeeway   = time.Minute
	usualClaim  = "agentnet"
	lastSecond  = 253402300799 // of the year 9999
)

// An Issuer is somebody whose JWTs are taken. Keys come from exactly one place:
// Secret, PublicKeys, JWKSURL, or, when only Issuer is given, from its OpenID
// configuration. Firebase is Issuer "https://securetoken.google.com/PROJECT" and
// Audience "PROJECT".
type Issuer struct {
	// Issuer is what the iss claim must be. It may be "" when Secret or PublicKeys
	// is given; then iss is not looked at, and no other issuer may be without name.
	Issuer string
	// Audience lists what the aud claim may be; one of them must be in it. It is
	// needed where keys are fetched, because such issuers sign for many parties.
	Audience []string
	// Secret is the HS256 key, at least 32 bytes.
	Secret []byte
	// PublicKeys holds PEM blocks of up to 8 public keys or certificates.
	PublicKeys []byte
	// JWKSURL is where the issuer publishes its keys: https, or http on 127.0.0.1.
	JWKSURL string
	// Leeway is how far its clock may be off, at most 1 minute; 0 is 30 s.
	Leeway time.Duration
	// Claim is the name of the claim with the grants; "" is "agentnet".
	Claim string
	// Template is what a token without that claim may do; {sub} stands for its
	// subject. nil is DefaultTemplate.
	Template *Grants
}

// DefaultTemplate lets a subject act as the agent of its name and as those that
// it owns, write to everybody, and use the channels below its name.
func DefaultTemplate() Grants {
	own := []string{"{sub}", "{sub}/**"}
	return Grants{Agents: own, Send: []string{"**"}, Subscribe: slices.Clone(own), Publish: slices.Clone(own)}
}

// issuer is an Issuer ready for use.
type issuer struct {
	name      string
	leeway    time.Duration
	claim     string
	template  Grants
	static    []*key
	remote    *remoteKeys // nil: the keys are in static
	validator *jwt.Validator
}

func newIssuer(c Issuer, cfg Config, count *counters) (*issuer, error) {
	is := &issuer{name: c.Issuer, leeway: c.Leeway, claim: c.Claim, template: DefaultTemplate()}
	if is.leeway == 0 {
		is.leeway = usualLeeway
	}
	if is.leeway < 0 || is.leeway > maxLeeway {
		return nil, fmt.Errorf("leeway is %v, it must be 0 to %v", c.Leeway, maxLeeway)
	}
	if is.claim == "" {
		is.claim = usualClaim
	}
	if c.Template != nil {
		is.template = *c.Template
	}
	if _, err := is.template.forSubject("subject"); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if err := is.setKeys(c, cfg, count); err != nil {
		return nil, err
	}
	options := []jwt.ParserOption{jwt.WithLeeway(is.leeway), jwt.WithExpirationRequired(), jwt.WithTimeFunc(cfg.Now)}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if len(c.Audience) > 0 {
		options = append(options, jwt.WithAudience(c.Audience...))
	}
	is.validator = jwt.NewValidator(options...)
	return is, nil
}

// setKeys takes the keys that are configured, or makes ready to fetch them.
func (is *issuer) setKeys(c Issuer, cfg Config, count *counters) (err error) {
	given := 0
	for _, is := range []bool{len(c.Secret) > 0, len(c.PublicKeys) > 0, c.JWKSURL != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return errors.New("give one of secret, public keys and JWKS URL: a key of one kind must never be taken for another")
	case len(c.Secret) > 0:
		if len(c.Secret) < minSecret {
			return fmt.Errorf("the HS256 secret has %d bytes, it needs at least %d: openssl rand -base64 48", len(c.Secret), minSecret)
		}
		is.static = []*key{{alg: HS256, with: slices.Clone(c.Secret)}}
		return nil
	case len(c.PublicKeys) > 0:
		is.static, err = pemKeys(c.PublicKeys)
		return err
	case c.Issuer == "":
		return errors.New("an issuer, a secret, public keys or a JWKS URL is needed")
	case len(c.Audience) == 0 || slices.Contains(c.Audience, ""):
		return fmt.Errorf("issuer %q needs an audience: else its tokens for other services would be valid here", c.Issuer)
	}
	source := c.JWKSURL
	if source == "" {
		source = c.Issuer
	}
	if err := checkURL(source); err != nil {
		return err
	}
	is.remote = &remoteKeys{
		name: c.Issuer, issuer: c.Issuer, url: c.JWKSURL, client: newClient(cfg.Transport),
		now: cfg.Now, log: cfg.Logger, count: count, changed: make(chan struct{}, 1),
	}
	return nil
}

func (is *issuer) find(ctx context.Context, kid, alg string) ([]*key, error) {
	if is.remote != nil {
		return is.remote.find(ctx, kid, alg)
	}
	if found := pick(is.static, kid, alg); len(found) > 0 {
		return found, nil
	}
	return nil, errNoKey
}

// check judges what a verified token says of itself.
func (is *issuer) check(claims jwt.MapClaims) (reason, bool) {
	for _, name := range []string{"exp", "nbf"} {
		// Out of this range the library's conversion depends on the processor.
		if v, ok := claims[name].(float64); ok && (v < 0 || v > lastSecond) {
			return reasonClaims, false
		}
	}
	err := is.validator.Validate(claims)
	switch {
	case err == nil:
		return 0, true
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenInvalidAudience) &&
		!errors.Is(err, jwt.ErrTokenInvalidIssuer) && !errors.Is(err, jwt.ErrTokenNotValidYet):
		return reasonExpired, false
	default:
		return reasonClaims, false
	}
}

// forSubject puts the subject in. The error names the glob that is wrong then.
func (g Grants) forSubject(sub string) (Grants, error) {
	name, err := subjectName(sub)
	needsName := false
	put := func(list []string) []string {
		out := make([]string, len(list))
		for i, text := range list {
			needsName = needsName || strings.Contains(text, "{sub}")
			out[i] = strings.ReplaceAll(text, "{sub}", name)
		}
		return out
	}
	g = Grants{Agents: put(g.Agents), Send: put(g.Send), Subscribe: put(g.Subscribe), Publish: put(g.Publish), Roles: g.Roles}
	if needsName && err != nil {
		return Grants{}, err
	}
	_, err = g.identity()
	return g, err
}
