package dash

import (
	"net/http"
	"strings"

	"agentnet/app/account"
	"agentnet/web/gate"
	"agentnet/web/ui"
)

// accountsView is the page of accounts.
type accountsView struct {
	accessView
	rows  []account.Account
	wrote string // name that stood in the form
}

const accountsOnPage = 100

func (b *Board) accounts(r *request) (*view, error) {
	if ending := wants(r.c); ending != "" {
		t, err := b.accountTable(r)
		if err != nil {
			return nil, err
		}
		return nil, t.send(&b.pack, r.c, "accounts", ending)
	}
	v, err := b.accountsView(r)
	if err != nil {
		return nil, err
	}
	return &view{title: "Accounts", body: accountsPage(v), plain: true}, nil
}

func (b *Board) accountsView(r *request) (*accountsView, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	found, err := b.cfg.Sources.Access.Accounts(ctx, r.query.Get("after"), accountsOnPage)
	if err != nil {
		return nil, err
	}
	v := &accountsView{accessView: accessView{r: r, tab: "accounts"}, rows: found}
	admins, bare := 0, 0
	for i := range found {
		if found[i].Role == account.Admin && !found[i].Disabled {
			admins++
			if found[i].Second == "" && found[i].Outside == "" {
				bare++
			}
		}
	}
	v.lead = ui.Plural(len(found), "account", "accounts") + ", " + ui.Plural(admins, "admin", "admins")
	if bare > 0 {
		v.lead += "; " + ui.Plural(bare, "admin has", "admins have") + " no second factor"
	}
	v.lead += "."
	if r.query.Get("after") != "" {
		v.before = r.with("after", "")
	}
	if len(found) == accountsOnPage {
		v.next = r.with("after", found[len(found)-1].Name)
	}
	return v, nil
}

// accountState is the state of an account as a kind and a word.
func accountState(a *account.Account) (kind, word string) {
	switch {
	case a.Disabled:
		return "none", "Disabled"
	case a.Password == "" && a.Outside == "":
		return "info", "Waits for its link"
	}
	return "ok", "Active"
}

func (b *Board) accountTable(r *request) (*table, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	found, err := b.cfg.Sources.Access.Accounts(ctx, r.query.Get("after"), 1000)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"name", "role", "disabled", "password", "second_factor", "outside", "created", "last_sign_in"}}
	for i := range found {
		a := &found[i]
		t.add(a.Name, string(a.Role), a.Disabled, a.Password != "", a.Second != "", a.Outside, a.Created, a.LastSeen)
	}
	return t, nil
}

// linkTo is where a one-time link leads, with the address that this browser came by.
func (b *Board) linkTo(r *request, secret string) string {
	endpoint := b.cfg.Page.endpoint(string(r.c.Context().Request.Host()))
	return "http" + strings.TrimPrefix(strings.TrimSuffix(endpoint, "/ws"), "ws") + "/setup/" + secret
}

// showAccounts draws the page after a change that showed something once.
func (b *Board) showAccounts(r *request, change func(*accountsView)) error {
	r.path = "/access/accounts"
	v, err := b.accountsView(r)
	if err != nil {
		return err
	}
	change(v)
	return b.draw(r, &view{title: "Accounts", body: accountsPage(v), plain: true})
}

func (b *Board) createAccount(r *request) error {
	name, role := account.FoldName(r.c.FormValue("name")), r.c.FormValue("role")
	b.note(r.c, name, "role "+role)
	ctx, cancel := r.bounded()
	defer cancel()
	_, err := b.cfg.Sources.Access.Create(ctx, account.Spec{Name: name, Role: account.Role(role)})
	secret := ""
	if err == nil {
		secret, err = b.cfg.Sources.Access.ResetLink(ctx, name)
	}
	if err != nil {
		text := mistake(err)
		if text == "" {
			return err
		}
		gate.NoteFailed(r.c, account.Refused, text)
		r.c.Status(http.StatusUnprocessableEntity)
		return b.showAccounts(r, func(v *accountsView) { v.fault, v.wrote = text, name })
	}
	return b.showAccounts(r, func(v *accountsView) { v.secret, v.secretFor = b.linkTo(r, secret), "The link for "+name })
}

func (b *Board) resetAccount(r *request) error {
	name := account.FoldName(r.c.FormValue("account"))
	b.note(r.c, name, "a one-time link was made")
	ctx, cancel := r.bounded()
	defer cancel()
	secret, err := b.cfg.Sources.Access.ResetLink(ctx, name)
	if err != nil {
		return r.done("/access/accounts", "", err)
	}
	return b.showAccounts(r, func(v *accountsView) { v.secret, v.secretFor = b.linkTo(r, secret), "The link for "+name })
}

func (b *Board) setRole(r *request) error {
	name, role := account.FoldName(r.c.FormValue("account")), r.c.FormValue("role")
	b.note(r.c, name, "")
	ctx, cancel := r.bounded()
	defer cancel()
	before, err := b.cfg.Sources.Access.SetRole(ctx, name, account.Role(role))
	if err == nil {
		b.note(r.c, name, string(before)+" to "+role)
	}
	return r.done("/access/accounts", name+" has the role "+role+" from now on.", err)
}

func (b *Board) disable(disabled bool) func(r *request) error {
	return func(r *request) error {
		name := account.FoldName(r.c.FormValue("account"))
		b.note(r.c, name, "")
		ctx, cancel := r.bounded()
		defer cancel()
		err := b.cfg.Sources.Access.SetDisabled(ctx, name, disabled)
		if disabled {
			return r.done("/access/accounts", name+" is kept out and signed out everywhere.", err)
		}
		return r.done("/access/accounts", name+" may sign in again.", err)
	}
}

func (b *Board) deleteAccount(r *request) error {
	name := account.FoldName(r.c.FormValue("account"))
	b.note(r.c, name, "")
	if r.c.FormValue("sure") != name { // also without a script nobody deletes by a slip
		return r.done("/access/accounts", "", &account.Invalid{Field: "sure", Text: "write the name of the account into the field to delete it"})
	}
	ctx, cancel := r.bounded()
	defer cancel()
	return r.done("/access/accounts", name+" is deleted and signed out everywhere.", b.cfg.Sources.Access.Delete(ctx, name))
}

// sessionsView is the page of browsers that are signed in.
type sessionsView struct {
	accessView
	rows []account.Session
}

func (b *Board) sessions(r *request) (*view, error) {
	if ending := wants(r.c); ending != "" {
		t, err := b.sessionTable(r)
		if err != nil {
			return nil, err
		}
		return nil, t.send(&b.pack, r.c, "sessions", ending)
	}
	found, err := b.findSessions(r)
	if err != nil {
		return nil, err
	}
	v := &sessionsView{accessView: accessView{r: r, tab: "sessions", match: r.query.Get("account")}, rows: found}
	people := map[string]bool{}
	for i := range found {
		people[found[i].Account] = true
	}
	v.lead = ui.Plural(len(found), "browser is", "browsers are") + " signed in, of " + ui.Plural(len(people), "person", "people") + "."
	return &view{title: "Sessions", body: sessionsPage(v), plain: true}, nil
}

func (b *Board) findSessions(r *request) ([]account.Session, error) {
	ctx, cancel := r.bounded()
	defer cancel()
	return b.cfg.Sources.Access.Sessions(ctx, account.SessionFilter{Account: account.FoldName(r.query.Get("account"))})
}

func (b *Board) sessionTable(r *request) (*table, error) {
	found, err := b.findSessions(r)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"id", "account", "how", "address", "browser", "created", "seen", "expires"}}
	for i := range found {
		s := &found[i]
		t.add(s.ID, s.Account, s.How, s.Address, s.Browser, s.Created, s.Seen, s.Expires)
	}
	return t, nil
}

func (b *Board) endSession(r *request) error {
	f := account.SessionFilter{ID: r.c.FormValue("session"), Account: account.FoldName(r.c.FormValue("account"))}
	b.note(r.c, f.ID+f.Account, "")
	ctx, cancel := r.bounded()
	defer cancel()
	n, err := b.cfg.Sources.Access.EndSessions(ctx, f)
	if err == nil && n == 0 {
		err = &account.Invalid{Field: "session", Text: "there was no such session any more"}
	}
	return r.done("/access/sessions", "Signed out: "+ui.Plural(n, "browser", "browsers")+".", err)
}
