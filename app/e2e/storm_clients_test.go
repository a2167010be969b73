//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/wire"
)

// raced says whether the race detector is built in: it multiplies memory and time.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// latencies collects how long messages took.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	l.all = append(l.all, d)
	l.mu.Unlock()
}

// take returns what was collected, sorted, and begins anew.
func (l *latencies) take() spread {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	slices.Sort(all)
	return all
}

// A spread is sorted durations.
type spread []time.Duration

func (s spread) at(share float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	return s[min(len(s)-1, int(share*float64(len(s))))]
}

func (s spread) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e6) }
	return fmt.Sprintf("p50 %s, p95 %s, p99 %s, max %s ms of %d", ms(s.at(.5)), ms(s.at(.95)), ms(s.at(.99)), ms(s.at(1)), len(s))
}

// stamp is a payload that tells when it was sent, padded to size.
func stamp(started time.Time, size int) wire.Payload {
	text := strconv.FormatInt(int64(time.Since(started)), 10) + "|"
	return wire.Payload{Data: []byte(`"` + text + strings.Repeat("x", max(0, size-len(text)-2)) + `"`)}
}

// age is how long ago a stamped payload was sent.
func age(started time.Time, p wire.Payload) (time.Duration, bool) {
	text, _, ok := strings.Cut(strings.TrimPrefix(string(p.Data), `"`), "|")
	at, err := strconv.ParseInt(text, 10, 64)
	return time.Since(started) - time.Duration(at), ok && err == nil
}

// A conversation is a pair of agents: one sends stamped messages at a steady pace,
// the other measures them. Both acknowledge. What is lost, refused or closed is counted.
type conversation struct {
	class    wire.Class
	started  time.Time
	took     *latencies
	sent     atomic.Int64
	got      atomic.Int64
	refused  atomic.Int64
	hinted   atomic.Int64 // of these, with retry_after_ms
	closed   atomic.Int64
	notices  *notices
	stopping atomic.Bool
}

// notices collects what clients are told of load.
type notices struct {
	mu   sync.Mutex
	list []wire.Notice
}

func (n *notices) add(v wire.Notice) {
	n.mu.Lock()
	n.list = append(n.list, v)
	n.mu.Unlock()
}

// levels lists the distinct levels told, with what they turn off.
func (n *notices) levels() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]string{}
	for _, v := range n.list {
		if v.Kind == "degraded" {
			out[v.Level] = v.Message
		}
	}
	return out
}

// talk runs one pair until stopping, at pace.
func (c *conversation) talk(p *process, number int, pace time.Duration, working *sync.WaitGroup) {
	from, to := fmt.Sprintf("e2e/from%d-%d", c.class, number), fmt.Sprintf("e2e/to%d-%d", c.class, number)
	b, a := p.joinFrom(to, number), p.joinFrom(from, number)
	working.Go(func() { c.listen(b) })
	working.Go(func() { c.listen(a) })
	working.Go(func() {
		defer func() { // the last ones get their time to arrive
			waitFor(patience, func() bool { return c.got.Load()+c.refused.Load() >= c.sent.Load() }, func() {})
			a.leave()
			b.leave()
		}()
		beat := time.NewTicker(pace)
		defer beat.Stop()
		for id := uint64(2); !c.stopping.Load(); id++ {
			<-beat.C
			c.sent.Add(1)
			if a.write(&wire.Command{ID: id, Kind: wire.KindSend, To: []byte(to), Class: c.class, Payload: stamp(c.started, 128)}) != nil {
				return
			}
		}
	})
}

func (c *conversation) listen(s *socket) {
	var ev wire.Event
	for {
		err := s.read(&ev, func(ev *wire.Event) {
			switch ev.Kind {
			case wire.KindMessage:
				if d, ok := age(c.started, ev.Message.Payload); ok {
					c.took.add(d)
				}
				if c.got.Add(1); ev.Message.Seq%16 == 0 {
					_ = s.write(&wire.Command{Kind: wire.KindAck, Seq: ev.Message.Seq, Class: wire.Normal})
				}
			case wire.KindError:
				c.refused.Add(1)
				if ev.Error.Err.RetryAfterMS > 0 && ev.Error.Err.Code == wire.Overloaded {
					c.hinted.Add(1)
				}
			case wire.KindNotice:
				if c.notices != nil {
					c.notices.add(ev.Notice)
				}
			}
		})
		if err != nil {
			if !c.stopping.Load() {
				c.closed.Add(1)
			}
			s.conn.Close()
			return
		}
	}
}

// A crowd is many idle agents that keep themselves connected.
type crowd struct {
	p         *process
	stopping  atomic.Bool
	connected atomic.Int64
	refused   atomic.Int64 // upgrades answered 503
	noHint    atomic.Int64 // of these, without a Retry-After of at least a second
	failed    atomic.Int64 // attempts that ended in any other way
	fresh     atomic.Int64 // came back without their session
	working   sync.WaitGroup

	mu    sync.Mutex
	socks []*socket
}

// keep is one agent's life: connect, stay, come back with full jitter.
func (c *crowd) keep(i int) {
	var session string
	for attempt := 0; !c.stopping.Load(); attempt++ {
		wait := time.Duration(0)
		s, err := c.attempt(i, &session)
		if err == nil {
			c.stay(i, s)
			attempt = 0
		}
		if ref := (*turnedAway)(nil); errors.As(err, &ref) {
			c.refused.Add(1)
			if ref.status != 503 || ref.retry < time.Second {
				c.noHint.Add(1)
			}
			wait = ref.retry
		} else if err != nil {
			c.failed.Add(1)
		}
		// min(30 s, 0.5 s x 2^n), full jitter, on top of what was asked for.
		wait += rand.N(min(30*time.Second, 500*time.Millisecond<<min(attempt, 6)))
		for end := time.Now().Add(wait); time.Now().Before(end) && !c.stopping.Load(); {
			time.Sleep(min(100*time.Millisecond, time.Until(end)+1))
		}
	}
}

func (c *crowd) attempt(i int, session *string) (*socket, error) {
	conn, err := dial(c.p.addr, 1+i/100, 0)
	if err != nil {
		return nil, err
	}
	s, err := upgrade(conn, c.p.addr, wire.Encoding(i%wire.Encodings), 512)
	if err != nil {
		return nil, err
	}
	var resume *wire.Resume
	if *session != "" {
		resume = &wire.Resume{Session: *session}
	}
	hello, _, err := s.hello(c.p.token, "e2e/crowd"+strconv.Itoa(i), resume)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if resume != nil && !hello.Resumed {
		c.fresh.Add(1)
	}
	*session = hello.Session
	return s, nil
}

// stay is connected until the connection ends.
func (c *crowd) stay(i int, s *socket) {
	c.mu.Lock()
	c.socks[i] = s
	c.mu.Unlock()
	c.connected.Add(1)
	defer c.connected.Add(-1)
	if c.stopping.Load() {
		s.leave()
		return
	}
	var ev wire.Event
	for s.read(&ev, func(*wire.Event) {}) == nil {
	}
	s.conn.Close()
}

// gather starts n agents and waits until all are connected.
func gather(t testing.TB, p *process, n int) *crowd {
	t.Helper()
	c := &crowd{p: p, socks: make([]*socket, n)}
	for i := range n {
		c.working.Go(func() {
			time.Sleep(time.Duration(i) * time.Second / 3000) // no storm yet
			c.keep(i)
		})
	}
	c.back(t, 2*time.Minute)
	return c
}

// back waits until all are connected and says how long that took.
func (c *crowd) back(t testing.TB, within time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	waitFor(within, func() bool { return int(c.connected.Load()) == len(c.socks) },
		func() { t.Errorf("after %v %d of %d agents are connected", within, c.connected.Load(), len(c.socks)) })
	return time.Since(begun)
}

// cutAll resets every connection at once.
func (c *crowd) cutAll() {
	c.mu.Lock()
	socks := slices.Clone(c.socks)
	c.mu.Unlock()
	for _, s := range socks {
		if s != nil {
			s.reset()
		}
	}
}

func (c *crowd) leave() {
	c.stopping.Store(true)
	c.mu.Lock()
	for _, s := range c.socks {
		if s != nil {
			s.reset()
		}
	}
	c.mu.Unlock()
	c.working.Wait()
}
