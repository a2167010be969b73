package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/auth"
	"agentnet/app/backup"
	"agentnet/store"
)

// tokenCommands are `agentnet token …`. They work on the data directory, beside a
// running server and before the first one.
type tokenCommands struct {
	Create tokenCreate `cmd:"" help:"Make a token and print it, alone, on standard output. It is shown this once."`
	List   tokenList   `cmd:"" help:"List tokens."`
	Revoke tokenRevoke `cmd:"" help:"End a token at once; its connections are closed."`
}

// dataFlag says where tokens are kept.
type dataFlag struct {
	Data string `placeholder:"DIR" help:"Data directory of the relay (AGENTNET_DATA). Default: $STATE_DIRECTORY, else $XDG_DATA_HOME/agentnet, else ~/.local/share/agentnet."`
}

type tokenCreate struct {
	dataFlag
	Agent     []string     `placeholder:"GLOB" help:"Agents that it may act as, such as alice or alice/**."`
	Send      []string     `placeholder:"GLOB" help:"Agents that it may send to and ask. Default: **."`
	Subscribe []string     `placeholder:"GLOB" help:"Channels that it may listen to. Default: **."`
	Publish   []string     `placeholder:"GLOB" help:"Channels that it may publish to. Default: **."`
	Role      []string     `placeholder:"ROLE" help:"viewer, operator or admin, for the HTTP API and the dashboard."`
	Expires   app.Duration `placeholder:"DURATION" help:"How long it is valid, such as 12h or 30d. Default: until it is revoked."`
	Name      string       `placeholder:"TEXT" help:"What to call it in lists."`
	JSON      bool         `name:"json" help:"Print JSON with the token's id."`
}

type tokenList struct {
	dataFlag
	State string `default:"all" enum:"all,active,expired,revoked" help:"${enum}."`
	Match string `help:"Only those with this text in id, name or agents."`
	JSON  bool   `name:"json" help:"Print one JSON object a line."`
}

type tokenRevoke struct {
	dataFlag
	Token string `arg:"" help:"Its id as listed, or the token itself."`
}

// with opens the tokens of the data directory for the time of f. Only create makes
// a directory that is not there: to look into an empty one is surely a mistake.
func (d *dataFlag) with(ctx context.Context, env *Env, create bool, f func(*store.Store, *auth.Service) error) error {
	return d.database(ctx, env, create, func(db *store.Store, log *slog.Logger) error {
		service, err := auth.New(auth.Config{Tokens: app.Tokens(db), Logger: log})
		if err != nil {
			return err
		}
		return f(db, service)
	})
}

// database opens the database of the data directory for the time of f.
func (d *dataFlag) database(ctx context.Context, env *Env, create bool, f func(*store.Store, *slog.Logger) error) error {
	dir := d.Data
	if dir == "" {
		dir = app.DataDir(env.Getenv)
	}
	if _, err := os.Stat(dir); err != nil && !create {
		return fmt.Errorf("data directory %s: no relay has ever kept data there; give the right one with --data", dir)
	}
	if err := backup.Incomplete(dir); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := store.Open(ctx, store.Config{Dir: dir, Logger: log})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer db.Close()
	return f(db, log)
}

// Run makes a token.
func (c *tokenCreate) Run(ctx context.Context, env *Env) error {
	if len(c.Agent) == 0 && len(c.Role) == 0 {
		return usagef("token create: say who it is for, with --agent NAME (or --role viewer for a token that only reads figures)")
	}
	all := func(globs []string) []string {
		if len(globs) == 0 && len(c.Agent) > 0 {
			return []string{"**"}
		}
		return globs
	}
	spec := auth.TokenSpec{Name: c.Name, Lifetime: time.Duration(c.Expires), Grants: auth.Grants{
		Agents: c.Agent, Send: all(c.Send), Subscribe: all(c.Subscribe), Publish: all(c.Publish), Roles: c.Role,
	}}
	return c.with(ctx, env, true, func(db *store.Store, service *auth.Service) error {
		token, id, err := service.CreateToken(ctx, spec)
		if err = recordToken(ctx, db, "token.create", id, account.TokenSpec{Name: c.Name, Agents: spec.Agents, Send: spec.Send, Subscribe: spec.Subscribe,
			Publish: spec.Publish, Roles: spec.Roles, Lifetime: spec.Lifetime}.Words(), err); err != nil {
			return err
		}
		if c.JSON {
			return printJSON(env.Stdout, map[string]string{"token": token, "id": id})
		}
		_, err = fmt.Fprintln(env.Stdout, token)
		return err
	})
}

// tokenJSON is a line of `token list --json`.
type tokenJSON struct {
	ID        string     `json:"id"`
	Name      string     `json:"name,omitempty"`
	State     string     `json:"state"`
	Agents    []string   `json:"agents"`
	Send      []string   `json:"send"`
	Subscribe []string   `json:"subscribe"`
	Publish   []string   `json:"publish"`
	Roles     []string   `json:"roles,omitempty"`
	Created   time.Time  `json:"created"`
	Expires   *time.Time `json:"expires,omitempty"`
	Revoked   *time.Time `json:"revoked,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
}

// Run lists tokens, the newest first.
func (c *tokenList) Run(ctx context.Context, env *Env) error {
	return c.with(ctx, env, false, func(db *store.Store, _ *auth.Service) error {
		filter := store.TokenFilter{Match: c.Match, Now: time.Now(), Limit: 500}
		if c.State != "all" {
			filter.State = store.TokenState(c.State)
		}
		table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(table, "ID\tSTATE\tAGENTS\tSEND\tSUBSCRIBE\tPUBLISH\tROLES\tCREATED\tEXPIRES\tLAST USED\tNAME")
		}
		for {
			page, err := db.Tokens(ctx, filter)
			if err != nil {
				return err
			}
			for _, t := range page {
				if c.JSON {
					err = printJSON(env.Stdout, tokenOf(t))
				} else {
					_, err = fmt.Fprintln(table, tokenRow(t))
				}
				if err != nil {
					return fmt.Errorf("output: %w", err)
				}
			}
			if len(page) < filter.Limit {
				return table.Flush()
			}
			filter.After = page[len(page)-1].ID
		}
	})
}

func tokenState(t store.Token) string {
	switch {
	case !t.Revoked.IsZero():
		return "revoked"
	case !t.Expires.IsZero() && !t.Expires.After(time.Now()):
		return "expired"
	}
	return "active"
}

func tokenOf(t store.Token) tokenJSON {
	opt := func(at time.Time) *time.Time {
		if at.IsZero() {
			return nil
		}
		at = at.UTC()
		return &at
	}
	return tokenJSON{
		ID: t.ID, Name: t.Name, State: tokenState(t), Agents: t.Agents, Send: t.Send, Subscribe: t.Subscribe,
		Publish: t.Publish, Roles: t.Roles, Created: t.Created.UTC(), Expires: opt(t.Expires), Revoked: opt(t.Revoked), LastUsed: opt(t.Used),
	}
}

func tokenRow(t store.Token) string {
	list := func(l []string) string {
		if len(l) == 0 {
			return "-"
		}
		return strings.Join(l, ",")
	}
	day := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return at.Local().Format("2006-01-02 15:04")
	}
	return strings.Join([]string{
		t.ID, tokenState(t), list(t.Agents), list(t.Send), list(t.Subscribe), list(t.Publish), list(t.Roles),
		day(t.Created), day(t.Expires), day(t.Used), t.Name,
	}, "\t")
}

// Run revokes a token.
func (c *tokenRevoke) Run(ctx context.Context, env *Env) error {
	return c.with(ctx, env, false, func(db *store.Store, service *auth.Service) error {
		id := strings.TrimPrefix(c.Token, "agn_")
		if parsed, err := auth.ParseToken(c.Token); err == nil {
			id = parsed
		}
		if len(id) > 12 { // perhaps most of a token: it does not belong into a log
			id = id[:12]
		}
		if err := recordToken(ctx, db, "token.revoke", id, "", service.Revoke(ctx, c.Token)); err != nil {
			return err
		}
		_, err := fmt.Fprintln(env.Stdout, "revoked")
		return err
	})
}

// recordToken writes into the audit log what a command did with a token.
func recordToken(ctx context.Context, db *store.Store, action, id, words string, done error) error {
	service, err := account.New(account.Config{Rows: db, Node: nodeOf(db.Dir())})
	if err != nil {
		return errors.Join(done, err)
	}
	return record(ctx, service, action, id, words, done)
}
