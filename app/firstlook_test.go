package app_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/app/apptest"
)

var formToken = regexp.MustCompile(`name="form" value="([^"]+)"`)

// TestFirstAdminSeesWhatIsWrong: Overview tells the first admin, and only admins, what
// the doctor found, with its fix, until it is put away; that holds over a restart.
func TestFirstAdminSeesWhatIsWrong(t *testing.T) {
	n := apptest.Start(t, nil)
	get := func(n *apptest.Node, cookie *http.Cookie) string {
		req, err := http.NewRequest(http.MethodGet, n.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		req.AddCookie(cookie)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("got %d, %v", resp.StatusCode, err)
		}
		return string(body)
	}
	const head = `id="h-first"`
	admin, operator := n.SignIn(account.Admin), n.SignIn(account.Operator)
	var body string
	for deadline := time.Now().Add(45 * time.Second); !strings.Contains(body, head); time.Sleep(100 * time.Millisecond) {
		if body = get(n, admin); time.Now().After(deadline) {
			t.Fatal("a node without a public URL and a certificate has findings, none was shown")
		}
	}
	if !regexp.MustCompile(`(?s)class="first-look".*<dt>.*<dd>[^<]{10,}</dd>`).MatchString(body) {
		t.Errorf("got no finding with its fix: %.2000s", body[strings.Index(body, head):])
	}
	if strings.Contains(get(n, operator), head) {
		t.Error("an operator is shown what only admins can mend")
	}
	token := formToken.FindStringSubmatch(body)
	if token == nil {
		t.Fatal("got no form")
	}
	req, err := http.NewRequest(http.MethodPost, n.URL+"/first/away", strings.NewReader(url.Values{"form": {token[1]}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.AddCookie(admin)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if strings.Contains(get(n, admin), head) {
		t.Error("got it again after it was put away")
	}
	n = n.Restart(func(*app.Config) {})
	admin = n.SignIn(account.Admin)
	if strings.Contains(get(n, admin), head) {
		t.Error("got it again after a restart")
	}
}
