package dash

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
	"agentnet/web/static"

	"github.com/gofiber/fiber/v2"
)

// fakeRelay adds agents and channels to the node.
type fakeRelay struct {
	fakeNode
	sessions []relay.SessionInfo
	channels []relay.ChannelInfo
	missing  []string // nodes that do not answer
	ended    []string
}

func (f *fakeRelay) Census(channels bool, match func(string) bool) (out []relay.SessionInfo) {
	for _, s := range f.sessions {
		if match == nil || match(s.Agent) {
			out = append(out, s)
		}
	}
	return out
}

func (f *fakeRelay) Channels(context.Context, *relay.Identity, string, string, int) ([]relay.ChannelInfo, relay.Page, error) {
	return append([]relay.ChannelInfo(nil), f.channels...), relay.Page{Partial: len(f.missing) > 0, Missing: f.missing}, nil
}

func (f *fakeRelay) Disconnect(agent, _ string) int {
	f.ended = append(f.ended, agent)
	return 1
}

func newBoard(t *testing.T, node *fakeRelay, role Role, change ...func(*BoardConfig)) (*Board, string) {
	t.Helper()
	files, err := static.New("/static")
	if err != nil {
		t.Fatal(err)
	}
	cfg := BoardConfig{Page: newPage(t, &node.fakeNode), Relay: node, Files: files, Name: "n1", Logger: slog.New(slog.DiscardHandler),
		Who: func(*fiber.Ctx) Visitor { return Visitor{Name: "ada", Role: role, Token: "secretform"} }}
	for _, f := range change {
		f(&cfg)
	}
	b, err := NewBoard(cfg)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	for _, r := range b.Routes() {
		app.Add(r.Method, r.Path, r.Handler)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln) }()
	t.Cleanup(func() {
		b.Close()
		if err := app.ShutdownWithTimeout(5 * time.Second); err != nil {
			t.Error(err)
		}
		_ = ln.Close() // when the server had not begun yet, it would not end by itself
		<-served
	})
	return b, "http://" + ln.Addr().String()
}

func read(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// events reads a stream's events until the one named.
func events(t *testing.T, r *bufio.Reader, until string) map[string]string {
	t.Helper()
	out, name := map[string]string{}, ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended: %v, after %v", err, out)
		}
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			out[name] += line[6:]
		case line == "" && name == until:
			return out
		}
	}
}

func TestStreamSendsAllOnceAndThenWhatChanges(t *testing.T) {
	node := &fakeRelay{}
	b, url := newBoard(t, node, Viewer)
	resp, err := http.Get(url + "/live?page=/agents")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Errorf("got media type %q", got)
	}
	r := bufio.NewReader(resp.Body)
	b.stream.round()
	first := events(t, r, "tick")
	for _, want := range []string{"agents-lead", "agents-rows", "top-bell", "top-state", "title"} {
		if first[want] == "" {
			t.Errorf("got no %s in the first events", want)
		}
	}
	for i := range 4 {
		b.stream.round()
		if again := events(t, r, "tick"); len(again) != 1 {
			t.Errorf("round %d: got %d events although nothing changed, want the tick alone: %v", i, len(again), again)
		}
	}
	b.Close()
	if last := events(t, r, "bye"); last["bye"] != "stopped" {
		t.Errorf("got %v at the end, want bye", last)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 { // the viewer has left when its connection ends
		t.Errorf("after the end: got %q and %v, want the end of the connection", rest, err)
	}
	if got := b.Streams(); got.Ended["stopped"] != 1 || got.Viewers != 0 {
		t.Errorf("got %+v, want the viewer to have left", got)
	}
	if resp, err := http.Get(url + "/live?page=/agents"); err == nil {
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Error("a stream was opened after the end")
		}
	}
}

func TestManyViewersAreRenderedOnce(t *testing.T) {
	b, _ := newBoard(t, &fakeRelay{}, Viewer)
	r := &request{path: "/", zone: time.UTC, who: Visitor{Role: Viewer}}
	var viewers []*viewer
	for range 200 {
		v, _, err := b.stream.join(r)
		if err != nil {
			t.Fatal(err)
		}
		viewers = append(viewers, v)
	}
	b.stream.round()
	if got := b.Streams(); got.Topics != 1 || got.Viewers != 200 || got.Renders > 10 {
		t.Errorf("got %+v, want one topic that is rendered once", got)
	}
	var first []byte
	for i, v := range viewers {
		select {
		case p := <-v.out:
			if first == nil {
				first = p
			}
			if &p[0] != &first[0] {
				t.Fatalf("viewer %d got bytes of its own", i)
			}
		default:
			t.Fatalf("viewer %d got nothing", i)
		}
	}
}

func TestSlowViewersAreSentAway(t *testing.T) {
	b, _ := newBoard(t, &fakeRelay{}, Viewer)
	v, topic, err := b.stream.join(&request{path: "/", zone: time.UTC, who: Visitor{Role: Viewer}})
	if err != nil {
		t.Fatal(err)
	}
	for range viewerQueue + 1 {
		b.stream.round()
	}
	select {
	case <-v.done:
	default:
		t.Fatal("a viewer that reads nothing was kept")
	}
	b.stream.leave(topic, v, v.why)
	b.stream.leave(topic, v, v.why) // only the first counts
	if got := b.Streams(); got.Ended["slow"] != 1 || got.Viewers != 0 || got.Topics != 0 {
		t.Errorf("got %+v, want one slow viewer gone and nothing left", got)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	b, _ := newBoard(t, &fakeRelay{}, Viewer, func(c *BoardConfig) { c.Viewers = maxTopics + 1 })
	for i := range maxTopics {
		if _, _, err := b.stream.join(&request{path: "/", zone: time.UTC, query: url.Values{"q": {fmt.Sprint(i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.stream.join(&request{path: "/agents", zone: time.UTC}); err == nil {
		t.Error("one more topic was taken")
	}
	if _, _, err := b.stream.join(&request{path: "/", zone: time.UTC, query: url.Values{"q": {"1"}}}); err != nil {
		t.Errorf("a viewer of a known topic was refused: %v", err)
	}
	if _, _, err := b.stream.join(&request{path: "/", zone: time.UTC, query: url.Values{"q": {"1"}}}); err == nil {
		t.Error("one more viewer was taken")
	}
	if got := b.Streams().Refused; got["topics"] != 1 || got["viewers"] != 1 {
		t.Errorf("got %v, want one refused for each bound", got)
	}
}

func TestSignedOutViewersAreSentAway(t *testing.T) {
	b, url := newBoard(t, &fakeRelay{}, Viewer, func(c *BoardConfig) {
		c.Who = func(*fiber.Ctx) Visitor { return Visitor{Role: Viewer, Still: func() bool { return false }} }
	})
	resp, err := http.Get(url + "/live?page=/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			b.stream.round()
			time.Sleep(time.Millisecond) // the pace of the rounds, not a wait for something
		}
	}()
	if got := events(t, r, "bye"); !strings.Contains(got["bye"], "signed out") && got["bye"] != "slow" {
		t.Errorf("got %q, want a viewer without a session to be sent away", got["bye"])
	}
}

const evilName = `=cmd|' /C'!A0"><script>alert(1)</script>`

func evilRelay() *fakeRelay {
	return &fakeRelay{
		sessions: []relay.SessionInfo{{Agent: evilName, Connected: true, State: wire.Available, Subject: evilName, Token: evilName, Since: time.Now(), Channels: []string{evilName}}},
		channels: []relay.ChannelInfo{{Channel: evilName, PerSecond: 5, Subscribers: 2}},
	}
}

func TestNamesAreNeverMarkup(t *testing.T) {
	node := evilRelay()
	node.stats.Node, node.stats.Region = evilName, evilName
	b, at := newBoard(t, node, Admin)
	for path := range b.shown {
		for _, query := range []string{"", "?q=" + url.QueryEscape(evilName), "?agent=" + url.QueryEscape(evilName), "?said=" + url.QueryEscape(evilName), "?rule=" + url.QueryEscape(evilName) + "&node=" + url.QueryEscape(evilName)} {
			status, body := read(t, at+path+query)
			if status != 200 {
				t.Errorf("%s%s: got %d", path, query, status)
			}
			if strings.Contains(body, "<script>alert") {
				t.Errorf("%s%s: a name became markup", path, query)
			}
			for _, inline := range []string{" style=", "<style", "onclick=", "javascript:"} {
				if strings.Contains(body, inline) {
					t.Errorf("%s: the page has %q, which the content policy forbids", path, inline)
				}
			}
		}
	}
}

func TestEveryListIsATable(t *testing.T) {
	b, at := newBoard(t, evilRelay(), Viewer)
	for path := range b.tables() {
		if path == "/simulator" {
			continue // has rows for a simulation only
		}
		status, body := read(t, at+path+".csv")
		rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
		if status != 200 || err != nil || len(rows) == 0 {
			t.Errorf("%s.csv: got %d, %v, %q", path, status, err, body)
		}
		for _, row := range rows {
			for _, cell := range row {
				if cell != "" && strings.ContainsRune("=+@", rune(cell[0])) {
					t.Errorf("%s.csv: %q would be a formula", path, cell)
				}
			}
		}
		var answer struct{ Rows []map[string]any }
		status, body = read(t, at+path+".json")
		if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil {
			t.Errorf("%s.json: got %d, %v, %.200s", path, status, err, body)
		}
		if path == "/agents" && (len(answer.Rows) != 1 || answer.Rows[0]["agent"] != evilName) {
			t.Errorf("got %v, want the agent's name as it is", answer.Rows)
		}
	}
	req := httptest.NewRequest("GET", at+"/agents", nil)
	req.RequestURI = ""
	req.Header.Set("Accept", "text/csv")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/csv") {
		t.Errorf("got %q for Accept: text/csv", got)
	}
}

func TestStrangersGetTheFirstPage(t *testing.T) {
	node := &fakeRelay{}
	node.stats.Node = "n1secret"
	_, at := newBoard(t, node, Nobody, func(c *BoardConfig) { c.Page.cfg.Local = func(*fiber.Ctx) bool { return false } })
	if _, body := read(t, at+"/"); strings.Contains(body, "n1secret") || !strings.Contains(body, "An Agentnet relay runs here") {
		t.Errorf("got %.300s, want the first page", body)
	}
}

func TestGoToStaysHere(t *testing.T) {
	for _, to := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)", "/x\r\nSet-Cookie: a=b"} {
		app := fiber.New()
		app.Get("/", func(c *fiber.Ctx) error { return (&request{c: c}).report(to, "done", nil) })
		resp, err := app.Test(httptest.NewRequest("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(resp.Header.Get("Location"))
		if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(resp.Header.Get("Location"), `\`) || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%q: got %q", to, resp.Header.Get("Location"))
		}
	}
}

func TestRanges(t *testing.T) {
	now := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	ask := func(query string) timeRange {
		q, _ := url.ParseQuery(query)
		return (&request{query: q, zone: time.UTC, now: now}).during("1h")
	}
	for query, want := range map[string]time.Duration{"": time.Hour, "range=7d": 7 * 24 * time.Hour, "range=400d": 400 * 24 * time.Hour, "range=evil": time.Hour,
		"from=2026-03-01T00:00&to=2026-03-02T00:00": 24 * time.Hour, "from=2026-03-02T00:00&to=2026-03-01T00:00": time.Hour, "from=1970-01-01": time.Hour, "from=2026-03-28": 36 * time.Hour} {
		if got := ask(query); got.to.Sub(got.from) != want {
			t.Errorf("%q: got %v, want %v", query, got.to.Sub(got.from), want)
		}
	}
}

func TestChannelsOfAllNodesAreShown(t *testing.T) {
	node := &fakeRelay{channels: []relay.ChannelInfo{{Channel: "orders", PerSecond: 5, Subscribers: 2, Home: "n2"}}}
	_, at := newBoard(t, node, Admin)
	if _, body := read(t, at+"/channels"); !strings.Contains(body, "1 channel, 5 messages a second, on all nodes.") || strings.Contains(body, "missing") {
		t.Errorf("got %s, want the channels of all nodes and nothing missing", body)
	}
	node = &fakeRelay{channels: node.channels, missing: []string{"n3"}}
	_, at = newBoard(t, node, Admin)
	if _, body := read(t, at+"/channels"); !strings.Contains(body, "Not answered in time: n3;") {
		t.Errorf("got %s, want the silent node named", body)
	}
}
