package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/account/oidc"
	"agentnet/app/auth"
	"agentnet/store"
	"agentnet/web"
	"agentnet/web/api"
)

// ServerURL names the setting that holds where the server was reached last, for
// commands that print links.
const ServerURL = "server_url"

// openAccounts makes the desk of those who operate the relay, and the link for the
// first of them while there is none.
func (a *App) openAccounts(ctx context.Context) error {
	c := &a.cfg.Accounts
	people, err := account.New(account.Config{Rows: a.store, Node: a.cfg.Node, Idle: time.Duration(c.SessionIdle), Lifetime: time.Duration(c.SessionLifetime), Logger: a.log})
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	a.desk = &account.Desk{Service: people, TokenKeeper: TokenDesk(a.store, a.auth), AuditLog: a.store}
	if err := a.openOutside(); err != nil {
		return err
	}
	secret, err := people.FirstLink(ctx)
	if err != nil {
		return fmt.Errorf("first admin: %w", err)
	}
	if secret != "" {
		a.setup = a.cfg.BasePath + "/setup/" + secret
	}
	return nil
}

// withAccounts lets people in at the web server's pages.
func (a *App) withAccounts(cfg web.Config) web.Config {
	c := &a.cfg.Accounts
	cfg.Access, cfg.SessionLifetime = a.desk, time.Duration(c.SessionLifetime)
	if a.outside != nil {
		cfg.Outside = a.outside
	}
	if c.Forward.Enabled {
		cfg.Forward = &web.Forward{UserHeader: c.Forward.UserHeader, GroupsHeader: c.Forward.GroupsHeader, Groups: c.groups()}
	}
	return cfg
}

// groups are the roles of groups elsewhere.
func (c *Accounts) groups() account.Groups {
	return account.Groups{Admins: c.AdminGroups, Operators: c.OperatorGroups, Viewers: c.ViewerGroups, Others: account.Role(c.OtherRole)}
}

// openOutside makes the OpenID provider, which is asked when somebody comes.
func (a *App) openOutside() error {
	c := &a.cfg.Accounts
	o := &c.OIDC
	if o.Issuer == "" {
		return nil
	}
	secret := o.ClientSecret
	if o.ClientSecretFile != "" {
		text, err := os.ReadFile(o.ClientSecretFile)
		if err != nil {
			return fmt.Errorf("accounts.oidc.client_secret_file: %w", err)
		}
		secret = strings.TrimSpace(string(text))
	}
	provider, err := oidc.New(oidc.Config{Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: secret, Label: o.Name, Scopes: o.Scopes,
		NameClaim: o.NameClaim, GroupsClaim: o.GroupsClaim, Groups: c.groups(), People: a.desk.Service})
	if err != nil {
		return fmt.Errorf("accounts.oidc: %w", err)
	}
	a.outside = provider
	a.onClose("openid provider", func(context.Context) error { provider.Close(); return nil })
	return nil
}

// SetupPath is the path of the page that makes the first admin, or "" when there
// was one at the start. It holds a secret.
func (a *App) SetupPath() string { return a.setup }

// Desk manages accounts, sessions, tokens and the audit log of this node.
func (a *App) Desk() *account.Desk { return a.desk }

// runAccounts removes what is over and notes where the server is, until ctx ends.
func (a *App) runAccounts(ctx context.Context) error {
	url := a.cfg.PublicURL
	if url == "" {
		scheme := "http://"
		if a.cfg.Encrypts() {
			scheme = "https://"
		}
		url = scheme + a.Addr() + a.cfg.BasePath
	}
	if err := a.store.PutSetting(ctx, ServerURL, url, time.Now()); err != nil {
		a.log.Warn("where this server is could not be noted for commands that print links", "error", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.keepAudit(ctx)
	}()
	err := a.desk.Run(ctx)
	<-ended
	return err
}

// keepAudit bounds the audit log, and says its ends in the log once a day: somebody
// who cuts the audit log off would have to change the other log too.
func (a *App) keepAudit(ctx context.Context) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		c := &a.cfg.Accounts
		if _, err := a.store.PruneAudit(ctx, time.Now().Add(-time.Duration(c.AuditAge)), c.AuditCount); err != nil && ctx.Err() == nil {
			a.log.Warn("the audit log could not be shortened", "error", err)
		}
		if last, err := a.store.Audit(ctx, account.AuditFilter{Limit: 1}); err == nil && len(last) == 1 {
			a.log.Info("end of the audit log", "origin", last[0].Origin, "entry", last[0].Seq, "hash", last[0].Hash)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// TokenDesk lets admins make, list and revoke the tokens of a database.
func TokenDesk(db *store.Store, tokens *auth.Service) account.TokenKeeper {
	return tokenDesk{db, tokens}
}

type tokenDesk struct {
	db   *store.Store
	auth *auth.Service
}

func (d tokenDesk) CreateToken(ctx context.Context, s account.TokenSpec) (token, id string, err error) {
	spec := auth.TokenSpec{Name: s.Name, Lifetime: s.Lifetime,
		Grants: auth.Grants{Agents: s.Agents, Send: s.Send, Subscribe: s.Subscribe, Publish: s.Publish, Roles: s.Roles}}
	if err := spec.Check(); err != nil {
		return "", "", &account.Invalid{Field: "token", Text: err.Error()}
	}
	return d.auth.CreateToken(ctx, spec)
}

func (d tokenDesk) Tokens(ctx context.Context, f account.TokenFilter) ([]account.Token, error) {
	if f.State != "" && !slices.Contains([]string{"active", "expired", "revoked"}, f.State) {
		return nil, &account.Invalid{Field: "state", Text: "it must be active, expired or revoked"}
	}
	now := time.Now()
	rows, err := d.db.Tokens(ctx, store.TokenFilter{State: store.TokenState(f.State), Match: f.Match, After: f.After, Limit: f.Limit, Now: now})
	if err != nil {
		return nil, asAccountError(err)
	}
	list := make([]account.Token, len(rows))
	for i := range rows {
		list[i] = tokenFrom(&rows[i], now)
	}
	return list, nil
}

func tokenFrom(t *store.Token, now time.Time) account.Token {
	state := "active"
	switch {
	case !t.Revoked.IsZero():
		state = "revoked"
	case !t.Expires.IsZero() && !t.Expires.After(now):
		state = "expired"
	}
	return account.Token{ID: t.ID, Name: t.Name, State: state, Agents: t.Agents, Send: t.Send, Subscribe: t.Subscribe, Publish: t.Publish, Roles: t.Roles,
		Created: t.Created, Expires: t.Expires, Revoked: t.Revoked, Used: t.Used}
}

func (d tokenDesk) RevokeToken(ctx context.Context, id string) (account.Token, error) {
	t, err := d.db.Token(ctx, id)
	if err != nil {
		return account.Token{}, asAccountError(err)
	}
	if err := d.auth.Revoke(ctx, id); err != nil {
		return account.Token{}, asAccountError(err)
	}
	return tokenFrom(&t, time.Now()), nil
}

func asAccountError(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return account.ErrNotFound
	}
	return err
}

// Routes lists every route of this node with who may use it.
func (a *App) Routes() []web.RouteAccess { return a.web.Routes() }

// accountReadings are the metrics of those who operate the relay.
func (a *App) accountReadings() []api.Reading {
	s := a.desk.Stats()
	return []api.Reading{
		counter("agentnet_sign_ins_total", "People who signed in to the dashboard.", s.SignIns),
		counter("agentnet_sign_in_failures_total", "Sign-ins that were refused: wrong name, password or code.", s.Failures),
		counter("agentnet_sign_ins_throttled_total", "Sign-ins that were not looked at because there were too many.", s.Throttled),
		counter("agentnet_audit_lost_total", "Entries that could not be written into the audit log.", s.AuditLost),
	}
}
