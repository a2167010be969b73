package dash

import (
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
)

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
func (r Role) String() string { return [...]string{"nobody", "viewer", "operator", "admin"}[min(r, Admin)] }

// A Visitor is who looks at a page.
type Visitor struct {
	Name string // for the log of what was done
	Role Role
	// Account is the path of the page about the visitor's account; "" for none.
	Account string
	// Token must come back with every form; "" when the origin alone is checked.
	Token string
	// Still reports whether the visitor may go on watching a stream. Nil: always.
	Still func() bool
}

// sameOrigin says that a browser sent the request from a page of this server.
// Requests that no browser sent have neither header.
func sameOrigin(c *fiber.Ctx) bool {
	switch c.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
	default:
		return false
	}
	headers := c.Context().Request.Header.PeekAll(fiber.HeaderOrigin)
	if len(headers) == 0 {
		return true
	}
	if len(headers) > 1 {
		return false
	}
	u, err := url.Parse(string(headers[0]))
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, string(c.Context().Request.Host()))
}
