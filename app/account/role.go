package account

import "fmt"

// A Role says what a person may do. Each role may do all that the ones before it
// may.
type Role string

// The roles, the least one first. They are the words of tokens too.
const (
	Nobody   Role = ""         // signed out
	Viewer   Role = "viewer"   // sees figures, settings without secrets, names of agents
	Operator Role = "operator" // and acts: silences, scaling, drains, disconnects
	Admin    Role = "admin"    // and manages tokens, accounts and sessions, and reads the audit log
)

// Roles are those that an account can have.
func Roles() []Role { return []Role{Viewer, Operator, Admin} }

func (r Role) rank() int {
	switch r {
	case Viewer:
		return 1
	case Operator:
		return 2
	case Admin:
		return 3
	}
	return 0
}

// Allows says that r may do what need may. Nobody allows nothing but Nobody.
func (r Role) Allows(need Role) bool { return r.rank() >= need.rank() }

// ParseRole reads one of the words viewer, operator and admin.
func ParseRole(text string) (Role, error) {
	if r := Role(text); r.rank() > 0 {
		return r, nil
	}
	return Nobody, fmt.Errorf("role %.64q is none of viewer, operator, admin", text)
}

// Highest is the role among the words that may do most; words that are no role
// are passed over.
func Highest(words []string) Role {
	best := Nobody
	for _, w := range words {
		if r := Role(w); r.rank() > best.rank() {
			best = r
		}
	}
	return best
}
