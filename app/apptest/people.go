package apptest

import (
	"context"
	"net/http"
	"testing"

	"agentnet/app/account"
)

// Password is that of every account that Account makes.
const Password = "four words and more"

// Account makes an account unless there is one with the name.
func (n *Node) Account(name string, role account.Role) {
	n.t.Helper()
	desk := n.App.Desk()
	if _, err := desk.Account(context.Background(), name); err == nil {
		return
	}
	if _, err := desk.Create(context.Background(), account.Spec{Name: name, Password: Password, Role: role}); err != nil {
		n.t.Fatalf("make account %s: %v", name, err)
	}
}

// SignIn makes an account of the role's name, signs in and returns the cookie that
// a browser sends from then on.
func (n *Node) SignIn(role account.Role) *http.Cookie {
	n.t.Helper()
	n.Account(string(role), role)
	return SignIn(n.t, n, string(role))
}

// SignIn signs in to an account that Account made, as a browser would.
func SignIn(t testing.TB, n *Node, name string) *http.Cookie {
	t.Helper()
	ticket, err := n.App.Desk().SignIn(context.Background(), name, Password, account.Attempt{Address: "127.0.0.1", Browser: "test"})
	if err != nil {
		t.Fatalf("sign in as %s: %v", name, err)
	}
	return &http.Cookie{Name: "agentnet", Value: ticket.Session, Path: "/"}
}
