package e2e

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/apptest"
	"agentnet/app/client"
)

// TestViewersDoNotDisturb measures messages between two agents, first alone and
// then while many look at the Overview: the pages are drawn once for all of them
// and must not be felt by agents.
func TestViewersDoNotDisturb(t *testing.T) {
	viewers := number(t, "E2E_VIEWERS", 40)
	span := time.Duration(number(t, "E2E_SECONDS", 4)) * time.Second
	n := apptest.Start(t, nil)
	cookie := n.SignIn(account.Viewer)
	alone := pingPong(t, n, span)
	ctx, stop := context.WithCancel(context.Background())
	got := make(chan int64, viewers)
	transport := &http.Transport{MaxIdleConnsPerHost: viewers}
	for range viewers {
		go func() { got <- look(ctx, transport, n.URL, cookie) }()
	}
	watched := pingPong(t, n, span)
	stop()
	var bytes int64
	for range viewers {
		one := <-got
		if one == 0 {
			t.Error("a viewer got nothing")
		}
		bytes += one
	}
	transport.CloseIdleConnections()
	figure(t, "p99 of a round trip: %v alone, %v with %d viewers, who got %d KiB", alone, watched, viewers, bytes>>10)
	if most := 3*alone + 5*time.Millisecond; watched > most {
		t.Errorf("got p99 %v with %d viewers, want at most %v", watched, viewers, most)
	}
}

// look reads the stream of the Overview until ctx ends and says how much came.
func look(ctx context.Context, transport *http.Transport, url string, cookie *http.Cookie) int64 {
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/live?page=/", nil)
	if err != nil {
		return 0
	}
	req.AddCookie(cookie)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0
	}
	n, _ := io.Copy(io.Discard, resp.Body) // ends with ctx
	return n
}

// pingPong asks an echoing agent again and again, and returns the p99.
func pingPong(t *testing.T, n *apptest.Node, span time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), span+20*time.Second)
	defer cancel()
	dial := func(name string) *client.Client {
		c, err := client.Dial(ctx, client.Config{URL: n.URL, Token: n.Token(name), Agent: name})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := dial("alice"), dial("bob")
	defer a.Close()
	defer b.Close()
	if _, err := b.Subscribe(ctx, "room", client.SubscribeOptions{}, func(context.Context, *client.Message) {}); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for end := time.Now().Add(span); time.Now().Before(end); {
		began := time.Now()
		if _, err := a.Publish(ctx, "room", client.RawJSON([]byte(`{"n":1}`))); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
