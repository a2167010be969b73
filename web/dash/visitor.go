package dash

// Role says what a visitor may do; each may do all that the ones before it may.
type Role uint8

// The roles.
const (
	Nobody   Role = iota // a stranger
	Viewer               // sees numbers and names
	Operator             // and acts: acknowledges, silences, disconnects, drains
	Admin                // and changes how the server works
)

// String is the word for a role.
func (r Role) String() string {
	return [...]string{"nobody", "viewer", "operator", "admin"}[min(r, Admin)]
}

// A Visitor is who looks at a page.
type Visitor struct {
	Name string // for the log of what was done
	Role Role
	// Account is the path of the page about the visitor's account; "" for none.
	Account string
	// Token must come back with every form, in the field "form".
	Token string
	// Still reports whether the visitor may go on watching a stream; it is asked with
	// everything that is sent, about once a second. Nil: always.
	Still func() bool
}
