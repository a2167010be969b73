package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// TokensQuery chooses tokens.
type TokensQuery struct {
	State  string `query:"state" enum:"active,expired,revoked" doc:"Absent: all."`
	Match  string `query:"match" doc:"Part of the id, the name or an agent, any case."`
	After  string `query:"after" doc:"The next of the page before."`
	Limit  int    `query:"limit" doc:"Entries on a page." default:"100" min:"1" max:"1000"`
	Format string `query:"format" enum:"json,csv"`
}

// TokensReply is one page of tokens.
type TokensReply struct {
	Tokens []Token `json:"tokens"`
	Next   string  `json:"next,omitempty" doc:"The after of the next page; absent on the last."`
}

// A Token is one token without its secret.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name,omitempty"`
	State     string     `json:"state" enum:"active,expired,revoked"`
	Agents    []string   `json:"agents"`
	Send      []string   `json:"send"`
	Subscribe []string   `json:"subscribe"`
	Publish   []string   `json:"publish"`
	Roles     []string   `json:"roles"`
	Created   *time.Time `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"`
	Revoked   *time.Time `json:"revoked,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty" doc:"To the hour."`
}

func tokenOf(t *account.Token) Token {
	list := func(l []string) []string { return append([]string{}, l...) }
	return Token{ID: t.ID, Name: t.Name, State: t.State, Agents: list(t.Agents), Send: list(t.Send), Subscribe: list(t.Subscribe), Publish: list(t.Publish),
		Roles: list(t.Roles), Created: when(t.Created), Expires: when(t.Expires), Revoked: when(t.Revoked), LastUsed: when(t.Used)}
}

func (a *API) tokens(c *fiber.Ctx, _ *relay.Identity) error {
	limit, err := number(c, "limit", listLimit, 1, maxListLimit)
	if err != nil {
		return err
	}
	f := account.TokenFilter{State: c.Query("state"), Match: c.Query("match"), After: c.Query("after"), Limit: limit}
	found, err := a.cfg.Access.Tokens(c.UserContext(), f)
	if err != nil {
		return asWire(err)
	}
	if asTable(c) {
		rows := [][]string{{"id", "name", "state", "agents", "send", "subscribe", "publish", "roles", "created", "expires", "revoked", "last_used"}}
		for _, t := range found {
			rows = append(rows, []string{t.ID, t.Name, t.State, strings.Join(t.Agents, " "), strings.Join(t.Send, " "), strings.Join(t.Subscribe, " "),
				strings.Join(t.Publish, " "), strings.Join(t.Roles, " "), cell(t.Created), cell(t.Expires), cell(t.Revoked), cell(t.Used)})
		}
		return writeTable(c, "tokens", rows)
	}
	reply := TokensReply{Tokens: make([]Token, len(found))}
	for i := range found {
		reply.Tokens[i] = tokenOf(&found[i])
	}
	if len(found) == limit {
		reply.Next = found[limit-1].ID
	}
	return writeJSON(c, http.StatusOK, reply)
}

// TokenBody describes a token that is to be made.
type TokenBody struct {
	Name      string   `json:"name,omitempty" doc:"What to call it in lists."`
	Agents    []string `json:"agents,omitempty" doc:"Globs of agents that it may act as."`
	Send      []string `json:"send,omitempty" doc:"Globs of agents that it may send to and ask. Absent: all, if it has agents."`
	Subscribe []string `json:"subscribe,omitempty" doc:"Globs of channels that it may listen to. Absent: all, if it has agents."`
	Publish   []string `json:"publish,omitempty" doc:"Globs of channels that it may publish to. Absent: all, if it has agents."`
	Roles     []string `json:"roles,omitempty" doc:"viewer, operator or admin, for this API and the dashboard."`
	LifetimeS int64    `json:"lifetime_s,omitempty" min:"0" doc:"Seconds that it is valid. 0: until it is revoked."`
}

// TokenReply holds a new token, which is shown this once.
type TokenReply struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

func (a *API) createToken(c *fiber.Ctx, _ *relay.Identity) error {
	var body TokenBody
	if err := readBody(c, &body); err != nil {
		return err
	}
	if body.LifetimeS < 0 || body.LifetimeS > 100*366*86400 {
		return &wire.Error{Code: wire.BadFrame, Message: "lifetime_s: expected 0 to a hundred years"}
	}
	all := func(globs []string) []string {
		if globs == nil && len(body.Agents) > 0 {
			return []string{"**"}
		}
		return globs
	}
	spec := account.TokenSpec{Name: body.Name, Agents: body.Agents, Send: all(body.Send), Subscribe: all(body.Subscribe), Publish: all(body.Publish),
		Roles: body.Roles, Lifetime: time.Duration(body.LifetimeS) * time.Second}
	note(c, body.Name, "")
	token, id, err := a.cfg.Access.CreateToken(c.UserContext(), spec)
	if err != nil {
		return asWire(err)
	}
	note(c, id, spec.Words())
	return writeJSON(c, http.StatusOK, TokenReply{ID: id, Token: token})
}

// DoneReply says that a change was made.
type DoneReply struct {
	Done bool `json:"done"`
}

func (a *API) revokeToken(c *fiber.Ctx, _ *relay.Identity) error {
	id := c.Params("id")
	note(c, id, "")
	t, err := a.cfg.Access.RevokeToken(c.UserContext(), id)
	if err != nil {
		return asWire(err)
	}
	note(c, t.ID, t.Name)
	return writeJSON(c, http.StatusOK, DoneReply{true})
}

// SessionsQuery chooses sessions.
type SessionsQuery struct {
	Account string `query:"account" doc:"Only those of this account."`
	Format  string `query:"format" enum:"json,csv"`
}

// SessionsReply lists browsers that are signed in.
type SessionsReply struct {
	Sessions []Session `json:"sessions"`
}

// A Session is one browser that is signed in.
type Session struct {
	ID      string     `json:"id"`
	Account string     `json:"account"`
	How     string     `json:"how" doc:"How the person proved who they are."`
	Address string     `json:"address" doc:"Where it was signed in from."`
	Browser string     `json:"browser"`
	Created *time.Time `json:"created"`
	Seen    *time.Time `json:"seen" doc:"To the minute."`
	Expires *time.Time `json:"expires"`
}

func (a *API) sessions(c *fiber.Ctx, _ *relay.Identity) error {
	found, err := a.cfg.Access.Sessions(c.UserContext(), account.SessionFilter{Account: account.FoldName(c.Query("account"))})
	if err != nil {
		return asWire(err)
	}
	if asTable(c) {
		rows := [][]string{{"id", "account", "how", "address", "browser", "created", "seen", "expires"}}
		for _, s := range found {
			rows = append(rows, []string{s.ID, s.Account, s.How, s.Address, s.Browser, cell(s.Created), cell(s.Seen), cell(s.Expires)})
		}
		return writeTable(c, "sessions", rows)
	}
	reply := SessionsReply{Sessions: make([]Session, len(found))}
	for i, s := range found {
		reply.Sessions[i] = Session{ID: s.ID, Account: s.Account, How: s.How, Address: s.Address, Browser: s.Browser, Created: when(s.Created), Seen: when(s.Seen), Expires: when(s.Expires)}
	}
	return writeJSON(c, http.StatusOK, reply)
}

func (a *API) endSession(c *fiber.Ctx, _ *relay.Identity) error {
	id := c.Params("id")
	note(c, id, "")
	n, err := a.cfg.Access.EndSessions(c.UserContext(), account.SessionFilter{ID: id})
	if err != nil {
		return asWire(err)
	}
	if n == 0 {
		return &wire.Error{Code: wire.NotFound, Message: "there is no such session"}
	}
	return writeJSON(c, http.StatusOK, DoneReply{true})
}

// AuditQuery chooses entries of the audit log.
type AuditQuery struct {
	Before  uint64 `query:"before" doc:"Only entries with a smaller place: the next of the page before."`
	Origin  string `query:"origin" doc:"Only what this data directory wrote."`
	Actor   string `query:"actor"`
	Action  string `query:"action" doc:"Such as token.create, or token. for all that begin so."`
	Outcome string `query:"outcome" enum:"done,refused,failed"`
	Match   string `query:"match" doc:"Part of actor, action, target, address or detail, any case."`
	From    string `query:"from" doc:"RFC 3339."`
	To      string `query:"to" doc:"RFC 3339."`
	Limit   int    `query:"limit" doc:"Entries on a page." default:"100" min:"1" max:"1000"`
	Format  string `query:"format" enum:"json,csv"`
}

// AuditReply is one page of the audit log.
type AuditReply struct {
	Entries []AuditEntry `json:"entries"`
	Next    uint64       `json:"next,omitempty" doc:"The before of the next page; absent on the last."`
}

// An AuditEntry is one row of the audit log.
type AuditEntry struct {
	Seq     uint64     `json:"seq" doc:"Its number in the chain of its origin."`
	At      *time.Time `json:"at"`
	Node    string     `json:"node"`
	Actor   string     `json:"actor" doc:"An account, token:ID, system:USER for a command, or server."`
	Role    string     `json:"role,omitempty"`
	Via     string     `json:"via" enum:"page,api,command,server"`
	Address string     `json:"address,omitempty"`
	Action  string     `json:"action"`
	Target  string     `json:"target,omitempty"`
	Outcome string     `json:"outcome" enum:"done,refused,failed"`
	Detail  string     `json:"detail,omitempty"`
	Prev    string     `json:"prev" doc:"Hash of the entry before."`
	Hash    string     `json:"hash"`
	Origin  string     `json:"origin" doc:"The data directory that wrote it; each has a chain of its own."`
	Place   uint64     `json:"place" doc:"In which order it came to this node."`
}

// AuditFilter reads the parameters of a list of the audit log.
func AuditFilter(query func(string) string) (f account.AuditFilter, err error) {
	f = account.AuditFilter{Actor: query("actor"), Action: query("action"), Outcome: query("outcome"), Match: query("match"), Origin: query("origin"), Limit: listLimit}
	bad := func(name, want string) error {
		return &wire.Error{Code: wire.BadFrame, Message: name + ": expected " + want}
	}
	if text := query("before"); text != "" {
		if f.Before, err = strconv.ParseUint(text, 10, 63); err != nil {
			return f, bad("before", "the place of an entry")
		}
	}
	if text := query("limit"); text != "" {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 1 || f.Limit > maxListLimit {
			return f, bad("limit", fmt.Sprintf("a number from 1 to %d", maxListLimit))
		}
	}
	for name, into := range map[string]*time.Time{"from": &f.From, "to": &f.To} {
		if text := query(name); text != "" {
			if *into, err = time.Parse(time.RFC3339, text); err != nil {
				return f, bad(name, "a time such as 2026-11-23T14:30:00Z")
			}
		}
	}
	return f, nil
}

func (a *API) audit(c *fiber.Ctx, _ *relay.Identity) error {
	f, err := AuditFilter(func(name string) string { return c.Query(name) })
	if err != nil {
		return err
	}
	found, err := a.cfg.Access.Audit(c.UserContext(), f)
	if err != nil {
		return asWire(err)
	}
	if asTable(c) {
		rows := [][]string{{"seq", "at", "node", "actor", "role", "via", "address", "action", "target", "outcome", "detail", "prev", "hash", "origin"}}
		for _, e := range found {
			rows = append(rows, []string{strconv.FormatUint(e.Seq, 10), e.At.UTC().Format(time.RFC3339Nano), e.Node, e.Actor, string(e.Role), e.Via, e.Address,
				e.Action, e.Target, e.Outcome, e.Detail, e.Prev, e.Hash, e.Origin})
		}
		return writeTable(c, "audit", rows)
	}
	reply := AuditReply{Entries: make([]AuditEntry, len(found))}
	for i, e := range found {
		reply.Entries[i] = AuditEntry{e.Seq, when(e.At), e.Node, e.Actor, string(e.Role), e.Via, e.Address, e.Action, e.Target, e.Outcome, e.Detail, e.Prev, e.Hash, e.Origin, e.Place}
	}
	if len(found) == f.Limit && found[f.Limit-1].Place > 1 {
		reply.Next = found[f.Limit-1].Place
	}
	return writeJSON(c, http.StatusOK, reply)
}

// VerifyQuery names the end of a chain as it was noted elsewhere.
type VerifyQuery struct {
	Head string `query:"head" doc:"ORIGIN:SEQ:HASH, or SEQ:HASH of this node, of an earlier verification; finds that the end was cut off."`
}

// VerifyReply is the outcome of a verification.
type VerifyReply struct {
	OK     bool          `json:"ok"`
	Rows   uint64        `json:"rows" doc:"Of all chains."`
	Head   string        `json:"head" doc:"SEQ:HASH of the end of this node's own chain; note it elsewhere."`
	Chains []AuditChain  `json:"chains" doc:"One for each data directory that wrote; this node's own is the first."`
	Faults []chain.Fault `json:"faults"`
}

// An AuditChain is the part of the audit log that one data directory wrote.
type AuditChain struct {
	Origin string `json:"origin"`
	Own    bool   `json:"own" doc:"Of the node that was asked."`
	Rows   uint64 `json:"rows"`
	Head   string `json:"head" doc:"ORIGIN:SEQ:HASH of the end; note it elsewhere."`
	Away   uint64 `json:"away,omitempty" doc:"Entries that were removed for their age before they came to this node."`
	Faults int    `json:"faults"`
}

func (a *API) verifyAudit(c *fiber.Ctx, _ *relay.Identity) error {
	known, err := account.ParseKnownEnd(c.Query("head"))
	if err != nil {
		return &wire.Error{Code: wire.BadFrame, Message: "head: " + err.Error()}
	}
	reports, err := a.cfg.Access.VerifyAudit(c.UserContext(), known)
	if err != nil {
		return asWire(err)
	}
	faults, rows := account.AuditFaults(reports)
	reply := VerifyReply{OK: len(faults) == 0, Rows: rows, Head: "0:", Chains: []AuditChain{}, Faults: append([]chain.Fault{}, faults...)}
	for _, r := range reports {
		if r.Own {
			reply.Head = account.KnownEnd{Head: r.End}.String()
		}
		reply.Chains = append(reply.Chains, AuditChain{r.Origin, r.Own, r.Rows, account.KnownEnd{Origin: r.Origin, Head: r.End}.String(), r.Away, len(r.Faults)})
	}
	return writeJSON(c, http.StatusOK, reply)
}
