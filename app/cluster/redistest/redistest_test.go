package redistest

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSingleIsPausedKilledAndStartedAgain(t *testing.T) {
	s := Single(t, "--requirepass", "pass word", "--maxmemory", "10mb")
	s.Must("SET", "k", "v")
	if got := s.Must("GET", "k"); got != "v" {
		t.Fatalf("got %q", got)
	}
	if got := s.Info("maxmemory"); got != "10485760" {
		t.Errorf("maxmemory: got %q", got)
	}
	if !strings.Contains(s.URL(), "pass%20word@127.0.0.1") {
		t.Errorf("URL: got %s", s.URL())
	}
	s.Pause()
	if _, err := s.Do("PING"); err == nil {
		t.Error("a paused server answered")
	}
	s.Resume()
	s.Must("PING")
	s.Restart()
	if got := s.Must("GET", "k"); got != "" {
		t.Errorf("after a restart: got %q, want nothing", got)
	}
}

func TestClusterMovesASlotWithItsKeys(t *testing.T) {
	c := StartCluster(t)
	slot := c.Slot("{tag}k")
	from := c.Owner(slot)
	to := (from + 1) % 3
	for i := range 250 {
		c.Servers[from].Must("SET", fmt.Sprint("{tag}", i), "v")
	}
	c.MoveSlot(slot, to)
	if got := c.Owner(slot); got != to {
		t.Errorf("owner: got %d, want %d", got, to)
	}
	if got := c.Servers[to].Must("GET", "{tag}249"); got != "v" {
		t.Errorf("got %q", got)
	}
	if _, err := c.Servers[from].Do("GET", "{tag}1"); err == nil || !strings.Contains(err.Error(), "MOVED") {
		t.Errorf("the old owner: got %v, want MOVED", err)
	}
	if _, err := c.Servers[from].Do("SPUBLISH", "{tag}c", "x"); err == nil || !strings.Contains(err.Error(), "MOVED") {
		t.Errorf("sharded publish at the old owner: got %v, want MOVED", err)
	}
}

func TestSentinelPromotesAReplica(t *testing.T) {
	c := StartSentinel(t)
	old := c.Primary()
	old.Must("SET", "k", "v")
	old.Must("WAIT", "2", "5000")
	promoted := c.Failover()
	if promoted == old {
		t.Fatal("the killed one is still primary")
	}
	if got := promoted.Must("GET", "k"); got != "v" {
		t.Errorf("got %q", got)
	}
	promoted.Must("SET", "k", "w")
}
