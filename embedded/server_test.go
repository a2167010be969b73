package embedded

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns a Server that is closed with the test, in order.
func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// A client speaks the Redis protocol, one command at a time.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, bufio.NewReader(c)}
}

func request(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

// do sends a command and returns the reply; an error reply is an error.
func (c *client) do(args ...string) (any, error) {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(request(args...))); err != nil {
		return nil, err
	}
	return server.ParseReply(c.r)
}

func (c *client) must(t testing.TB, args ...string) any {
	t.Helper()
	v, err := c.do(args...)
	if err != nil {
		t.Fatalf("%s: %v", args[0], err)
	}
	return v
}

// testClock is a wall clock that moves when told.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newTestClock() *testClock {
	return &testClock{now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
}

// fillAll makes one key of each kind, and keys with times to live.
func fillAll(t testing.TB, c *client) {
	t.Helper()
	c.must(t, "SET", "text", "a\r\n\x00b")
	c.must(t, "SET", "empty", "")
	c.must(t, "SET", "short", "x", "EX", "100")
	c.must(t, "SET", "long", "x", "PX", "1000000")
	c.must(t, "HSET", "hash", "e", "1", "r", "", "", "none")
	c.must(t, "SADD", "set", "a", "b", "")
	c.must(t, "ZADD", "zset", "-1.5", "low", "1795420800123", "high")
	for i := range 20 {
		c.must(t, "XADD", "stream", "MAXLEN", "15", fmt.Sprintf("%d-0", i+1), "p", strings.Repeat("x", i), "q", "")
	}
	c.must(t, "PEXPIRE", "stream", "500000")
}

// content is all that is there, for comparing.
func content(s *Server) map[string]item {
	all := map[string]item{}
	for it := range s.items() {
		if it.kind == kindSet || it.kind == kindZSet || it.kind == kindHash {
			scores := fmt.Sprint(it.scores)
			if len(it.scores) == 2 && it.fields[0] == "low" { // members come in any order
				scores = fmt.Sprint([]float64{it.scores[1], it.scores[0]})
			}
			it.scores = nil
			slices.Sort(it.fields)
			it.fields = append(it.fields, scores)
		}
		it.expires = it.expires.Round(time.Second)
		all[it.key] = *it
	}
	return all
}

// TestRestart stops in order: everything is there again, with what is left of its
// time, and the run id says that nothing was lost.
func TestRestart(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "data"), Now: clock.Now}
	s := start(t, cfg)
	if s.Stats().WasClean {
		t.Error("the first start says that it found everything")
	}
	fillAll(t, dial(t, s))
	before, run := content(s), s.Stats().RunID
	if len(before) != 8 {
		t.Fatalf("%d keys, want 8", len(before))
	}
	stop(t, s)
	info, err := os.Stat(filepath.Join(cfg.Dir, snapshotName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("snapshot: %v, %v, want mode 0600", info, err)
	}

	clock.add(99 * time.Second)
	s = start(t, cfg)
	if got := content(s); !reflect.DeepEqual(got, before) {
		t.Errorf("after a restart: got %v, want %v", got, before)
	}
	if st := s.Stats(); st.RunID != run || !st.WasClean || st.Keys != len(before) || st.Bytes <= 0 {
		t.Errorf("after a clean stop: %+v, want run id %s", st, run)
	}
	stop(t, s)
	clock.add(2 * time.Second)
	s = start(t, cfg)
	if v, err := dial(t, s).do("GET", "short"); v != nil || err != nil {
		t.Errorf("a key whose time ended while it was stopped: %v, %v, want none", v, err)
	}
}

// TestCrash copies the folder while it runs, as kill -9 leaves it: the last
// snapshot is read, and the run id tells that it is not all.
func TestCrash(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := start(t, cfg)
	c := dial(t, s)
	c.must(t, "SET", "saved", "1")
	stop(t, s) // so that there is a snapshot that says "clean"
	s = start(t, cfg)
	c = dial(t, s)
	c.must(t, "SET", "lost", "1")
	run := s.Stats().RunID

	after := t.TempDir()
	if err := os.CopyFS(after, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	next := start(t, Config{Dir: after})
	c = dial(t, next)
	if v := c.must(t, "GET", "saved"); v != "1" {
		t.Errorf("saved = %v, want 1", v)
	}
	if v := c.must(t, "GET", "lost"); v != nil {
		t.Errorf("lost = %v, want none", v)
	}
	if st := next.Stats(); st.RunID == run || st.WasClean {
		t.Errorf("after a crash: run id %s, clean %v, want another and false", st.RunID, st.WasClean)
	}
	if v := c.must(t, "INFO", "server"); !strings.Contains(v.(string), "run_id:"+next.Stats().RunID) {
		t.Errorf("INFO: %v, want the run id", v)
	}
}

func TestSnapshotsWhileRunning(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SnapshotEvery: 20 * time.Millisecond}
	s := start(t, cfg)
	dial(t, s).must(t, "SET", "k", "v")
	for end := time.Now().Add(10 * time.Second); s.Stats().Snapshots == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no snapshot within 10 s")
		}
	}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, snapshotName))
	if err != nil {
		t.Fatal(err)
	}
	snap, err := decodeSnapshot(data)
	if err != nil || len(snap.items) != 1 || snap.clean {
		t.Errorf("got %+v, %v, want one item, not clean", snap, err)
	}
}

// TestExpiry moves the clock and shows that keys live for as long as they were
// told to, never shorter, and at most two sweeps longer.
func TestExpiry(t *testing.T) {
	clock := newTestClock()
	s := start(t, Config{Now: clock.Now})
	c := dial(t, s)
	for i, command := range [][]string{
		{"SET", "k", "v", "PX", "3000"}, {"SET", "k", "v", "NX", "EX", "3"}, {"PEXPIRE", "k", "3000"}, {"EXPIRE", "k", "3"},
	} {
		c.must(t, "SET", "other", "v")
		if strings.HasSuffix(command[0], "EXPIRE") {
			c.must(t, "SET", "k", "v")
		}
		clock.add(900 * time.Millisecond) // the last sweep is a while ago
		c.must(t, command...)
		lived := time.Duration(0)
		for ; c.must(t, "GET", "k") != nil; lived += 100 * time.Millisecond {
			if lived > 10*time.Second {
				t.Fatalf("command %d: the key did not expire", i)
			}
			clock.add(100 * time.Millisecond)
			if lived%time.Second == 500*time.Millisecond {
				s.passTime()
			}
		}
		if lived < 3*time.Second || lived > 5*time.Second {
			t.Errorf("command %d: the key lived for %v, want 3 s to 5 s", i, lived)
		}
	}
	if v := c.must(t, "GET", "other"); v != "v" {
		t.Errorf("other = %v, want v", v)
	}
	if v, err := c.do("SET", "k", "v", "PX", "9223372036854775807"); err == nil {
		t.Errorf("an absurd time to live was taken: %v", v)
	}
}

// TestExpiryRuns shows that the clock runs by itself.
func TestExpiryRuns(t *testing.T) {
	s := start(t, Config{})
	c := dial(t, s)
	begin := time.Now()
	c.must(t, "SET", "k", "v", "PX", "300")
	for c.must(t, "GET", "k") != nil {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the key did not expire within 10 s")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if lived := time.Since(begin); lived < 300*time.Millisecond {
		t.Errorf("the key lived for %v, want 300 ms or more", lived)
	}
}

func TestMemoryLimits(t *testing.T) {
	tests := []struct {
		name  string
		cfg   Config
		value int
	}{
		{"bytes", Config{MaxBytes: 1 << 20}, 10_000},
		{"keys", Config{MaxKeys: 100}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, tt.cfg)
			c := dial(t, s)
			var err error
			n := 0
			for ; err == nil && n < 1000; n++ {
				_, err = c.do("SET", fmt.Sprint("k", n), strings.Repeat("x", tt.value))
			}
			if err == nil || !strings.HasPrefix(err.Error(), "OOM") || n < 50 {
				t.Fatalf("after %d keys: %v, want OOM", n, err)
			}
			if st := s.Stats(); st.Refused == 0 || st.Keys > 110 || st.Bytes > 1<<20+20_000 {
				t.Errorf("at the limit: %+v", st)
			}
			for i := range n {
				c.must(t, "DEL", fmt.Sprint("k", i))
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if _, err = c.do("SET", "again", "x"); err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("10 s after all was deleted: %v", err)
				}
			}
		})
	}
}

// TestManyWritesOfLittle writes far more than the limit but keeps little: the
// estimate, which only grows, is put right by counting.
func TestManyWritesOfLittle(t *testing.T) {
	s := start(t, Config{MaxBytes: 4 << 20})
	c := dial(t, s)
	refused := 0
	for i := range 8000 {
		_, err := c.do("XADD", "s", "MAXLEN", "100", fmt.Sprintf("%d-0", i+1), "p", strings.Repeat("x", 4000))
		if err != nil {
			refused++
			time.Sleep(20 * time.Millisecond)
		}
	}
	if refused > 100 {
		t.Errorf("%d of 8000 writes refused, want nearly none: 400 KB are kept", refused)
	}
}

func TestUnknownCommands(t *testing.T) {
	s := start(t, Config{})
	c := dial(t, s)
	for _, args := range [][]string{
		{"EVAL", "while true do end", "0"}, {"BLPOP", "k", "0"}, {"XREAD", "BLOCK", "0", "STREAMS", "k", "$"}, {"KEYS", "*"},
		{"FLUSHALL"}, {"SELECT", "1"}, {"MULTI"}, {"SET", "k", "v", "PXAT", "1"}, {"XADD", "k", "MAXLEN", "~", "1"}, {"XTRIM", "k", "MAXLEN", "~"},
	} {
		if v, err := c.do(args...); err == nil {
			t.Errorf("%v = %v, want an error", args, v)
		}
	}
	c.must(t, "PING")
}

// TestOddArguments throws random arguments at every command: none may fail inside.
func TestOddArguments(t *testing.T) {
	var names []string
	for name := range commands {
		if name != "QUIT" && name != "SUBSCRIBE" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	words := []string{"", "k", "h", "st", "z", "0", "1", "-1", "9223372036854775807", "-9223372036854775808", "1e308", "nan", "+inf", "(", "(1", "[a",
		"*", "$", ">", "-", "+", "~", "=", "0-0", "5-0", "1-*", "99999999999999999999-1", "NX", "XX", "GT", "LT", "CH", "INCR", "EX", "PX", "GET", "KEEPTTL", "MAXLEN", "MINID",
		"LIMIT", "COUNT", "MATCH", "STREAMS", "NOMKSTREAM", "WITHSCORES", "BYSCORE", "BYLEX", "REV", "AUTH", "SETNAME", "3", "CHANNELS", "NUMSUB", "TYPE", "\x00\xff"}
	s := start(t, Config{})
	c := dial(t, s)
	c.must(t, "HSET", "h", "f", "v")
	c.must(t, "XADD", "st", "3-0", "f", "v")
	c.must(t, "ZADD", "z", "1", "m")
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	for range 60_000 {
		args := []string{names[r.IntN(len(names))]}
		for range r.IntN(8) {
			args = append(args, words[r.IntN(len(words))])
		}
		if _, err := c.do(args...); err != nil && strings.Contains(err.Error(), "internal error") {
			t.Errorf("%q failed inside", args)
		}
		if c.r.Buffered() > 0 {
			c.r.Discard(c.r.Buffered())
		}
	}
	if n := s.Stats().Panics; n != 0 {
		t.Errorf("%d commands failed inside, want 0", n)
	}
	c.must(t, "PING")
}

// TestSurvivesPanic makes a command fail inside with the store locked. The client
// gets an error and everybody goes on.
func TestSurvivesPanic(t *testing.T) {
	var logs strings.Builder
	s := start(t, Config{Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	err := s.front.Register("BOOM", func(c *server.Peer, cmd string, args []string) {
		s.gate.Lock()
		defer s.gate.Unlock()
		defer s.survive(cmd, c)
		s.redis.Lock()
		_ = args[len(args)+7]
	})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	if v, err := c.do("BOOM", "hunter2"); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("BOOM = %v, %v, want an internal error", v, err)
	}
	c.must(t, "SET", "k", "v")
	dial(t, s).must(t, "GET", "k")
	if n := s.Stats().Panics; n != 1 {
		t.Errorf("panics = %d, want 1", n)
	}
	if strings.Contains(logs.String(), "hunter2") || !strings.Contains(logs.String(), "BOOM") {
		t.Errorf("the log is %q, want the command without its arguments", logs.String())
	}
}

func TestClosed(t *testing.T) {
	s := start(t, Config{})
	c := dial(t, s)
	stop(t, s)
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("Dial after Close succeeded")
	}
	if _, err := c.do("PING"); err == nil {
		t.Error("a connection outlived Close")
	}
	if _, err := Start(t.Context(), Config{Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("Start that listens without a password: %v, want an error that says so", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := start(t, Config{}).Dial(ctx); err == nil {
		t.Error("Dial with an ended context succeeded")
	}
}
