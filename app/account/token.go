package account

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// A Token is a token of an agent or a program as the people see it who give it
// out; what it proves and how it is checked is package auth's. A zero time is "not".
type Token struct {
	ID        string
	Name      string
	State     string // active, expired or revoked
	Agents    []string
	Send      []string
	Subscribe []string
	Publish   []string
	Roles     []string
	Created   time.Time
	Expires   time.Time
	Revoked   time.Time
	Used      time.Time // coarse
}

// A TokenSpec describes a token that is to be made. Agents and channels are globs.
type TokenSpec struct {
	Name      string
	Agents    []string
	Send      []string
	Subscribe []string
	Publish   []string
	Roles     []string
	Lifetime  time.Duration // 0: it does not expire
}

// Words says for the audit log what a token may do.
func (s TokenSpec) Words() string {
	words := []string{}
	add := func(name string, list []string) {
		if len(list) > 0 {
			words = append(words, name+" "+strings.Join(list, ","))
		}
	}
	if s.Name != "" {
		words = append(words, strconv.Quote(s.Name))
	}
	add("agents", s.Agents)
	add("send", s.Send)
	add("subscribe", s.Subscribe)
	add("publish", s.Publish)
	add("roles", s.Roles)
	if s.Lifetime > 0 {
		words = append(words, "for "+s.Lifetime.String())
	}
	return strings.Join(words, "; ")
}

// A TokenFilter selects and pages a list of tokens.
type TokenFilter struct {
	State string // active, expired, revoked or "" for all
	Match string // part of the id, the name or an agent, any case
	After string // the id that the page before ended with
	Limit int    // 1 to 1000; 0 is 100
}

// A TokenKeeper is where tokens are made, listed and revoked.
type TokenKeeper interface {
	// CreateToken returns the token, which is shown once, and its id. An *Invalid is
	// the fault of whoever described it.
	CreateToken(ctx context.Context, spec TokenSpec) (token, id string, err error)
	// Tokens lists tokens, the newest first.
	Tokens(ctx context.Context, f TokenFilter) ([]Token, error)
	// RevokeToken ends a token and its connections at once; ErrNotFound.
	RevokeToken(ctx context.Context, id string) (Token, error)
}

// An AuditLog reads the audit log.
type AuditLog interface {
	// Audit lists entries, the newest first.
	Audit(ctx context.Context, f AuditFilter) ([]Entry, error)
	// VerifyAudit reads the whole log, each origin's chain by itself and this node's
	// own first, and names every row that is not as it was written.
	VerifyAudit(ctx context.Context, known KnownEnd) ([]AuditReport, error)
}

// A Desk is all that an admin manages: accounts, sessions, tokens and the audit log.
type Desk struct {
	*Service
	TokenKeeper
	AuditLog
}
