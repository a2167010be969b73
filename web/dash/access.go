package dash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/web/gate"
	"agentnet/web/ui"
)

// Access keeps what the pages Access and Audit show and change. *account.Desk is one.
type Access interface {
	account.TokenKeeper
	account.AuditLog
	Create(ctx context.Context, spec account.Spec) (account.Account, error)
	Account(ctx context.Context, name string) (account.Account, error)
	Accounts(ctx context.Context, after string, limit int) ([]account.Account, error)
	SetRole(ctx context.Context, name string, role account.Role) (before account.Role, err error)
	SetDisabled(ctx context.Context, name string, disabled bool) error
	Delete(ctx context.Context, name string) error
	ResetLink(ctx context.Context, name string) (secret string, err error)
	Sessions(ctx context.Context, f account.SessionFilter) ([]account.Session, error)
	EndSessions(ctx context.Context, f account.SessionFilter) (int, error)
}

// accessTime bounds what a page about access asks of the database.
const accessTime = 10 * time.Second

// accessPages are the pages for admins, by path.
func (b *Board) accessPages() map[string]func(*request) (*view, error) {
	if b.cfg.Sources.Access == nil {
		return nil
	}
	return map[string]func(*request) (*view, error){"/access": b.tokens, "/access/accounts": b.accounts, "/access/sessions": b.sessions, "/audit": b.audit}
}

// accessTables are their rows for machines.
func (b *Board) accessTables() map[string]func(*request) (*table, error) {
	if b.cfg.Sources.Access == nil {
		return nil
	}
	return map[string]func(*request) (*table, error){"/access": b.tokenTable, "/access/accounts": b.accountTable, "/access/sessions": b.sessionTable, "/audit": b.auditTable}
}

func (b *Board) addAccessActs(add func(method, path string, need Role, action string, handle func(*request) error)) {
	if b.cfg.Sources.Access == nil {
		return
	}
	add("POST", "/access/tokens", Admin, "token.create", b.createToken)
	add("POST", "/access/tokens/revoke", Admin, "token.revoke", b.revokeToken)
	add("POST", "/access/accounts", Admin, "account.create", b.createAccount)
	add("POST", "/access/accounts/role", Admin, "account.role", b.setRole)
	add("POST", "/access/accounts/disable", Admin, "account.disable", b.disable(true))
	add("POST", "/access/accounts/enable", Admin, "account.enable", b.disable(false))
	add("POST", "/access/accounts/reset", Admin, "account.reset", b.resetAccount)
	add("POST", "/access/accounts/delete", Admin, "account.delete", b.deleteAccount)
	add("POST", "/access/sessions/end", Admin, "session.end", b.endSession)
}

// need is the role that a page asks for.
func (b *Board) need(path string) Role {
	switch {
	case path == "/":
		return Nobody
	case b.accessPages()[path] != nil:
		return Admin
	case path == "/agents/trace":
		return Operator
	case path == "/doctor":
		return Admin
	}
	return Viewer
}

func (r *request) bounded() (context.Context, context.CancelFunc) {
	if r.c == nil { // a table that was asked for without a page
		return context.WithTimeout(context.Background(), accessTime)
	}
	return context.WithTimeout(r.c.UserContext(), accessTime)
}

// mistake is what a person is told of an error, "" when it is none of theirs.
func mistake(err error) string {
	if e, ok := errors.AsType[*account.Invalid](err); ok {
		return e.Text
	}
	for _, known := range []error{account.ErrNotFound, account.ErrExists, account.ErrLastAdmin, account.ErrBusy} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return ""
}

// done goes back to a page and tells what came of a change. An error that is not
// the person's goes to the server's error handler, which logs it.
func (r *request) done(path, what string, err error) error {
	if err == nil {
		return r.report(path, what, nil)
	}
	text := mistake(err)
	if text == "" {
		return err
	}
	return r.report(path, "", errors.New(text))
}

// accessView is what the pages about access share.
type accessView struct {
	r     *request
	tab   string
	lead  string
	fault string // why a form was not taken
	// secret is shown this once: a token or a link.
	secret, secretFor string
	before, next      string
	match, state      string
}

func (v *accessView) tabs() []ui.Choice {
	return []ui.Choice{
		{Path: v.r.base + "/access", Name: "Tokens", Current: v.tab == "tokens"},
		{Path: v.r.base + "/access/accounts", Name: "Accounts", Current: v.tab == "accounts"},
		{Path: v.r.base + "/access/sessions", Name: "Sessions", Current: v.tab == "sessions"},
	}
}

// tokensView is the page of tokens.
type tokensView struct {
	accessView
	rows  []account.Token
	wrote account.TokenSpec // what stood in the form
}

const tokensOnPage = 50

func (b *Board) tokens(r *request) (*view, error) {
	if ending := wants(r.c); ending != "" {
		t, err := b.tokenTable(r)
		if err != nil {
			return nil, err
		}
		return nil, t.send(&b.pack, r.c, "access", ending)
	}
	v, err := b.tokensView(r)
	if err != nil {
		return nil, err
	}
	return &view{title: "Access", body: tokensPage(v), plain: true}, nil
}

func (b *Board) tokensView(r *request) (*tokensView, error) {
	v := &tokensView{accessView: accessView{r: r, tab: "tokens", match: r.query.Get("q"), state: r.query.Get("state")}}
	if v.state == "" {
		v.state = "active"
	}
	found, err := b.findTokens(r, v.match, v.state, tokensOnPage)
	if err != nil {
		return nil, err
	}
	v.rows = found
	if r.query.Get("after") != "" {
		v.before = r.with("after", "")
	}
	if len(found) == tokensOnPage {
		v.next = r.with("after", found[len(found)-1].ID)
	}
	v.lead = tokenLead(found, v.state, r.now, len(found) == tokensOnPage)
	return v, nil
}

func (b *Board) findTokens(r *request, match, state string, limit int) ([]account.Token, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	if state == "all" || state != "active" && state != "expired" && state != "revoked" {
		state = ""
	}
	found, err := b.cfg.Sources.Access.Tokens(ctx, account.TokenFilter{State: state, Match: match, After: r.query.Get("after"), Limit: limit})
	if errors.Is(err, account.ErrNotFound) { // the page before ended with one that is gone
		found, err = b.cfg.Sources.Access.Tokens(ctx, account.TokenFilter{State: state, Match: match, Limit: limit})
	}
	return found, err
}

// tokenLead is the sentence above the list.
func tokenLead(rows []account.Token, state string, now time.Time, more bool) string {
	if state != "active" {
		return "What agents and programs come in with."
	}
	soon, unused := 0, 0
	for i := range rows {
		if !rows[i].Expires.IsZero() && rows[i].Expires.Sub(now) < 7*24*time.Hour {
			soon++
		}
		if rows[i].Used.IsZero() && now.Sub(rows[i].Created) > 30*24*time.Hour || !rows[i].Used.IsZero() && now.Sub(rows[i].Used) > 30*24*time.Hour {
			unused++
		}
	}
	words := ui.Plural(len(rows), "token is", "tokens are") + " active"
	if more {
		words = "More than " + ui.Count(len(rows)) + " tokens are active"
	}
	if soon > 0 {
		words += "; " + ui.Plural(soon, "ends", "end") + " within 7 days"
	}
	if unused > 0 {
		words += "; " + ui.Plural(unused, "was", "were") + " not used for 30 days"
	}
	return words + "."
}

func (b *Board) tokenTable(r *request) (*table, error) {
	found, err := b.findTokens(r, r.query.Get("q"), r.query.Get("state"), 1000)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"id", "name", "state", "agents", "send", "subscribe", "publish", "roles", "created", "expires", "revoked", "last_used"}}
	for i := range found {
		k := &found[i]
		t.add(k.ID, k.Name, k.State, k.Agents, k.Send, k.Subscribe, k.Publish, k.Roles, k.Created, k.Expires, k.Revoked, k.Used)
	}
	return t, nil
}

// lifetimes are what the form offers, in hours; 0 is until it is revoked.
var lifetimes = []struct {
	hours int
	name  string
}{{0, "until it is revoked"}, {12, "12 hours"}, {7 * 24, "7 days"}, {30 * 24, "30 days"}, {90 * 24, "90 days"}, {365 * 24, "a year"}}

// lines reads globs as people write them: with spaces, commas or line ends between.
func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' || r == '\r' || r == '\t' })
}

func (b *Board) createToken(r *request) error {
	agents := lines(r.c.FormValue("agents"))
	all := func(name string) []string {
		if globs := lines(r.c.FormValue(name)); len(globs) > 0 || len(agents) == 0 {
			return globs
		}
		return []string{"**"}
	}
	spec := account.TokenSpec{Name: strings.TrimSpace(r.c.FormValue("name")), Agents: agents, Send: all("send"), Subscribe: all("subscribe"), Publish: all("publish"),
		Lifetime: time.Duration(atoi(r.c.FormValue("hours"), 0, 100*366*24)) * time.Hour}
	if role := r.c.FormValue("role"); role != "" {
		spec.Roles = []string{role}
	}
	b.note(r.c, spec.Name, "")
	ctx, cancel := r.bounded()
	defer cancel()
	token, id, err := b.cfg.Sources.Access.CreateToken(ctx, spec)
	text := ""
	if err != nil {
		if text = mistake(err); text == "" {
			return err
		}
		gate.NoteFailed(r.c, account.Refused, text)
		r.c.Status(http.StatusUnprocessableEntity)
	} else {
		b.note(r.c, id, spec.Words())
	}
	r.path = "/access"
	v, err := b.tokensView(r)
	if err != nil {
		return err
	}
	v.fault, v.secret, v.secretFor = text, token, "The token "+id
	if text != "" {
		v.wrote = spec
	}
	return b.draw(r, &view{title: "Access", body: tokensPage(v), plain: true})
}

func (b *Board) revokeToken(r *request) error {
	id := r.c.FormValue("token")
	b.note(r.c, id, "")
	ctx, cancel := r.bounded()
	defer cancel()
	t, err := b.cfg.Sources.Access.RevokeToken(ctx, id)
	if err == nil {
		b.note(r.c, id, t.Name)
	}
	return r.done("/access", fmt.Sprintf("The token %s is revoked and its connections are closed.", id), err)
}
