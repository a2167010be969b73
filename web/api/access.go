package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// An AccessKeeper keeps what the routes of access show and change. account.Desk
// is one.
type AccessKeeper interface {
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

// accessRoutes are the routes about who may do what; none without a keeper.
func (a *API) accessRoutes() []Route {
	if a.cfg.Access == nil {
		return nil
	}
	codes := func(more ...wire.Code) []wire.Code {
		return append(more, wire.BadFrame, wire.Forbidden, wire.Unavailable, wire.Internal)
	}
	return []Route{
		{Method: "GET", Path: "/v1/me", Name: "me", Access: AnyToken, Reply: MeReply{}, handle: a.me, Codes: codes(),
			Summary: "Says as whom the caller is known, and with which roles."},
		{Method: "GET", Path: "/v1/tokens", Name: "tokens", Access: Admin, Query: TokensQuery{}, Reply: TokensReply{}, handle: a.tokens, Codes: codes(wire.NotFound),
			Summary: "Lists tokens, the newest first.", Doc: "With Accept: text/csv as a table. The tokens themselves are kept nowhere."},
		{Method: "POST", Path: "/v1/tokens", Name: "token.create", Access: Admin, Body: TokenBody{}, Reply: TokenReply{}, handle: a.createToken, Codes: codes(),
			Summary: "Makes a token and returns it, this once."},
		{Method: "DELETE", Path: "/v1/tokens/:id", Name: "token.revoke", Access: Admin, Reply: DoneReply{}, handle: a.revokeToken, Codes: codes(wire.NotFound),
			Summary: "Ends a token for good and closes its connections."},
		{Method: "GET", Path: "/v1/accounts", Name: "accounts", Access: Admin, Query: AccountsQuery{}, Reply: AccountsReply{}, handle: a.accounts, Codes: codes(),
			Summary: "Lists accounts by name."},
		{Method: "POST", Path: "/v1/accounts", Name: "account.create", Access: Admin, Body: AccountBody{}, Reply: AccountReply{}, handle: a.createAccount, Codes: codes(wire.Conflict),
			Summary: "Makes an account.", Doc: "Without a password the answer has a link, good once and for 24 hours, that sets it."},
		{Method: "PATCH", Path: "/v1/accounts/:name", Name: "account.change", Access: Admin, Body: AccountChange{}, Reply: Account{}, handle: a.changeAccount, Codes: codes(wire.NotFound, wire.Conflict),
			Summary: "Changes the role of an account, keeps it out or lets it in again."},
		{Method: "POST", Path: "/v1/accounts/:name/reset", Name: "account.reset", Access: Admin, Reply: AccountReply{}, handle: a.resetAccount, Codes: codes(wire.NotFound),
			Summary: "Ends all sessions of an account, removes its password and second factor, and returns a link that sets a new password."},
		{Method: "DELETE", Path: "/v1/accounts/:name", Name: "account.delete", Access: Admin, Reply: DoneReply{}, handle: a.deleteAccount, Codes: codes(wire.NotFound, wire.Conflict),
			Summary: "Deletes an account and ends its sessions."},
		{Method: "GET", Path: "/v1/sessions", Name: "sessions", Access: Admin, Query: SessionsQuery{}, Reply: SessionsReply{}, handle: a.sessions, Codes: codes(),
			Summary: "Lists browsers that are signed in on this node."},
		{Method: "DELETE", Path: "/v1/sessions/:id", Name: "session.end", Access: Admin, Reply: DoneReply{}, handle: a.endSession, Codes: codes(wire.NotFound),
			Summary: "Signs a browser out at once."},
		{Method: "GET", Path: "/v1/audit", Name: "audit", Access: Admin, Query: AuditQuery{}, Reply: AuditReply{}, handle: a.audit, Codes: codes(),
			Summary: "Lists the audit log, the newest entry first.", Doc: "With Accept: text/csv as a table."},
		{Method: "GET", Path: "/v1/audit/verify", Name: "audit.verify", Access: Admin, Query: VerifyQuery{}, Reply: VerifyReply{}, handle: a.verifyAudit, Codes: codes(),
			Summary: "Reads the whole audit log and names every row that is not as it was written."},
	}
}

// record writes a change, or a try of one, into the audit log.
func (a *API) record(c *fiber.Ctx, route Route, id *relay.Identity, err error) {
	if a.cfg.Record == nil || id == nil || route.Method == "GET" || roleFor[route.Access] == "" {
		return
	}
	e := account.Entry{Actor: actor(id), Role: account.Highest(id.Roles), Via: account.ViaAPI, Address: a.cfg.ClientAddr(c).String(),
		Action: route.Name, Target: noted(c, noteTarget), Detail: noted(c, noteDetail), Outcome: account.Done}
	if err != nil {
		e.Outcome = account.Failed
		if w, ok := errors.AsType[*wire.Error](err); ok && Status(w.Code) < 500 {
			e.Outcome = account.Refused
			e.Detail = strings.TrimSpace(e.Detail + " " + w.Message)
		}
	}
	_ = a.cfg.Record(c.UserContext(), e) // logged there; what was done is done
}

// actor names whoever id stands for: an account, or the token's public name.
func actor(id *relay.Identity) string {
	if name, ok := strings.CutPrefix(id.Token, SessionPrefix); ok {
		return name
	}
	return "token:" + id.Token
}

// SessionPrefix begins the Token of identities that are a person in a browser; the
// name of the account follows.
const SessionPrefix = "account:"

const noteTarget, noteDetail = "agentnet.target", "agentnet.detail"

// Note tells the audit log what a change was done to.
func note(c *fiber.Ctx, target, detail string) {
	c.Locals(noteTarget, target)
	c.Locals(noteDetail, detail)
}

func noted(c *fiber.Ctx, key string) string {
	text, _ := c.Locals(key).(string)
	return text
}

// MeReply says as whom the caller is known.
type MeReply struct {
	Name  string   `json:"name" doc:"The account, or the token's public name."`
	Kind  string   `json:"kind" enum:"account,token"`
	Roles []string `json:"roles"`
}

func (a *API) me(c *fiber.Ctx, id *relay.Identity) error {
	reply := MeReply{Name: actor(id), Kind: "account", Roles: append([]string{}, id.Roles...)}
	if name, ok := strings.CutPrefix(reply.Name, "token:"); ok {
		reply.Name, reply.Kind = name, "token"
	}
	return writeJSON(c, http.StatusOK, reply)
}

// asWire puts an error of package account into the words of the protocol.
func asWire(err error) error {
	code := wire.Code("")
	if _, ok := errors.AsType[*account.Invalid](err); ok {
		code = wire.BadFrame
	}
	for known, word := range map[error]wire.Code{account.ErrNotFound: wire.NotFound, account.ErrExists: wire.Conflict, account.ErrLastAdmin: wire.Conflict,
		account.ErrBusy: wire.Overloaded} {
		if errors.Is(err, known) {
			code, err = word, known
		}
	}
	if code == "" {
		return err
	}
	if e, ok := errors.AsType[*account.Invalid](err); ok {
		err = e
	}
	return &wire.Error{Code: code, Message: err.Error()}
}

// readBody reads a JSON body; fields that it does not know are a mistake.
func readBody(c *fiber.Ctx, into any) error {
	if media, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";"); !strings.EqualFold(strings.TrimSpace(media), fiber.MIMEApplicationJSON) {
		return &unsupported{"send the body as Content-Type: application/json"}
	}
	d := json.NewDecoder(bytes.NewReader(c.Body()))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return &wire.Error{Code: wire.BadFrame, Message: "the body is not what this route takes: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	if d.More() {
		return &wire.Error{Code: wire.BadFrame, Message: "the body has something behind its JSON object"}
	}
	return nil
}

// when writes a time for JSON; nil for none.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func cell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
