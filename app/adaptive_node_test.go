package app_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	"agentnet/app/client"
	"agentnet/app/drill"
	"agentnet/app/wire"
)

// TestNodeAdaptsToSlowReaders fills the queues of a node past 60% of their bound:
// it must make them smaller before load is shed for it, and write that down.
func TestNodeAdaptsToSlowReaders(t *testing.T) {
	const slow = 4
	n := apptest.Start(t, func(c *app.Config) {
		c.Queue.Bytes, c.Queue.TotalBytes, c.Queue.SlowAfter = 512<<10, 2500<<10, app.Duration(time.Minute)
		c.Overload.QueueElevated, c.Overload.QueueDegraded, c.Overload.QueueCritical = 0.97, 0.98, 0.99
	})
	valve, err := drill.NewValve(strings.TrimPrefix(n.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(valve.Close)
	for i := range slow {
		c := n.Dial(fmt.Sprintf("slow%d", i), wire.JSON, func(c *client.Config) { c.URL = "http://" + valve.Addr() })
		if _, err := c.Subscribe(t.Context(), "busy", client.SubscribeOptions{}, func(context.Context, *client.Message) {}); err != nil {
			t.Fatal(err)
		}
	}
	valve.Stall()
	pub := n.Dial("publisher", wire.JSON)
	payload := wire.Payload{Data: []byte(`"` + strings.Repeat("x", 32<<10) + `"`)}
	smaller := func() bool { return n.App.Hub().Bounds().Queue.Bytes <= 256<<10 }
	for end := time.Now().Add(30 * time.Second); !smaller(); {
		if time.Now().After(end) {
			t.Fatalf("the queues are as large as before, with %d bytes waiting\n%s", n.App.Hub().Stats().QueueBytes, n.Log())
		}
		if _, err := pub.Publish(t.Context(), "busy", payload); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.App.Hub().Bounds(); got.Recent > 0.5 || got.HeartbeatMin != 25*time.Second {
		t.Errorf("got %+v, want windows halved and no heartbeat more often than each 25 s", got)
	}
	// Smaller bounds hold from the next frame on.
	for end := time.Now().Add(10 * time.Second); n.App.Hub().Stats().QueueBytes > slow*256<<10*5/4; {
		if time.Now().After(end) {
			t.Fatalf("%d bytes still wait", n.App.Hub().Stats().QueueBytes)
		}
		if _, err := pub.Publish(t.Context(), "busy", payload); err != nil {
			t.Fatal(err)
		}
	}
	token := n.Token("eve", func(s *auth.TokenSpec) { s.Grants.Roles = []string{"viewer"} })
	defer http.DefaultClient.CloseIdleConnections()
	told := func() string { return get(t, n.URL+"/v1/scaling/log?match=adapts", token) }
	for end := time.Now().Add(10 * time.Second); !strings.Contains(told(), "queues and windows from 100% to 50% of the configuration: queues "); {
		if time.Now().After(end) {
			t.Fatalf("the scaling log does not tell of it: %s", told())
		}
		time.Sleep(50 * time.Millisecond)
	}
	if text := get(t, n.URL+"/v1/scaling/log/report?range=1h", token); !strings.HasPrefix(text, "200 OK # Report of ") || !strings.Contains(text, "n1 adapts: queues and windows") {
		t.Errorf("the report of the last hour: got %.300s", text)
	}
	if text := get(t, n.URL+"/v1/scaling/log/report?range=1h&format=html", token); !strings.Contains(text, "<h2>Timeline</h2>") {
		t.Errorf("the report as a page: got %.300s", text)
	}
	if text := get(t, n.URL+"/metrics", token); !strings.Contains(text, "agentnet_adaptive_share 0.5") && !strings.Contains(text, "agentnet_adaptive_share 0.25") && !strings.Contains(text, "agentnet_adaptive_share 0.125") {
		t.Error("the metrics do not tell of it")
	}
}

func get(t *testing.T, url, token string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := fmt.Fprint(&b, resp.Status, " "); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for {
		k, err := resp.Body.Read(buf)
		b.Write(buf[:k])
		if err != nil {
			return b.String()
		}
	}
}
