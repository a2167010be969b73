package login

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/web/gate"

	"github.com/gofiber/fiber/v2"
	"rsc.io/qr"
)

// ownView is the page about one's own account.
type ownView struct {
	visitor  account.Visitor
	account  account.Account
	sessions []account.Session
	left     int      // recovery codes
	secret   string   // proposed second factor
	modules  string   // of its QR code, as the path of an SVG
	size     int      // of the QR code, in modules
	recovery []string // shown once
	done     string   // what was just done
	faults   map[string]string
}

func (p *Pages) own(c *fiber.Ctx) error {
	v, err := p.ownView(c)
	if err != nil {
		return err
	}
	return p.show(c, fiber.StatusOK, ownPage(p.frame(c, "Your account"), v))
}

func (p *Pages) ownView(c *fiber.Ctx) (v ownView, err error) {
	ctx := c.UserContext()
	v.visitor, _, _ = p.cfg.Gate.Visitor(c)
	if v.account, err = p.cfg.Accounts.Account(ctx, v.visitor.Name); err != nil {
		return v, err
	}
	if v.sessions, err = p.cfg.Accounts.Sessions(ctx, account.SessionFilter{Account: v.visitor.Name}); err != nil {
		return v, err
	}
	v.faults = map[string]string{}
	if v.account.Second != "" {
		v.left, err = p.cfg.Accounts.RecoveryLeft(ctx, v.visitor.Name)
		return v, err
	}
	return v, v.propose(p, p.cfg.Accounts.NewSecond())
}

// propose draws the QR code of a second factor.
func (v *ownView) propose(p *Pages, secret string) error {
	issuer := "Agentnet " + p.cfg.Node
	code, err := qr.Encode(account.SecondURL(issuer, v.visitor.Name, secret), qr.M)
	if err != nil {
		return fmt.Errorf("draw the qr code of a second factor: %w", err)
	}
	v.secret, v.size, v.modules = secret, code.Size, modules(code)
	return nil
}

// modules draws the dark modules row by row, as few strokes as there are runs.
func modules(code *qr.Code) string {
	var path strings.Builder
	for y := range code.Size {
		for x := 0; x < code.Size; {
			run := 0
			for x+run < code.Size && code.Black(x+run, y) {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", x, y, run, run)
			}
			x += max(run, 1)
		}
	}
	return path.String()
}

// again shows the page with what was wrong at one of its forms.
func (p *Pages) again(c *fiber.Ctx, form string, err error) error {
	status, text := explain(err)
	if text == "" {
		return err
	}
	p.retryAfter(c, err)
	gate.NoteFailed(c, account.Refused, text)
	v, err := p.ownView(c)
	if err != nil {
		return err
	}
	v.faults[form] = text
	if secret := c.FormValue("secret"); form == "second" && secret != "" {
		if err := v.propose(p, secret); err != nil {
			return err
		}
	}
	return p.show(c, status, ownPage(p.frame(c, "Your account"), v))
}

// shown shows the page with what was just done.
func (p *Pages) shown(c *fiber.Ctx, done string, recovery []string) error {
	v, err := p.ownView(c)
	if err != nil {
		return err
	}
	v.done, v.recovery = done, recovery
	return p.show(c, fiber.StatusOK, ownPage(p.frame(c, "Your account"), v))
}

func (p *Pages) changePassword(c *fiber.Ctx) error {
	fresh := c.FormValue("password")
	if fresh != c.FormValue("again") {
		return p.again(c, "password", &account.Invalid{Field: "again", Text: "the two new passwords are not the same"})
	}
	if err := p.cfg.Accounts.ChangePassword(c.UserContext(), p.cfg.Gate.Secret(c), c.FormValue("old"), fresh, p.cfg.Gate.Attempt(c)); err != nil {
		return p.again(c, "password", err)
	}
	return p.shown(c, "Your password is changed. All your other sessions were signed out.", nil)
}

func (p *Pages) confirmSecond(c *fiber.Ctx) error {
	v, _, _ := p.cfg.Gate.Visitor(c)
	gate.Note(c, v.Name, "")
	recovery, err := p.cfg.Accounts.ConfirmSecond(c.UserContext(), v.Name, c.FormValue("secret"), c.FormValue("code"))
	if err != nil {
		return p.again(c, "second", err)
	}
	return p.shown(c, "The second factor is on. Keep these codes where you find them without your phone: each lets you in once.", recovery)
}

func (p *Pages) dropSecond(c *fiber.Ctx) error {
	v, _, _ := p.cfg.Gate.Visitor(c)
	gate.Note(c, v.Name, "")
	if err := p.cfg.Accounts.DropSecond(c.UserContext(), v.Name, c.FormValue("password")); err != nil {
		return p.again(c, "drop", err)
	}
	return p.shown(c, "The second factor is off.", nil)
}

// endSessions ends one of one's own sessions, or all but this one.
func (p *Pages) endSessions(c *fiber.Ctx) error {
	v, _, _ := p.cfg.Gate.Visitor(c)
	id := c.FormValue("session")
	own, err := p.cfg.Accounts.Sessions(c.UserContext(), account.SessionFilter{Account: v.Name})
	if err != nil {
		return err
	}
	ended := 0
	for _, s := range own {
		if s.ID == v.Session || id != "" && s.ID != id {
			continue
		}
		n, err := p.cfg.Accounts.EndSessions(c.UserContext(), account.SessionFilter{ID: s.ID, Account: v.Name})
		if err != nil {
			return err
		}
		ended += n
	}
	gate.Note(c, v.Name, fmt.Sprintf("%d of the own sessions", ended))
	if ended == 0 {
		gate.NoteFailed(c, account.Refused, "no such session")
		return p.shown(c, "There was no such session any more.", nil)
	}
	return p.shown(c, fmt.Sprintf("Signed out: %d.", ended), nil)
}

// outsideTime is how long somebody may take at the OpenID provider.
const outsideTime = 10 * time.Minute

func (p *Pages) back(c *fiber.Ctx) string {
	if p.cfg.PublicURL != "" {
		return strings.TrimSuffix(p.cfg.PublicURL, "/") + "/login/outside/back"
	}
	scheme := "http://"
	if p.cfg.Gate.Secure(c) {
		scheme = "https://"
	}
	return scheme + string(c.Context().Request.Host()) + p.cfg.Base + "/login/outside/back"
}

// beginOutside is a link and no form: the content policy lets forms end nowhere but
// here, also after a redirect.
func (p *Pages) beginOutside(c *fiber.Ctx) error {
	to, remember, err := p.cfg.Outside.Begin(c.UserContext(), p.back(c))
	if err != nil {
		p.cfg.Logger.Warn("sign-in by an OpenID provider could not begin", "error", err)
		return p.showForm(c, fiber.StatusServiceUnavailable, loginView{fault: p.cfg.Outside.Name() + " cannot be reached at this moment. Try again, or use your password."})
	}
	p.cfg.Gate.Remember(c, remember+" "+p.cfg.Gate.SafeNext(c.Query("next")), outsideTime)
	return c.Redirect(to, fiber.StatusSeeOther)
}

func (p *Pages) finishOutside(c *fiber.Ctx) error {
	remember, next, _ := strings.Cut(p.cfg.Gate.Remembered(c), " ")
	p.cfg.Gate.Remember(c, "", -1)
	t, err := p.cfg.Outside.Finish(c.UserContext(), p.back(c), remember, func(name string) string { return c.Query(name) }, p.cfg.Gate.Attempt(c))
	if err != nil {
		text := "That did not work. Begin again."
		if e, ok := errors.AsType[*account.Invalid](err); ok {
			text = sentence(e.Text)
		} else {
			p.cfg.Logger.Warn("sign-in by an OpenID provider failed", "error", err)
		}
		return p.showForm(c, fiber.StatusUnauthorized, loginView{fault: text})
	}
	return p.admit(c, t, p.cfg.Gate.SafeNext(next))
}
