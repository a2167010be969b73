package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/store"
)

// adminCommands are `agentnet admin …`. They work on the data directory, beside a
// running server and before the first one.
type adminCommands struct {
	Create  adminCreate  `cmd:"" help:"Make an account; without a password it prints a one-time link that sets one."`
	List    adminList    `cmd:"" help:"List accounts."`
	Reset   adminReset   `cmd:"" help:"Print a one-time link that sets a new password and end all sessions; without a name, the link that makes the first admin."`
	Disable adminDisable `cmd:"" help:"Keep an account out and end its sessions at once."`
	Enable  adminEnable  `cmd:"" help:"Let a disabled account in again."`
	Role    adminRole    `cmd:"" help:"Give an account another role."`
	Delete  adminDelete  `cmd:"" help:"Delete an account and end its sessions."`
}

type adminCreate struct {
	dataFlag
	Name         string `arg:"" help:"Name of the account."`
	Role         string `default:"admin" enum:"viewer,operator,admin" help:"${enum}."`
	PasswordFile string `placeholder:"FILE" help:"File with the password; - reads it from standard input."`
	IfMissing    bool   `help:"Do nothing, with success, when the account exists."`
	JSON         bool   `name:"json" help:"Print JSON."`
}

type adminList struct {
	dataFlag
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

type adminReset struct {
	dataFlag
	Name string `arg:"" optional:"" help:"Name of the account."`
	JSON bool   `name:"json" help:"Print JSON."`
}

type adminDisable struct {
	dataFlag
	Name string `arg:"" help:"Name of the account."`
}

type adminEnable struct {
	dataFlag
	Name string `arg:"" help:"Name of the account."`
}

type adminRole struct {
	dataFlag
	Name string `arg:"" help:"Name of the account."`
	Role string `arg:"" enum:"viewer,operator,admin" help:"${enum}."`
}

type adminDelete struct {
	dataFlag
	Name string `arg:"" help:"Name of the account."`
}

// people are the accounts of a data directory for the time of one command.
type people struct {
	*account.Service
	db  *store.Store
	env *Env
}

// people opens the accounts of the data directory for the time of f.
func (d *dataFlag) people(ctx context.Context, env *Env, create bool, f func(people) error) error {
	return d.database(ctx, env, create, func(db *store.Store, log *slog.Logger) error {
		service, err := account.New(account.Config{Rows: db, Node: nodeOf(db.Dir()), Logger: log})
		if err != nil {
			return err
		}
		return f(people{service, db, env})
	})
}

// record writes what a command did into the audit log.
func (p people) record(ctx context.Context, action, target, detail string, done error) error {
	return record(ctx, p.Service, action, target, detail, done)
}

// record writes what a command did, and what came of it, into the audit log. It
// returns what went wrong first.
func record(ctx context.Context, service *account.Service, action, target, detail string, done error) error {
	e := account.Entry{Actor: "system:" + systemUser(), Role: account.Admin, Via: account.ViaCommand, Action: action, Target: target, Outcome: account.Done, Detail: detail}
	if done != nil {
		e.Outcome = account.Failed
		if wasRefused(done) {
			e.Outcome, e.Detail = account.Refused, done.Error()
		}
	}
	return errors.Join(done, service.Record(ctx, e))
}

func wasRefused(err error) bool {
	if _, ok := errors.AsType[*account.Invalid](err); ok {
		return true
	}
	return errors.Is(err, account.ErrNotFound) || errors.Is(err, account.ErrExists) || errors.Is(err, account.ErrLastAdmin)
}

func systemUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// link writes where a one-time link leads, with the server's address if one ever
// ran on this data.
func (p people) link(ctx context.Context, secret string) string {
	path := "/setup/" + secret
	if at, _, err := p.db.Setting(ctx, app.ServerURL); err == nil {
		return reachable(at) + path
	}
	return path
}

func (p people) printLink(ctx context.Context, asJSON bool, name, secret string) error {
	link := p.link(ctx, secret)
	if asJSON {
		return printJSON(p.env.Stdout, map[string]string{"account": name, "link": link})
	}
	if strings.HasPrefix(link, "/") {
		fmt.Fprintln(p.env.Stderr, "open this below the address of the server; it is good once, for 24 hours")
	} else {
		fmt.Fprintln(p.env.Stderr, "open this link; it is good once, for 24 hours")
	}
	_, err := fmt.Fprintln(p.env.Stdout, link)
	return err
}

// Run makes an account.
func (c *adminCreate) Run(ctx context.Context, env *Env) error {
	password, err := readPassword(env, c.PasswordFile)
	if err != nil {
		return err
	}
	return c.people(ctx, env, true, func(p people) error {
		made, err := p.Create(ctx, account.Spec{Name: c.Name, Password: password, Role: account.Role(c.Role)})
		if errors.Is(err, account.ErrExists) && c.IfMissing {
			fmt.Fprintf(env.Stderr, "%s exists already: nothing was changed, and the password was not looked at\n", account.FoldName(c.Name))
			return nil
		}
		if err = p.record(ctx, "account.create", account.FoldName(c.Name), "role "+c.Role, err); err != nil {
			return err
		}
		if password != "" {
			if c.JSON {
				return printJSON(env.Stdout, map[string]string{"account": made.Name})
			}
			_, err := fmt.Fprintf(env.Stdout, "created %s, %s\n", made.Name, made.Role)
			return err
		}
		secret, err := p.ResetLink(ctx, made.Name)
		if err != nil {
			return err
		}
		return p.printLink(ctx, c.JSON, made.Name, secret)
	})
}

// readPassword reads the first line of a file.
func readPassword(env *Env, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	var from io.Reader = env.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("password: %w", err)
		}
		defer f.Close()
		from = f
	}
	line, err := bufio.NewReader(io.LimitReader(from, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", usagef("the password file %s is empty", file)
	}
	return line, nil
}

// accountJSON is a line of `admin list --json`.
type accountJSON struct {
	Name         string     `json:"name"`
	Role         string     `json:"role"`
	Disabled     bool       `json:"disabled"`
	Password     bool       `json:"password"`
	SecondFactor bool       `json:"second_factor"`
	Outside      string     `json:"outside,omitempty"`
	Created      time.Time  `json:"created"`
	LastSignIn   *time.Time `json:"last_sign_in,omitempty"`
}

// Run lists accounts by name.
func (c *adminList) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) error {
		table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(table, "NAME\tROLE\tSTATE\tSECOND FACTOR\tCREATED\tLAST SIGN-IN")
		}
		for after := ""; ; {
			page, err := p.Accounts(ctx, after, 500)
			if err != nil {
				return err
			}
			for _, a := range page {
				if c.JSON {
					err = printJSON(env.Stdout, accountLine(a))
				} else {
					_, err = fmt.Fprintln(table, accountRow(a))
				}
				if err != nil {
					return fmt.Errorf("output: %w", err)
				}
			}
			if len(page) < 500 {
				return table.Flush()
			}
			after = page[len(page)-1].Name
		}
	})
}

func accountLine(a account.Account) accountJSON {
	line := accountJSON{Name: a.Name, Role: string(a.Role), Disabled: a.Disabled, Password: a.Password != "", SecondFactor: a.Second != "", Outside: a.Outside, Created: a.Created}
	if !a.LastSeen.IsZero() {
		line.LastSignIn = &a.LastSeen
	}
	return line
}

func accountRow(a account.Account) string {
	state := "active"
	switch {
	case a.Disabled:
		state = "disabled"
	case a.Password == "" && a.Outside == "":
		state = "waits for its link"
	}
	second := "-"
	if a.Second != "" {
		second = "on"
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Local().Format("2006-01-02 15:04")
	}
	return strings.Join([]string{a.Name, string(a.Role), state, second, at(a.Created), at(a.LastSeen)}, "\t")
}

// Run prints a link.
func (c *adminReset) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, c.Name == "", func(p people) error {
		if c.Name != "" {
			secret, err := p.ResetLink(ctx, c.Name)
			if err = p.record(ctx, "account.reset", account.FoldName(c.Name), "a one-time link was made", err); err != nil {
				return err
			}
			return p.printLink(ctx, c.JSON, account.FoldName(c.Name), secret)
		}
		secret, err := p.FirstLink(ctx)
		if err == nil && secret == "" {
			return usagef("admin reset: there is an admin already: say whose password is lost, see agentnet admin list")
		}
		if err = p.record(ctx, "setup.link", "", "a link for the first admin was made", err); err != nil {
			return err
		}
		return p.printLink(ctx, c.JSON, "", secret)
	})
}

// Run keeps an account out.
func (c *adminDisable) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) error {
		return p.did(ctx, "account.disable", c.Name, "", p.SetDisabled(ctx, c.Name, true), "disabled")
	})
}

// Run lets an account in again.
func (c *adminEnable) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) error {
		return p.did(ctx, "account.enable", c.Name, "", p.SetDisabled(ctx, c.Name, false), "enabled")
	})
}

// Run gives an account another role.
func (c *adminRole) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) error {
		before, err := p.SetRole(ctx, c.Name, account.Role(c.Role))
		return p.did(ctx, "account.role", c.Name, string(before)+" to "+c.Role, err, c.Role)
	})
}

// Run deletes an account.
func (c *adminDelete) Run(ctx context.Context, env *Env) error {
	return c.people(ctx, env, false, func(p people) error {
		return p.did(ctx, "account.delete", c.Name, "", p.Service.Delete(ctx, c.Name), "deleted")
	})
}

// did records a change and prints what was done.
func (p people) did(ctx context.Context, action, name, detail string, err error, word string) error {
	if err = p.record(ctx, action, account.FoldName(name), detail, err); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.env.Stdout, word)
	return err
}

// announceSetup tells how to make the first admin, once: on a terminal, else in
// the log.
func announceSetup(env *Env, node Node, cfg app.Config, base string, terminal bool, log *slog.Logger) {
	first, ok := node.(interface{ SetupPath() string })
	if !ok || first.SetupPath() == "" {
		return
	}
	link := strings.TrimSuffix(reachable(base), cfg.BasePath) + first.SetupPath()
	if cfg.PublicURL != "" {
		link = strings.TrimSuffix(strings.TrimSuffix(cfg.PublicURL, "/"), cfg.BasePath) + first.SetupPath()
	}
	if terminal {
		fmt.Fprintf(env.Stdout, "The dashboard has no admin yet. This link makes the first one; it is good once, for 24 hours:\n  %s\n\n", link)
		return
	}
	log.Warn("the dashboard has no admin yet: open this link to make one, it is good once and for 24 hours", "link", link)
}
