package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"agentnet/app/egress"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var here, _ = egress.ParseNetworks([]string{"127.0.0.0/8", "::1"})

// alert is a message with one alert that goes on and one that ended.
func alert() Message {
	began := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	m := Message{ID: "m-1", At: began.Add(4 * time.Minute), From: "prod", Group: "cpu", Link: "https://relay.example/alerts", Items: []Item{
		{Key: "cpu_critical", Rule: "cpu_critical", Severity: Critical, At: began.Add(30 * time.Second), Since: began, Value: "93.1% cpu", Threshold: "90% cpu",
			Why: "93.1% cpu is beyond 90% cpu for 30s", Response: "Increase instance size or count", Runbook: "capacity", Link: "https://relay.example/runbooks/capacity"},
		{Key: "memory_warning@n2", Rule: "memory_warning", Node: "n2", Resolved: true, At: began.Add(3 * time.Minute), Since: began, Why: "61% memory is on the good side"},
	}}
	m.settle()
	return m
}

// call is one request that a fake service got.
type call struct {
	path   string
	header http.Header
	body   []byte
}

// service answers every request as told and keeps it.
func service(t *testing.T, status int, answer string) (url string, calls func() []call) {
	t.Helper()
	got := make(chan call, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- call{r.Method + " " + r.URL.Path, r.Header, body}
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() (all []call) {
		for len(got) > 0 {
			all = append(all, <-got)
		}
		return all
	}
}

func deliver(t *testing.T, c Channel, m Message) (string, error) {
	t.Helper()
	if c.Name == "" {
		c.Name = "c"
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := NewText("")
	if err != nil {
		t.Fatal(err)
	}
	rules := egress.Rules{Allow: here}
	client := egress.New(egress.Config{Rules: rules})
	t.Cleanup(client.Close)
	return c.sender(client, rules, text).send(context.Background(), &m)
}

func TestWebhook(t *testing.T) {
	url, calls := service(t, 200, "thanks")
	const secret = "0123456789abcdef"
	answer, err := deliver(t, Channel{Kind: "webhook", URL: url + "/hook", Secret: secret, Token: "tok"}, alert())
	if err != nil || answer != "200 thanks" {
		t.Fatalf("got %q, %v", answer, err)
	}
	c := calls()[0]
	if c.path != "POST /hook" || c.header.Get("Content-Type") != "application/json" || c.header.Get(DeliveryHeader) != "m-1" || c.header.Get("Authorization") != "Bearer tok" {
		t.Errorf("got %s with %v", c.path, c.header)
	}
	if err := egress.Verify(secret, c.header.Get(SignatureHeader), c.body, time.Now()); err != nil {
		t.Errorf("the signature does not hold: %v", err)
	}
	var p Payload
	if err := json.Unmarshal(c.body, &p); err != nil {
		t.Fatal(err)
	}
	if p.Version != 1 || p.Status != "firing" || p.Severity != Critical || len(p.Items) != 2 || p.Items[0].Value != "93.1% cpu" {
		t.Errorf("got %+v", p)
	}
	if want := "CRITICAL: cpu_critical, 93.1% cpu, and 1 more (prod)"; p.Title != want {
		t.Errorf("title: got %q, want %q", p.Title, want)
	}
}

func TestNtfy(t *testing.T) {
	url, calls := service(t, 200, `{"id":"x"}`)
	m := alert()
	m.Items[0].Why = strings.Repeat("Überlauf ", 1000)
	if _, err := deliver(t, Channel{Kind: "ntfy", URL: url + "/base/relay-alerts", Token: "tk_x"}, m); err != nil {
		t.Fatal(err)
	}
	resolved := alert()
	resolved.Items = resolved.Items[1:]
	resolved.settle()
	if _, err := deliver(t, Channel{Kind: "ntfy", URL: url + "/relay-alerts", User: "u", Password: "p"}, resolved); err != nil {
		t.Fatal(err)
	}
	got := calls()
	var a, b struct {
		Topic, Title, Message, Click string
		Priority                     int
		Tags                         []string
	}
	if err := errors.Join(json.Unmarshal(got[0].body, &a), json.Unmarshal(got[1].body, &b)); err != nil {
		t.Fatal(err)
	}
	if got[0].path != "POST /base/" || a.Topic != "relay-alerts" || a.Priority != 5 || a.Click != m.Link || got[0].header.Get("Authorization") != "Bearer tk_x" {
		t.Errorf("got %s, %+v", got[0].path, a)
	}
	if len(a.Message) > maxNtfy || !strings.HasSuffix(a.Message, "…") {
		t.Errorf("message: got %d bytes, want at most %d, cut with a sign", len(a.Message), maxNtfy)
	}
	if got[1].path != "POST /" || b.Priority != 3 || b.Tags[0] != "white_check_mark" || got[1].header.Get("Authorization") != "Basic dTpw" {
		t.Errorf("got %s, %+v, %v", got[1].path, b, got[1].header)
	}
}

func TestGotify(t *testing.T) {
	url, calls := service(t, 200, `{"id":1}`)
	if _, err := deliver(t, Channel{Kind: "gotify", URL: url + "/", Token: "A.key"}, alert()); err != nil {
		t.Fatal(err)
	}
	c := calls()[0]
	var body struct {
		Title, Message string
		Priority       int
		Extras         map[string]map[string]any
	}
	if err := json.Unmarshal(c.body, &body); err != nil {
		t.Fatal(err)
	}
	if c.path != "POST /message" || c.header.Get("X-Gotify-Key") != "A.key" || body.Priority != 8 || !strings.Contains(body.Message, "What to do: Increase instance size or count") ||
		body.Extras["client::display"]["contentType"] != "text/plain" {
		t.Errorf("got %s, %+v", c.path, body)
	}
}

func TestAlertmanager(t *testing.T) {
	url, calls := service(t, 200, "")
	m := alert()
	if _, err := deliver(t, Channel{Kind: "alertmanager", URL: url + "/am", User: "u", Password: "p"}, m); err != nil {
		t.Fatal(err)
	}
	c := calls()[0]
	var alerts []alertmanagerAlert
	if err := json.Unmarshal(c.body, &alerts); err != nil {
		t.Fatal(err)
	}
	if c.path != "POST /am/api/v2/alerts" || len(alerts) != 2 {
		t.Fatalf("got %s, %+v", c.path, alerts)
	}
	on, off := alerts[0], alerts[1]
	if on.Labels["alertname"] != "cpu_critical" || on.Labels["severity"] != "critical" || on.Labels["source"] != "prod" || on.Annotations["runbook_url"] == "" ||
		!on.StartsAt.Equal(m.Items[0].Since) || !on.EndsAt.Equal(m.At.Add(4*time.Minute)) {
		t.Errorf("firing: got %+v", on)
	}
	if off.Labels["node"] != "n2" || !off.EndsAt.Equal(m.Items[1].At) {
		t.Errorf("resolved: got %+v", off)
	}
	// The same alert has the same labels in every message, or it would not resolve.
	again := m
	again.Group, again.Reminder = "reminder", true
	if _, err := deliver(t, Channel{Kind: "alertmanager", URL: url}, again); err != nil {
		t.Fatal(err)
	}
	var more []alertmanagerAlert
	if err := json.Unmarshal(calls()[0].body, &more); err != nil || fmt.Sprint(more[0].Labels) != fmt.Sprint(on.Labels) {
		t.Errorf("labels changed: got %v, want %v (%v)", more[0].Labels, on.Labels, err)
	}
}

func TestChannelFaultsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		want string
		c    Channel
	}{
		{"name:", Channel{Name: "a b", Kind: "webhook", URL: "https://x"}},
		{"kind:", Channel{Name: "a", Kind: "pigeon", URL: "https://x"}},
		{"url:", Channel{Name: "a", Kind: "webhook", URL: "file:///etc/passwd"}},
		{"url:", Channel{Name: "a", Kind: "webhook", URL: "https://user:pw@x"}},
		{"topic", Channel{Name: "a", Kind: "ntfy", URL: "https://x/"}},
		{"token:", Channel{Name: "a", Kind: "gotify", URL: "https://x"}},
		{"line end", Channel{Name: "a", Kind: "ntfy", URL: "https://x/t", Token: "a\r\nX: y"}},
		{"secret:", Channel{Name: "a", Kind: "webhook", URL: "https://x", Secret: "short"}},
		{"from:", Channel{Name: "a", Kind: "smtp", URL: "smtp://x", To: []string{"a@b.c"}}},
		{"to:", Channel{Name: "a", Kind: "smtp", URL: "smtp://x", From: "a@b.c"}},
		{"plain:", Channel{Name: "a", Kind: "smtp", URL: "smtp://x", From: "a@b.c", To: []string{"a@b.c"}, Plain: true, Password: "x"}},
		{"remind:", Channel{Name: "a", Kind: "webhook", URL: "https://x", Remind: time.Second}},
	} {
		if err := tt.c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want a fault of %q", tt.c, err, tt.want)
		}
	}
	_, err := New(Config{Logger: slog.New(slog.DiscardHandler), Channels: []Channel{{Name: "a", Kind: "webhook", URL: "https://x/s3cret?y=\x00"}, {Name: "b", Kind: "webhook", URL: "https://x"}, {Name: "b", Kind: "webhook", URL: "https://x"}}})
	if err == nil || !strings.Contains(err.Error(), `"b": given twice`) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v, want the second b named and no secret", err)
	}
}

// TestSecretsStayOut looks for secrets in what people see of a failing channel.
func TestSecretsStayOut(t *testing.T) {
	url, _ := service(t, 500, "broken")
	var log strings.Builder
	for _, target := range []string{url + "/s3cret-path", "http://127.0.0.1:1/s3cret-path"} {
		n, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Allow: here,
			Channels: []Channel{{Name: "w", Kind: "webhook", URL: target, Secret: "s3cret-s3cret-s3cret", Token: "s3cret-token"}}})
		if err != nil {
			t.Fatal(err)
		}
		d, err := n.Test(context.Background(), "w")
		if err != nil || d.Outcome != Failed || d.Fault == "" {
			t.Fatalf("got %+v, %v; want a failure", d, err)
		}
		n.client.Close()
		if text := fmt.Sprintf("%+v %+v %s", d, n.Channels(), log.String()); strings.Contains(text, "s3cret") {
			t.Errorf("a secret is told: %s", text)
		}
	}
}

func TestText(t *testing.T) {
	text, err := NewText("")
	if err != nil {
		t.Fatal(err)
	}
	m := alert()
	m.More = 3
	want := `CRITICAL  cpu_critical
What: 93.1% cpu is beyond 90% cpu for 30s
Since: 2026-03-02 10:00:00 UTC (4 min)
Value: 93.1% cpu; threshold: 90% cpu
What to do: Increase instance size or count
Runbook: https://relay.example/runbooks/capacity

RESOLVED  memory_warning@n2
What: 61% memory is on the good side
Lasted: 3 min, from 2026-03-02 10:00:00 UTC to 2026-03-02 10:03:00 UTC

And 3 more alerts.
All alerts: https://relay.example/alerts`
	if got := text.String(&m); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	own, err := NewText(`{{.Status}}: {{range .Items}}{{.Key}} {{end}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := own.String(&m); got != "firing: cpu_critical memory_warning@n2" {
		t.Errorf("own template: got %q", got)
	}
	for _, bad := range []string{"{{", "{{.Nothing}}", "{{template \"x\"}}"} {
		if _, err := NewText(bad); err == nil {
			t.Errorf("template %q was taken", bad)
		}
	}
	endless, err := NewText(`{{define "a"}}{{range .Items}}{{printf "%0100000d" 1}}{{end}}{{end}}{{template "a" .}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := endless.String(&m); len(got) > maxText {
		t.Errorf("a long text: got %d bytes, want at most %d", len(got), maxText)
	}
}

// TestClassOf holds what is stored of a fault: its kind, never its words.
func TestClassOf(t *testing.T) {
	for _, tt := range []struct {
		err    error
		answer string
		class  string
		status int
	}{
		{nil, "200 OK", "", 200},
		{nil, "204", "", 204},
		{nil, "2000 things", "", 0},
		{nil, "fine", "", 0},
		{&egress.Error{Status: 503, Reason: "secret words"}, "503 secret words", ClassRefused, 503},
		{fmt.Errorf("mail: %w", &textproto.Error{Code: 550, Msg: "no such user"}), "", ClassRefused, 550},
		{&egress.Error{Err: &net.DNSError{Name: "nowhere"}}, "", ClassName, 0},
		{&egress.Error{Err: context.DeadlineExceeded}, "", ClassTimeout, 0},
		{&egress.Error{Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}, "", ClassConnect, 0},
		{&egress.Error{Err: &tls.CertificateVerificationError{Err: errors.New("expired")}}, "", ClassTLS, 0},
		{&egress.Error{Err: egress.ErrAddress}, "", ClassAddress, 0},
		{egress.ErrOpen, "", ClassResting, 0},
		{context.Canceled, "", ClassStopped, 0},
		{errors.New("something else"), "", ClassOther, 0},
	} {
		if got := classOf(tt.err); got != tt.class {
			t.Errorf("class of %v: got %q, want %q", tt.err, got, tt.class)
		}
		if got := statusOf(tt.answer, tt.err); got != tt.status {
			t.Errorf("status of %q, %v: got %d, want %d", tt.answer, tt.err, got, tt.status)
		}
	}
}

// TestPastDeliveries goes on after a restart where the log stood.
func TestPastDeliveries(t *testing.T) {
	past := []Delivery{{ID: 812, Channel: "a", Rules: "cpu_warning", Outcome: Failed, Class: ClassTimeout}, {ID: 811, Channel: "a", Outcome: Sent}}
	n, err := New(Config{Logger: slog.New(slog.DiscardHandler), Past: past})
	if err != nil {
		t.Fatal(err)
	}
	n.record.add(Delivery{Channel: "a", Outcome: Sent})
	got := n.Deliveries(10)
	if len(got) != 3 || got[0].ID != 3 || got[1].Title != "cpu_warning" || got[1].Fault != ClassTimeout || got[2].Outcome != Sent {
		t.Errorf("got %+v", got)
	}
	if c := n.Counts()["a"]; c[Sent] != 1 || c[Failed] != 0 {
		t.Errorf("counts: got %v, want what was sent since the start", c)
	}
}
