package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"agentnet/app/relay"
)

// maxJWT bounds the bytes of a JSON Web Token.
const maxJWT = 8 << 10

// jwts answers for JSON Web Tokens.
type jwts struct {
	issuers  map[string]*issuer // by iss
	nameless *issuer            // takes what no other takes; may be nil
	parser   *jwt.Parser
	cache    *lru
	now      func() time.Time
	count    *counters
	// slots bounds the signatures that are checked at one time to half of the
	// processors: whoever sends tokens in masses shall not stop the messages.
	slots chan struct{}
}

func newJWTs(cfg Config, count *counters) (*jwts, error) {
	j := &jwts{
		issuers: map[string]*issuer{}, cache: newLRU(cfg.MaxJWTs), now: cfg.Now, count: count,
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		// Algorithm, signature and claims are checked in verify, by the issuer's keys and rules.
		parser: jwt.NewParser(jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()),
	}
	for _, c := range cfg.Issuers {
		is, err := newIssuer(c, cfg, count)
		if err != nil {
			return nil, err
		}
		switch {
		case c.Issuer == "" && j.nameless != nil:
			return nil, errors.New("two issuers without a name: give them the iss of their tokens")
		case c.Issuer == "":
			j.nameless = is
		case j.issuers[c.Issuer] != nil:
			return nil, errors.New("issuer " + c.Issuer + " is given twice")
		default:
			j.issuers[c.Issuer] = is
		}
	}
	return j, nil
}

// remotes returns the issuers whose keys are fetched.
func (j *jwts) remotes() (list []*remoteKeys) {
	for _, is := range j.issuers {
		if is.remote != nil {
			list = append(list, is.remote)
		}
	}
	return list
}

func (j *jwts) cached(token []byte) (*relay.Identity, bool) {
	if len(token) > maxJWT {
		return nil, false
	}
	return j.cache.get(sha256.Sum256(token), j.now())
}

func (j *jwts) authorize(ctx context.Context, token string) (*relay.Identity, error) {
	if len(token) > maxJWT {
		return nil, j.count.refuse(reasonTooLarge)
	}
	hash := sha256.Sum256([]byte(token))
	if id, ok := j.cache.get(hash, j.now()); ok {
		return id, nil
	}
	id, by, why := j.verify(ctx, token)
	if id == nil {
		return nil, j.count.refuse(why)
	}
	j.cache.put(hash, id, by)
	return id, nil
}

// verify checks the signature with a key of the issuer that the token names,
// then its claims. Errors of the library hold pieces of the token; they end here.
func (j *jwts) verify(ctx context.Context, token string) (*relay.Identity, *key, reason) {
	if !jwtShape(token) {
		return nil, nil, reasonMalformed
	}
	claims := jwt.MapClaims{}
	parsed, _, err := j.parser.ParseUnverified(token, claims)
	if err != nil {
		return nil, nil, reasonMalformed
	}
	kid, ok := plainHeader(parsed.Header)
	if !ok {
		return nil, nil, reasonMalformed
	}
	from := j.issuerOf(claims)
	if from == nil {
		return nil, nil, reasonIssuer
	}
	candidates, err := from.find(ctx, kid, parsed.Method.Alg())
	if errors.Is(err, errCannotTell) {
		return nil, nil, reasonUnavailable
	}
	if err != nil {
		return nil, nil, reasonKey
	}
	select {
	case j.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, reasonUnavailable
	}
	by := signer(token, parsed, candidates)
	<-j.slots
	if by == nil {
		return nil, nil, reasonSignature
	}
	if why, ok := from.check(claims); !ok {
		return nil, nil, why
	}
	id, err := from.identity(claims, j.now())
	if err != nil {
		return nil, nil, reasonClaims
	}
	id.Token = jwtName(token)
	return id, by, 0
}

// jwtShape reports whether token is three parts of base64url. The decoder of the
// standard library passes over line ends, which would give a token many forms.
func jwtShape(token string) bool {
	dots := 0
	for i := range len(token) {
		switch c := token[i]; {
		case c == '.':
			dots++
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '-', c == '_':
		default:
			return false
		}
	}
	return dots == 2
}

// plainHeader returns the name of the key, "" for none. It refuses headers that
// ask for what is not understood here, and tokens made for another purpose. Keys
// and addresses in the header (jwk, jku, x5c, x5u) are not looked at: RFC 8725.
func plainHeader(header map[string]any) (kid string, ok bool) {
	if _, critical := header["crit"]; critical {
		return "", false
	}
	if v, given := header["kid"]; given {
		if kid, ok = v.(string); !ok || len(kid) > maxKid {
			return "", false
		}
	}
	if v, given := header["typ"]; given {
		typ, _ := v.(string)
		typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
		return kid, typ == "jwt" || typ == "at+jwt"
	}
	return kid, true
}

// issuerOf finds the issuer that the token names. The claims are not verified
// yet: they only choose whose keys they have to stand up to.
func (j *jwts) issuerOf(claims jwt.MapClaims) *issuer {
	iss, err := claims.GetIssuer()
	if err != nil {
		return nil
	}
	if is := j.issuers[iss]; is != nil {
		return is
	}
	return j.nameless
}

// signer returns the key that signed the token, nil for none of them. The token's
// algorithm is that of each candidate.
func signer(token string, parsed *jwt.Token, candidates []*key) *key {
	signed := token[:strings.LastIndexByte(token, '.')]
	for _, k := range candidates {
		if k.alg == parsed.Method.Alg() && parsed.Method.Verify(signed, parsed.Signature, k.with) == nil {
			return k
		}
	}
	return nil
}

// jwtName is the public name of a JWT. It is made of the part that is signed,
// because one token can have several valid signatures.
func jwtName(token string) string {
	sum := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	return "jwt:" + hex.EncodeToString(sum[:8])
}
