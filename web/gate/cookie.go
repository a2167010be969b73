package gate

import (
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"agentnet/app/account"

	"github.com/gofiber/fiber/v2"
)

// Cookies of this server, by what they are for.
const (
	sessionCookie = "agentnet"
	formCookie    = "agentnet_form"   // ties a form to a browser that is not signed in
	deviceCookie  = "agentnet_device" // marks a browser that was in before
	freshCookie   = "agentnet_fresh"  // for some seconds after a sign-in
)

// Secure says that the browser reaches us over TLS, as far as that is known.
func (g *Gate) Secure(c *fiber.Ctx) bool {
	if g.cfg.TLS || strings.HasPrefix(g.cfg.PublicURL, "https://") {
		return true
	}
	return g.cfg.Trusted(c) && strings.EqualFold(strings.TrimSpace(c.Get(fiber.HeaderXForwardedProto)), "https")
}

// CookieName is the name under which a cookie is kept. Over TLS a browser takes it
// from nobody else: __Host- binds it to this host, __Secure- to TLS where a base
// path keeps it from neighbours, which __Host- would not allow.
func (g *Gate) CookieName(c *fiber.Ctx, name string) string {
	switch {
	case !g.Secure(c):
		return name
	case g.cfg.Base == "":
		return "__Host-" + name
	default:
		return "__Secure-" + name
	}
}

// setCookie sets a cookie for the time given; 0 is until the browser is closed,
// less removes it.
func (g *Gate) setCookie(c *fiber.Ctx, name, value string, life time.Duration) {
	path := g.cfg.Base // which is sent to the base path with and without a slash, and to no neighbour
	if path == "" {
		path = "/"
	}
	cookie := &fiber.Cookie{Name: g.CookieName(c, name), Value: value, Path: path, HTTPOnly: true, Secure: g.Secure(c), SameSite: fiber.CookieSameSiteLaxMode}
	if life > 0 {
		cookie.MaxAge = int(life / time.Second)
	} else if life < 0 {
		cookie.Expires = time.Unix(1, 0)
	}
	c.Cookie(cookie)
}

// Admit puts a ticket into the browser's cookies. What was there before, of
// whomever, is replaced: nobody can plant a session.
func (g *Gate) Admit(c *fiber.Ctx, t account.Ticket, lifetime time.Duration) {
	g.setCookie(c, sessionCookie, t.Session, lifetime)
	g.setCookie(c, freshCookie, "1", 10*time.Second)
	if t.Device != "" {
		g.setCookie(c, deviceCookie, t.Device, 400*24*time.Hour)
	}
}

// Forget removes the session from the browser.
func (g *Gate) Forget(c *fiber.Ctx) {
	g.setCookie(c, sessionCookie, "", -1)
	g.setCookie(c, freshCookie, "", -1)
}

// Secret is the session's secret that the browser sent, whatever its stage.
func (g *Gate) Secret(c *fiber.Ctx) string { return c.Cookies(g.CookieName(c, sessionCookie)) }

// Attempt says where the request comes from.
func (g *Gate) Attempt(c *fiber.Ctx) account.Attempt {
	addr := g.cfg.ClientAddr(c)
	key := addr
	if addr.Is6() { // who has one address of a /64 has all
		if p, err := addr.Prefix(64); err == nil {
			key = p.Masked().Addr()
		}
	}
	return account.Attempt{Address: addr.String(), Key: key.String(), Browser: browserName(c.Get(fiber.HeaderUserAgent)), Device: c.Cookies(g.CookieName(c, deviceCookie))}
}

// browserName is the part of User-Agent that a person recognises.
func browserName(agent string) string {
	browser, system := "", ""
	for _, b := range [][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}} {
		if strings.Contains(agent, b[0]) {
			browser = b[1]
			break
		}
	}
	for _, s := range [][2]string{{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}} {
		if strings.Contains(agent, s[0]) {
			system = s[1]
			break
		}
	}
	switch {
	case browser == "":
		return "another program"
	case system == "":
		return browser
	}
	return browser + " on " + system
}

// FormToken is the value of the hidden field "form" of every form. For a browser
// that is not signed in it sets the cookie that the token belongs to.
func (g *Gate) FormToken(c *fiber.Ctx) string {
	v := g.look(c)
	if v.in && v.secret != "" {
		return account.FormToken(v.secret)
	}
	name := g.CookieName(c, formCookie)
	secret := c.Cookies(name)
	if set, ok := c.Locals(formCookie).(string); ok {
		secret = set
	}
	if len(secret) != base64.RawURLEncoding.EncodedLen(32) {
		var b [32]byte
		rand.Read(b[:])
		secret = base64.RawURLEncoding.EncodeToString(b[:])
		c.Locals(formCookie, secret)
		g.setCookie(c, formCookie, secret, 0)
	}
	return account.FormToken(secret)
}

// FormHeader carries the form token where a script sends a change.
const FormHeader = "X-Agentnet-Form"

// FromUs says why a change was not sent by a page of ours, "" when it was.
func (g *Gate) FromUs(c *fiber.Ctx) string {
	if !g.SameOrigin(c) {
		return "This form was sent from another site. Open the page here and send it again."
	}
	v := g.look(c)
	secret := v.secret
	if !v.in {
		secret = c.Cookies(g.CookieName(c, formCookie))
	}
	if secret == "" {
		return "Your browser did not send our cookie back. Allow cookies for this server" + g.properAddress() + ", load the page again and send it once more."
	}
	token := c.Get(FormHeader)
	if token == "" {
		token = c.FormValue("form")
	}
	if !account.SameToken(token, account.FormToken(secret)) {
		return "This page was too old to be sent. Load it again and send it once more."
	}
	return ""
}

func (g *Gate) properAddress() string {
	if g.origin == "" {
		return ""
	}
	return ", and come by " + g.origin
}

// SameOrigin says that the browser, if it is one, sent the request from a page of
// this server.
func (g *Gate) SameOrigin(c *fiber.Ctx) bool {
	switch c.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
	default:
		return false
	}
	headers := c.Context().Request.Header.PeekAll(fiber.HeaderOrigin)
	if len(headers) == 0 {
		return true // no browser, or a very old one: the form token decides
	}
	if len(headers) > 1 {
		return false
	}
	u, err := url.Parse(string(headers[0]))
	if err != nil || u.Host == "" {
		return false
	}
	if g.origin != "" && originOf(u) == g.origin {
		return true
	}
	scheme := "http"
	if g.Secure(c) {
		scheme = "https"
	}
	own, err := url.Parse(scheme + "://" + string(c.Context().Request.Host()))
	return err == nil && own.Hostname() != "" && strings.EqualFold(own.Hostname(), u.Hostname()) && portOf(own) == portOf(u)
}

// originOf writes scheme, host and port in one form.
func originOf(u *url.URL) string {
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Hostname()) + ":" + portOf(u)
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// outsideCookie keeps what must be known again when a browser comes back from an
// OpenID provider.
const outsideCookie = "agentnet_outside"

// Remember keeps a text in the browser for the time given; less than 0 removes it.
func (g *Gate) Remember(c *fiber.Ctx, text string, life time.Duration) {
	g.setCookie(c, outsideCookie, base64.RawURLEncoding.EncodeToString([]byte(text)), life)
}

// Remembered is what Remember kept; "" for nothing.
func (g *Gate) Remembered(c *fiber.Ctx) string {
	text, err := base64.RawURLEncoding.DecodeString(c.Cookies(g.CookieName(c, outsideCookie)))
	if err != nil {
		return ""
	}
	return string(text)
}
