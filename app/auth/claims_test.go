package auth

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"agentnet/app/relay"
	"agentnet/app/wire"
)

func TestSubjectNames(t *testing.T) {
	for sub, want := range map[string]string{
		"uid-1":                       "uid-1",
		"anna@mail.example":           "anna@mail.example",
		"auth0|5f7c8ec7c33c6c004bbaf": "auth0:7C5f7c8ec7c33c6c004bbaf",
		"system:serviceaccount:ns:a":  "system:serviceaccount:ns:a",
		"a/b":                         "a:2Fb",
		"**":                          ":2A:2A",
		"{sub}":                       ":7Bsub:7D",
		"ü":                           ":C3:BC",
		"a:2Fb":                       "a:3A2Fb",
		"a:":                          "a:",
		"..":                          "..",
		"\x00\n":                      ":00:0A",
		strings.Repeat("x", 100):      strings.Repeat("x", 100),
	} {
		got, err := subjectName(sub)
		if got != want || err != nil || !wire.ValidAgent(got) || !wire.ValidChannel(got) {
			t.Errorf("%q: got %q, %v, want %q, which is a name", sub, got, err, want)
		}
	}
	for _, sub := range []string{"", strings.Repeat("x", 101), strings.Repeat("|", 34), strings.Repeat("|", 1<<20)} {
		if got, err := subjectName(sub); err == nil {
			t.Errorf("%.40q: got %.40q", sub, got)
		}
	}
}

// subjectOf undoes subjectName. That it can shows that no two subjects share a name.
func subjectOf(name string) string {
	var b []byte
	for i := 0; i < len(name); i++ {
		if name[i] == ':' && i+2 < len(name) && upperHex(name[i+1]) && upperHex(name[i+2]) {
			hex := func(c byte) byte { return byte(strings.IndexByte("0123456789ABCDEF", c)) }
			b = append(b, hex(name[i+1])<<4|hex(name[i+2]))
			i += 2
			continue
		}
		b = append(b, name[i])
	}
	return string(b)
}

func FuzzSubjectName(f *testing.F) {
	for _, s := range []string{"a", "a:2F", ":", "::7C", "|", ":A|", "a/b", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sub string) {
		name, err := subjectName(sub)
		if err != nil {
			return
		}
		if !wire.ValidAgent(name+"/x") || strings.Contains(name, "/") {
			t.Errorf("%q became %q, which is not one part of a name", sub, name)
		}
		if back := subjectOf(name); back != sub {
			t.Errorf("%q became %q, which reads as %q", sub, name, back)
		}
		g, err := DefaultTemplate().forSubject(sub)
		if err != nil {
			t.Fatalf("%q: %v", sub, err)
		}
		id, err := g.identity()
		if err != nil || !id.Agents.Match(name) || !id.Agents.Match(name+"/x") || id.Agents.Match(name+"x") || id.Agents.Match("other") != (name == "other") {
			t.Errorf("%q: the identity covers something else: %v, %v", sub, g.Agents, err)
		}
	})
}

func TestGrantsOfAToken(t *testing.T) {
	clk := newClock()
	secret := bytes.Repeat([]byte("k"), 32)
	usual := Issuer{Secret: secret}
	custom := Issuer{Secret: secret, Claim: "https://example.com/agentnet", Template: &Grants{Agents: []string{"bots/{sub}"}, Send: []string{"desk/*"}, Roles: []string{RoleViewer}}}
	type list = []string
	obj := func(pairs ...any) map[string]any { return with(nil, pairs...) }
	for _, c := range []struct {
		name   string
		issuer Issuer
		claims map[string]any
		want   *Grants // nil: refused
	}{
		{"template", usual, obj("sub", "u"), &Grants{Agents: list{"u", "u/**"}, Send: list{"**"}, Subscribe: list{"u", "u/**"}, Publish: list{"u", "u/**"}}},
		{"own template", custom, obj("sub", "u"), &Grants{Agents: list{"bots/u"}, Send: list{"desk/*"}, Roles: list{RoleViewer}}},
		{"claim is null", usual, obj("sub", "u", "agentnet", nil), &Grants{Agents: list{"u", "u/**"}, Send: list{"**"}, Subscribe: list{"u", "u/**"}, Publish: list{"u", "u/**"}}},
		{"claim", usual, obj("sub", "u", "agentnet", obj("agents", list{"a/*", "b"}, "publish", "c/**")), &Grants{Agents: list{"a/*", "b"}, Publish: list{"c/**"}}},
		{"claim without subject", usual, obj("agentnet", obj("agents", list{"a"})), &Grants{Agents: list{"a"}}},
		{"claim with a role only", usual, obj("sub", "u", "agentnet", obj("roles", list{"admin"})), &Grants{Roles: list{"admin"}}},
		{"claim of another name", custom, obj("sub", "u", "https://example.com/agentnet", obj("agents", "x")), &Grants{Agents: list{"x"}}},
		{"unknown fields", usual, obj("agentnet", obj("agents", "a", "tenant", 7)), &Grants{Agents: list{"a"}}},
		{"no subject", usual, obj(), nil},
		{"claim is empty", usual, obj("sub", "u", "agentnet", obj()), nil},
		{"claim is a list", usual, obj("sub", "u", "agentnet", list{"a"}), nil},
		{"claim is text", usual, obj("sub", "u", "agentnet", "**"), nil},
		{"agents is an object", usual, obj("sub", "u", "agentnet", obj("agents", obj("a", "b"))), nil},
		{"agents holds numbers", usual, obj("sub", "u", "agentnet", obj("agents", []any{1})), nil},
		{"bad glob", usual, obj("sub", "u", "agentnet", obj("agents", list{"a//b"})), nil},
		{"glob with a line end", usual, obj("sub", "u", "agentnet", obj("agents", list{"a\r\nb"})), nil},
		{"unknown role", usual, obj("sub", "u", "agentnet", obj("agents", "a", "roles", list{"root"})), nil},
		{"65 globs", usual, obj("sub", "u", "agentnet", obj("agents", slices.Repeat(list{"a"}, 65))), nil},
		{"the subject is not put into a claim", usual, obj("sub", "u", "agentnet", obj("agents", "{sub}")), nil},
	} {
		s := newService(t, Config{Now: clk.now, Issuers: []Issuer{c.issuer}})
		id, err := authorize(t, s, sign(t, HS256, secret, nil, with(c.claims, "exp", clk.now().Unix()+60)))
		if c.want == nil {
			bare(t, c.name, err, relay.ErrUnauthorized)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := Grants{id.Agents.Strings(), id.Send.Strings(), id.Subscribe.Strings(), id.Publish.Strings(), id.Roles}
		for i, pair := range [][2]list{{got.Agents, c.want.Agents}, {got.Send, c.want.Send}, {got.Subscribe, c.want.Subscribe}, {got.Publish, c.want.Publish}, {got.Roles, c.want.Roles}} {
			if !slices.Equal(pair[0], pair[1]) {
				t.Errorf("%s: list %d: got %q, want %q", c.name, i, pair[0], pair[1])
			}
		}
	}
}
