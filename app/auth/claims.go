package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"agentnet/app/relay"
)

// maxSubject bounds a subject's name so that "/**" and more fit behind it.
const maxSubject = 100

// farthest is how far in the future an expiry may be. Beyond it, times cannot be
// written as RFC 3339 any more.
const farthest = 100 * 365 * 24 * time.Hour

// subjectName makes one part of an agent or channel name of a subject. Letters,
// digits and . _ - : @ stay; any other byte becomes ":" and two upper-case hex
// digits, and so does a ":" that stands before two such digits. Two subjects
// never get one name, and no subject becomes a glob or two parts.
func subjectName(sub string) (string, error) {
	if sub == "" {
		return "", errors.New("the token has no subject")
	}
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(sub))
	for i := 0; i < len(sub) && len(out) <= maxSubject; i++ {
		c := sub[i]
		keep := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '.' || c == '_' || c == '-' || c == '@' ||
			c == ':' && !(i+2 < len(sub) && upperHex(sub[i+1]) && upperHex(sub[i+2]))
		if keep {
			out = append(out, c)
		} else {
			out = append(out, ':', hex[c>>4], hex[c&15])
		}
	}
	if len(out) > maxSubject {
		return "", fmt.Errorf("the subject makes a name of more than %d bytes", maxSubject)
	}
	return string(out), nil
}

func upperHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }

// identity makes an identity of the claims of a verified token. When the token
// has the grants claim, it allows exactly what that says; else the template holds.
func (is *issuer) identity(claims jwt.MapClaims, now time.Time) (*relay.Identity, error) {
	sub, err := claims.GetSubject()
	if err != nil {
		return nil, errors.New("the subject is no string")
	}
	var grants Grants
	if claim, ok := claims[is.claim]; ok && claim != nil {
		grants, err = claimedGrants(claim)
	} else {
		grants, err = is.template.forSubject(sub)
	}
	if err != nil {
		return nil, err
	}
	id, err := grants.identity()
	if err != nil {
		return nil, err
	}
	if len(id.Agents) == 0 && len(id.Roles) == 0 {
		return nil, errors.New("the token allows nothing")
	}
	exp, err := claims.GetExpirationTime()
	if err != nil || exp == nil {
		return nil, errors.New("the token has no expiry")
	}
	id.Expires = exp.Add(is.leeway)
	if id.Expires.Sub(now) > farthest {
		return nil, errors.New("the token expires too far in the future")
	}
	id.Subject, _ = subjectName(sub) // "" when it is too long: it is for lists only
	return id, nil
}

// claimedGrants reads {agents, send, subscribe, publish, roles}; each is a list
// of strings, or one string. Other fields are passed over.
func claimedGrants(claim any) (g Grants, err error) {
	fields, ok := claim.(map[string]any)
	if !ok {
		return g, errors.New("the grants claim is no object")
	}
	for _, f := range []struct {
		name string
		into *[]string
	}{{"agents", &g.Agents}, {"send", &g.Send}, {"subscribe", &g.Subscribe}, {"publish", &g.Publish}, {"roles", &g.Roles}} {
		if *f.into, err = stringList(fields[f.name]); err != nil {
			return g, fmt.Errorf("%s of the grants claim %w", f.name, err)
		}
	}
	return g, nil
}

func stringList(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, errors.New("holds something that is no string")
			}
			list[i] = s
		}
		return list, nil
	default:
		return nil, errors.New("is neither a list nor a string")
	}
}
