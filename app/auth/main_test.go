package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"agentnet/app/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is where tests with a clock of their own begin.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// clock is a wall clock that a test sets.
type clock struct{ at atomic.Int64 }

func newClock() *clock                   { c := &clock{}; c.at.Store(noon.UnixNano()); return c }
func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// fakeRows is a token table in memory that counts questions and can fail.
type fakeRows struct {
	mu    sync.Mutex
	rows  map[string]Token
	rev   uint64
	asked int
	saved map[string]time.Time
	fail  error
	onAsk func()
}

func newRows() *fakeRows { return &fakeRows{rows: map[string]Token{}, saved: map[string]time.Time{}} }

func (f *fakeRows) CreateToken(_ context.Context, t Token) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.rev++
	t.Rev = f.rev
	f.rows[t.ID] = t
	return nil
}

func (f *fakeRows) TokensSince(_ context.Context, rev uint64, limit int) ([]Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.onAsk != nil {
		f.onAsk()
	}
	if f.fail != nil {
		return nil, f.fail
	}
	var out []Token
	for _, t := range f.rows {
		if t.Rev > rev {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Token) int { return int(a.Rev) - int(b.Rev) })
	return out[:min(limit, len(out))], nil
}

func (f *fakeRows) RevokeToken(_ context.Context, id string, at time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.rows[id]
	if !ok {
		return errors.New("not found")
	}
	f.rev++
	t.Revoked, t.Rev = at, f.rev
	f.rows[id] = t
	return nil
}

func (f *fakeRows) TokensUsed(_ context.Context, used map[string]time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	maps.Copy(f.saved, used)
	return nil
}

func (f *fakeRows) questions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fakeRows) breakWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// logBook keeps everything that is logged.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newService(t testing.TB, cfg Config) *Service {
	t.Helper()
	if cfg.AskEvery == 0 {
		cfg.AskEvery = time.Millisecond
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return s
}

func create(t testing.TB, s *Service, agents ...string) (token, id string) {
	t.Helper()
	token, id, err := s.CreateToken(t.Context(), TokenSpec{Name: "test", Grants: Grants{Agents: agents, Send: []string{"**"}}})
	if err != nil {
		t.Fatalf("CreateToken: %v", err)
	}
	return token, id
}

// bare checks that err is one of the relay's errors and nothing but it, so that
// no caller can pass on more than that.
func bare(t testing.TB, name string, err, want error) {
	t.Helper()
	if err != want {
		t.Errorf("%s: got error %v, want exactly %q", name, err, fmt.Sprint(want))
	}
}

func authorize(t testing.TB, s *Service, token string) (*relay.Identity, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.Authorize(ctx, token)
}
