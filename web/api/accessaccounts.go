package api

import (
	"net/http"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// AccountsQuery pages accounts.
type AccountsQuery struct {
	After  string `query:"after" doc:"The next of the page before."`
	Limit  int    `query:"limit" doc:"Entries on a page." default:"100" min:"1" max:"1000"`
	Format string `query:"format" enum:"json,csv"`
}

// AccountsReply is one page of accounts.
type AccountsReply struct {
	Accounts []Account `json:"accounts"`
	Next     string    `json:"next,omitempty" doc:"The after of the next page; absent on the last."`
}

// An Account is one person who may sign in.
type Account struct {
	Name         string     `json:"name"`
	Role         string     `json:"role" enum:"viewer,operator,admin"`
	Disabled     bool       `json:"disabled"`
	Password     bool       `json:"password" doc:"Has a password; else a link or somebody outside lets them in."`
	SecondFactor bool       `json:"second_factor"`
	Outside      string     `json:"outside,omitempty" doc:"Who vouches for the person instead of a password."`
	Created      *time.Time `json:"created"`
	LastSignIn   *time.Time `json:"last_sign_in,omitempty" doc:"On this node."`
}

func accountOf(a *account.Account) Account {
	return Account{Name: a.Name, Role: string(a.Role), Disabled: a.Disabled, Password: a.Password != "", SecondFactor: a.Second != "",
		Outside: a.Outside, Created: when(a.Created), LastSignIn: when(a.LastSeen)}
}

func (a *API) accounts(c *fiber.Ctx, _ *relay.Identity) error {
	limit, err := number(c, "limit", listLimit, 1, maxListLimit)
	if err != nil {
		return err
	}
	found, err := a.cfg.Access.Accounts(c.UserContext(), c.Query("after"), limit)
	if err != nil {
		return asWire(err)
	}
	if asTable(c) {
		yes := map[bool]string{true: "yes", false: "no"}
		rows := [][]string{{"name", "role", "disabled", "password", "second_factor", "outside", "created", "last_sign_in"}}
		for _, p := range found {
			rows = append(rows, []string{p.Name, string(p.Role), yes[p.Disabled], yes[p.Password != ""], yes[p.Second != ""], p.Outside, cell(p.Created), cell(p.LastSeen)})
		}
		return writeTable(c, "accounts", rows)
	}
	reply := AccountsReply{Accounts: make([]Account, len(found))}
	for i := range found {
		reply.Accounts[i] = accountOf(&found[i])
	}
	if len(found) == limit {
		reply.Next = found[limit-1].Name
	}
	return writeJSON(c, http.StatusOK, reply)
}

// AccountBody describes an account that is to be made.
type AccountBody struct {
	Name     string `json:"name" doc:"1 to 64 of a-z 0-9 . _ @ + -; it never changes."`
	Role     string `json:"role" enum:"viewer,operator,admin"`
	Password string `json:"password,omitempty" doc:"10 characters or more. Absent: the answer has a link that sets it."`
}

// AccountReply is an account, with a link that sets its password where it has none.
type AccountReply struct {
	Account Account `json:"account"`
	Link    string  `json:"link,omitempty" doc:"Path of a page that sets the password; good once, for 24 hours."`
}

// LinkPath is where a link with this secret leads, below the base path.
func LinkPath(base, secret string) string { return base + "/setup/" + secret }

func (a *API) createAccount(c *fiber.Ctx, _ *relay.Identity) error {
	var body AccountBody
	if err := readBody(c, &body); err != nil {
		return err
	}
	note(c, account.FoldName(body.Name), "role "+body.Role)
	made, err := a.cfg.Access.Create(c.UserContext(), account.Spec{Name: body.Name, Role: account.Role(body.Role), Password: body.Password})
	if err != nil {
		return asWire(err)
	}
	reply := AccountReply{Account: accountOf(&made)}
	if body.Password == "" {
		secret, err := a.cfg.Access.ResetLink(c.UserContext(), made.Name)
		if err != nil {
			return asWire(err)
		}
		reply.Link = LinkPath(a.cfg.Base, secret)
	}
	return writeJSON(c, http.StatusOK, reply)
}

// AccountChange holds what is to change; what is absent stays.
type AccountChange struct {
	Role     *string `json:"role,omitempty" enum:"viewer,operator,admin"`
	Disabled *bool   `json:"disabled,omitempty" doc:"True keeps it out and ends its sessions at once."`
}

func (a *API) changeAccount(c *fiber.Ctx, _ *relay.Identity) error {
	var body AccountChange
	if err := readBody(c, &body); err != nil {
		return err
	}
	name, words := account.FoldName(c.Params("name")), []string{}
	note(c, name, "")
	if body.Role == nil && body.Disabled == nil {
		return &wire.Error{Code: wire.BadFrame, Message: "nothing to change: give role or disabled"}
	}
	if body.Role != nil {
		before, err := a.cfg.Access.SetRole(c.UserContext(), name, account.Role(*body.Role))
		if err != nil {
			return asWire(err)
		}
		words = append(words, "role "+string(before)+" to "+*body.Role)
		note(c, name, strings.Join(words, "; "))
	}
	if body.Disabled != nil {
		if err := a.cfg.Access.SetDisabled(c.UserContext(), name, *body.Disabled); err != nil {
			return asWire(err)
		}
		words = append(words, map[bool]string{true: "disabled", false: "enabled"}[*body.Disabled])
		note(c, name, strings.Join(words, "; "))
	}
	now, err := a.cfg.Access.Account(c.UserContext(), name)
	if err != nil {
		return asWire(err)
	}
	return writeJSON(c, http.StatusOK, accountOf(&now))
}

func (a *API) resetAccount(c *fiber.Ctx, _ *relay.Identity) error {
	name := account.FoldName(c.Params("name"))
	note(c, name, "")
	secret, err := a.cfg.Access.ResetLink(c.UserContext(), name)
	if err != nil {
		return asWire(err)
	}
	now, err := a.cfg.Access.Account(c.UserContext(), name)
	if err != nil {
		return asWire(err)
	}
	return writeJSON(c, http.StatusOK, AccountReply{Account: accountOf(&now), Link: LinkPath(a.cfg.Base, secret)})
}

func (a *API) deleteAccount(c *fiber.Ctx, _ *relay.Identity) error {
	name := account.FoldName(c.Params("name"))
	note(c, name, "")
	if err := a.cfg.Access.Delete(c.UserContext(), name); err != nil {
		return asWire(err)
	}
	return writeJSON(c, http.StatusOK, DoneReply{true})
}
