package e2e_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
)

// An inbox keeps what a server was sent.
type inbox struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	i.mu.Lock()
	defer i.mu.Unlock()
	fmt.Fprint(&i.text, r.URL, r.Header, string(body))
}

func (i *inbox) bytes() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return bytes.Clone(i.text.Bytes())
}

// TestCanaryOnEveryRoute plants secrets in messages and at every door, on a node that
// keeps no history and parks nothing, and looks for them in the answer of every route
// that it has, in what it sends to webhooks, in what its commands print and in a
// backup.
func TestCanaryOnEveryRoute(t *testing.T) {
	told := &inbox{}
	outside := httptest.NewServer(told)
	defer outside.Close()
	n := calmNode(t, func(c *app.Config) {
		c.Log.Level = "debug"
		c.Notify.AllowNetworks = []string{"127.0.0.1"}
		c.Notify.Targets = []app.NotifyTarget{{Name: "house", Kind: "webhook", URL: outside.URL + "/CANARYhookpath7f3a9c", Secret: "CANARYhooksecret7f3a9c-and-long-enough", Least: "warning"}}
	})
	var planted []marker
	mark := func(kind string) string {
		text := "CANARY" + strings.ToUpper(kind) + "7f3a9c"
		planted = append(planted, marker{kind, text})
		return text
	}
	planted = append(planted, marker{"path of a webhook", "CANARYhookpath7f3a9c"}, marker{"secret of a webhook", "CANARYhooksecret7f3a9c"}, marker{"key of tokens", testIssuer.Secret})
	payload, header, key, method, failure, note, wrong, password := mark("payload"), mark("header"), mark("key"), mark("method"), mark("failure"), mark("note"), mark("wrongtoken"), mark("password")

	// Messages of all kinds, and their failures.
	a, b := join(t, n, inJSON, "can/a"), join(t, n, inProtobuf, "can/b")
	body := obj{"data": raw(`{"secret":"` + payload + `"}`), "headers": obj{"h": header}, "key": key}
	with := func(field, name string) obj {
		fields := obj{field: name}
		for k, v := range body {
			fields[k] = v
		}
		return fields
	}
	send := with("to", "can/b")
	send["receipts"] = true
	a.ok(obj{"send": send})
	m := b.next("message").GetMessage()
	b.tell(obj{"receipt": obj{"id": m.Id, "state": "done", "note": note}})
	a.next("receipt")
	b.ok(obj{"subscribe": obj{"channel": "plain"}})
	body["key"] = key + "2"
	a.ok(obj{"publish": with("channel", "plain")})
	b.want("message")
	a.tell(obj{"id": a.number(), "request": obj{"to": "can/b", "method": method, "data": raw(`"` + payload + `"`)}})
	q := b.want("request").GetRequest()
	b.tell(obj{"reply": obj{"request": q.Request, "error": obj{"code": "no", "message": failure}}})
	a.next("reply")
	a.refused("agent_offline", obj{"send": obj{"to": "can/nobody", "data": raw(`"` + payload + `"`)}})
	a.refused("bad_frame", obj{"send": obj{"to": payload + "//", "data": raw(`"` + payload + `"`)}})
	bad := dialRaw(t, n.URL, inJSON)
	bad.refused("unauthorized", obj{"connect": obj{"token": wrong}})
	bad.wantClose(4000)
	admin := jwt(t, time.Hour, obj{"agents": "can/admin", "send": "**", "publish": "**", "subscribe": "**", "roles": "admin"})
	planted = append(planted, marker{"jwt", admin}, marker{"signature", admin[strings.LastIndex(admin, ".")+1:]},
		marker{"token of a", a.token}, marker{"token of b", b.token}, marker{"session of a", a.hello.Session}, marker{"session of b", b.hello.Session})
	// People: a session, a sign-in that fails, an account with a password.
	cookie := n.SignIn(account.Admin)
	desk := n.App.Desk()
	if _, err := desk.SignIn(t.Context(), "admin", password, account.Attempt{Address: "127.0.0.1"}); err == nil {
		t.Fatal("a wrong password opened a session")
	}
	if _, err := desk.SignIn(t.Context(), password, password, account.Attempt{Address: "127.0.0.1"}); err == nil { // in the wrong field
		t.Fatal("a wrong name opened a session")
	}
	if _, err := desk.Create(t.Context(), account.Spec{Name: "eve", Password: password, Role: account.Viewer}); err != nil {
		t.Fatal(err)
	}
	planted = append(planted, marker{"cookie", cookie.Value}, marker{"form token", account.FormToken(cookie.Value)})
	formless := slices.DeleteFunc(slices.Clone(planted), func(m marker) bool { return m.name == "form token" }) // pages hold it for their forms

	res, text := request(t, "POST", n.URL+"/v1/notify/house/test", admin, []byte(`{}`))
	if res.StatusCode != 200 {
		t.Fatalf("test of a notification: got %d %s", res.StatusCode, text)
	}
	n.within(t, patience, "a notification", func(*apptest.Node) bool { return len(told.bytes()) > 0 })

	// Every answer that there is.
	answered := 0
	for _, r := range n.App.Routes() {
		if r.Method != http.MethodGet || strings.HasSuffix(r.Path, "/ws") || strings.HasSuffix(r.Path, "/stream") || strings.HasSuffix(r.Path, "/live") {
			continue
		}
		parts := strings.Split(r.Path, "/")
		for i, p := range parts {
			switch {
			case p == ":namespace" || p == ":metric" || p == ":id" && (r.Path == "/v1/agents/:id/sessions" || r.Path == "/v1/agents/:id/trace"):
				parts[i] = "none" // an answer of this kind names what was asked for
			case strings.HasPrefix(p, ":"):
				parts[i] = wrong
			}
		}
		path, known := strings.Join(parts, "/"), planted
		if r.Page {
			known = formless
		}
		for name, headers := range map[string][]string{
			"nobody": {"Accept", "text/html"}, "a wrong token": {"Authorization", "Bearer " + wrong}, "an admin's token": {"Authorization", "Bearer " + admin},
			"an admin's browser": {"Accept", "text/html", "Cookie", cookie.Name + "=" + cookie.Value}, "an admin's spreadsheet": {"Accept", "text/csv", "Cookie", cookie.Name + "=" + cookie.Value},
		} {
			query := ""
			if !r.Page { // the links of a page keep what it was asked with
				query = "?token=" + wrong
			}
			res, text := request(t, "GET", n.URL+path+query, "", nil, headers...)
			answered++
			text = append(fmt.Append(nil, res.Header), text...)
			if found := findIn(known, text); len(found) > 0 {
				t.Errorf("GET %s by %s holds %v", r.Path, name, found)
			}
		}
	}
	if answered < 300 {
		t.Errorf("got %d answers, want those of every route to five callers", answered)
	}
	// What is told outside; the path and the signature's key are the webhook's own.
	others := slices.DeleteFunc(slices.Clone(planted), func(m marker) bool { return m.name == "path of a webhook" })
	if found := findIn(others, told.bytes()); len(found) > 0 {
		t.Errorf("a notification holds %v", found)
	}
	// What commands print, and a backup.
	for _, args := range [][]string{{"audit", "export"}, {"audit", "list", "--json"}, {"audit", "verify"}, {"log", "export", "--format", "json"}, {"log", "list"}, {"token", "list"}, {"admin", "list"}} {
		if found := findIn(planted, []byte(cli(t, append(args, "--data", n.Dir)...))); len(found) > 0 {
			t.Errorf("agentnet %s prints %v", strings.Join(args, " "), found)
		}
	}
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	cli(t, "backup", file, "--data", n.Dir)
	for name, text := range unpacked(t, file) {
		if found := findIn(planted, text); len(found) > 0 {
			t.Errorf("the backup's %s holds %v", name, found)
		}
	}
	a.leave()
	b.leave()
	if found := findIn(planted, []byte(n.Log())); len(found) > 0 {
		t.Errorf("the log holds %v", found)
	}
	t.Logf("%d answers, %d secrets", answered, len(planted))
}

// unpacked reads every file of a backup.
func unpacked(t testing.TB, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 3 {
		t.Errorf("the backup has %d files, want the database and more", len(files))
	}
	return files
}
