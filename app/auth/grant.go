package auth

import (
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

// Roles of the HTTP API and the dashboard.
const (
	RoleViewer   = "viewer"   // sees figures
	RoleOperator = "operator" // and acts on alerts and scaling
	RoleAdmin    = "admin"    // and manages tokens and settings
)

const (
	maxGlobs = 64  // in one list of a grant
	maxName  = 128 // bytes of a token's name
)

// Grants say what a token allows, as globs of protocol rule 6. A list that is
// empty allows nothing.
type Grants struct {
	Agents    []string `json:"agents"`    // agents that it may act as
	Send      []string `json:"send"`      // agents that it may send to and ask
	Subscribe []string `json:"subscribe"` // channels that it may subscribe to and read
	Publish   []string `json:"publish"`   // channels that it may publish to
	Roles     []string `json:"roles"`     // viewer, operator, admin
}

// identity checks the grants and makes the identity that they describe. The
// error names the list and the glob that is wrong.
func (g Grants) identity() (*relay.Identity, error) {
	id := &relay.Identity{Roles: slices.Clone(g.Roles)}
	for _, l := range []struct {
		name  string
		texts []string
		into  *wire.Globs
	}{
		{"agents", g.Agents, &id.Agents}, {"send", g.Send, &id.Send},
		{"subscribe", g.Subscribe, &id.Subscribe}, {"publish", g.Publish, &id.Publish},
	} {
		if len(l.texts) > maxGlobs {
			return nil, fmt.Errorf("%s has %d globs, at most %d are allowed", l.name, len(l.texts), maxGlobs)
		}
		globs, err := wire.ParseGlobs(l.texts)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		}
		*l.into = globs
	}
	for _, r := range g.Roles {
		if r != RoleViewer && r != RoleOperator && r != RoleAdmin {
			return nil, fmt.Errorf("role %.64q is none of viewer, operator, admin", r)
		}
	}
	if len(g.Roles) > 3 {
		return nil, fmt.Errorf("%d roles were given, there are 3", len(g.Roles))
	}
	return id, nil
}

// A TokenSpec describes an opaque token that is to be made.
type TokenSpec struct {
	Name string // for people, up to 128 bytes; may be ""
	Grants
	Lifetime time.Duration // 0: it does not expire
}

// Check says what is wrong with the spec.
func (spec TokenSpec) Check() error {
	_, err := spec.row(time.Now())
	return err
}

// row checks the spec and makes the row that is stored for it.
func (spec TokenSpec) row(now time.Time) (Token, error) {
	if len(spec.Name) > maxName || !utf8.ValidString(spec.Name) || slices.ContainsFunc([]rune(spec.Name), unicode.IsControl) {
		return Token{}, fmt.Errorf("the name of a token must be at most %d bytes of printable text", maxName)
	}
	if spec.Lifetime < 0 || (spec.Lifetime > 0 && spec.Lifetime < time.Second) {
		return Token{}, fmt.Errorf("the token would expire at once: its lifetime is %v", spec.Lifetime)
	}
	if len(spec.Agents) == 0 && len(spec.Roles) == 0 {
		return Token{}, fmt.Errorf("the token would allow nothing: give it an agent or a role")
	}
	if _, err := spec.identity(); err != nil {
		return Token{}, err
	}
	t := Token{
		Name: spec.Name, Agents: spec.Agents, Send: spec.Send, Subscribe: spec.Subscribe,
		Publish: spec.Publish, Roles: spec.Roles, Created: now.UTC().Truncate(time.Millisecond),
	}
	if spec.Lifetime > 0 {
		t.Expires = t.Created.Add(spec.Lifetime)
	}
	return t, nil
}
