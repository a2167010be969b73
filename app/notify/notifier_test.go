package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/egress"
)

// recorder is a sender whose answers are given.
type recorder struct {
	mu     sync.Mutex
	got    []Message
	at     []time.Time
	answer func(n int) error // of the n-th try, from 1; nil: it works
	takes  time.Duration
}

func (r *recorder) send(ctx context.Context, m *Message) (string, error) {
	time.Sleep(r.takes)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.at = append(r.got, *m), append(r.at, time.Now())
	if r.answer != nil {
		if err := r.answer(len(r.got)); err != nil {
			return "", err
		}
	}
	return "200", nil
}

func (r *recorder) messages() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Message(nil), r.got...)
}

func (r *recorder) times() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.at...)
}

// inNotifier runs f with a notifier of one channel, in virtual time.
func inNotifier(t *testing.T, r *recorder, change func(*Config, *Channel), f func(n *Notifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := Channel{Name: "c", Kind: "webhook", URL: "https://x", Ends: true}
		cfg := Config{Logger: slog.New(slog.DiscardHandler), From: "n1", senders: map[string]sender{"c": r}}
		if change != nil {
			change(&cfg, &c)
		}
		cfg.Channels = []Channel{c}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		f(n)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func fires(key string, s Severity) Message {
	return Message{Group: key, Items: []Item{{Key: key, Rule: key, Severity: s, At: time.Now(), Since: time.Now()}}}
}

func ends(key string) Message {
	m := fires(key, Warning)
	m.Items[0].Resolved = true
	return m
}

func send(t *testing.T, n *Notifier, all ...Message) {
	t.Helper()
	for _, m := range all {
		if err := n.Send(m); err != nil {
			t.Fatal(err)
		}
	}
}

func keys(m Message) string {
	var out []string
	for _, it := range m.Items {
		text := it.Key
		if it.Resolved {
			text += " ends"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestTargetThatIsAwayGetsOneMessage(t *testing.T) {
	r := &recorder{answer: func(n int) error {
		if n < 4 {
			return &egress.Error{Host: "x", Status: 503}
		}
		return nil
	}}
	inNotifier(t, r, nil, func(n *Notifier) {
		send(t, n, fires("a", Warning))
		synctest.Wait()
		send(t, n, fires("b", Critical), fires("c", Warning), ends("a"))
		time.Sleep(10 * time.Minute)
		got := r.messages()
		if len(got) != 4 {
			t.Fatalf("got %d tries, want 4", len(got))
		}
		if last := keys(got[3]); last != "b, c, a ends" {
			t.Errorf("the last message: got %q, want all in one, what goes on and is worst first", last)
		}
		var outcomes []string
		for _, d := range n.Deliveries(0) {
			outcomes = append(outcomes, string(d.Outcome))
		}
		if got := strings.Join(outcomes, " "); got != "sent retried retried retried" {
			t.Errorf("deliveries, newest first: got %s", got)
		}
	})
}

func TestFinalFailureIsNotRepeated(t *testing.T) {
	r := &recorder{answer: func(int) error { return &egress.Error{Host: "x", Status: 401, Reason: "who?"} }}
	inNotifier(t, r, nil, func(n *Notifier) {
		send(t, n, fires("a", Critical))
		time.Sleep(time.Hour)
		if got := len(r.messages()); got != 1 {
			t.Errorf("got %d tries, want 1", got)
		}
		d := n.Deliveries(1)[0]
		if d.Outcome != Failed || d.Fault != "x answered 401 Unauthorized: who?" {
			t.Errorf("got %+v", d)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	r := &recorder{answer: func(int) error { return errors.New("no route") }}
	inNotifier(t, r, func(_ *Config, c *Channel) { c.Patience = 10 * time.Minute }, func(n *Notifier) {
		send(t, n, fires("a", Critical))
		time.Sleep(30 * time.Minute)
		if d := n.Deliveries(1)[0]; d.Outcome != Failed {
			t.Errorf("got %+v, want it given up", d)
		}
		// The breaker keeps most tries back; without it there would be a hundred.
		if tries := len(r.messages()); tries < 5 || tries > 15 {
			t.Errorf("got %d tries in 10 minutes, want 5 to 15", tries)
		}
		if s := n.Channels()[0]; s.Waiting != 0 || s.Fault == "" {
			t.Errorf("got %+v, want an empty queue and the fault", s)
		}
		r.mu.Lock()
		r.answer = nil
		r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		send(t, n, fires("b", Critical))
		time.Sleep(time.Second)
		if s := n.Channels()[0]; s.Resting || s.Fault != "" || s.LastSent.IsZero() {
			t.Errorf("after it works again: got %+v", s)
		}
	})
}

func TestRateJoinsMessages(t *testing.T) {
	r := &recorder{}
	inNotifier(t, r, func(_ *Config, c *Channel) { c.Every, c.Burst = time.Minute, 2 }, func(n *Notifier) {
		for i := range 20 {
			send(t, n, fires(fmt.Sprintf("alert-%02d", i), Warning))
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		got := r.messages()
		if len(got) != 3 || len(got[2].Items) != 18 {
			t.Fatalf("got %d messages, the last with %d alerts; want 2 alone and 18 together", len(got), len(got[len(got)-1].Items))
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	r := &recorder{takes: time.Hour} // the worker is busy with the first
	inNotifier(t, r, nil, func(n *Notifier) {
		send(t, n, fires("first", Critical))
		synctest.Wait()
		send(t, n, fires("worst", Critical))
		var full int
		for i := range 2 * maxQueue {
			if err := n.Send(fires(fmt.Sprint(i), Warning)); errors.Is(err, ErrFull) {
				full++
			}
		}
		if want := maxQueue + 1; full != want {
			t.Errorf("got %d messages dropped, want %d", full, want)
		}
		s := n.Channels()[0]
		if s.Waiting != maxQueue || s.Dropped != uint64(full) || n.Counts()["c"][Dropped] != uint64(full) {
			t.Errorf("got %+v and %v", s, n.Counts())
		}
		time.Sleep(2*time.Hour + time.Minute)
		m := r.messages()[1]
		if len(m.Items) != maxItems || m.More != maxQueue-maxItems || m.Items[0].Key != "worst" {
			t.Errorf("got %d items, %d more, first %q; want %d, %d, worst", len(m.Items), m.More, m.Items[0].Key, maxItems, maxQueue-maxItems)
		}
	})
}

func TestChannelsChoose(t *testing.T) {
	r := &recorder{}
	inNotifier(t, r, func(_ *Config, c *Channel) { c.Least, c.Ends = Critical, false }, func(n *Notifier) {
		send(t, n, fires("mild", Warning), ends("mild"))
		over := fires("bad", Critical)
		over.Items[0].Resolved = true
		send(t, n, over)
		time.Sleep(time.Minute)
		if got := r.messages(); len(got) != 0 {
			t.Errorf("got %v, want nothing", got)
		}
		send(t, n, fires("bad", Critical))
		time.Sleep(time.Minute)
		if got := r.messages(); len(got) != 1 {
			t.Errorf("got %v, want one", got)
		}
	})
}

func TestReminders(t *testing.T) {
	r := &recorder{}
	inNotifier(t, r, func(_ *Config, c *Channel) { c.Remind = time.Hour }, func(n *Notifier) {
		send(t, n, fires("a", Warning))
		synctest.Wait()
		send(t, n, fires("b", Critical))
		time.Sleep(90 * time.Minute)
		send(t, n, ends("b"))
		time.Sleep(time.Hour)
		send(t, n, ends("a"))
		time.Sleep(3 * time.Hour)
		var got []string
		for _, m := range r.messages() {
			got = append(got, fmt.Sprintf("%v:%s", m.Reminder, keys(m)))
		}
		want := "false:a|false:b|true:a, b|false:b ends|true:a|false:a ends"
		if text := strings.Join(got, "|"); text != want {
			t.Errorf("got %s, want %s", text, want)
		}
	})
}

// TestRemindersFollowTheLeader has another node tell of what goes on: a node that
// no longer leads repeats nothing, although it has told of it once.
func TestRemindersFollowTheLeader(t *testing.T) {
	r := &recorder{}
	var leads atomic.Bool
	leads.Store(true)
	source := func(cfg *Config, c *Channel) {
		c.Remind = time.Hour
		cfg.Firing = func() []Item {
			if !leads.Load() {
				return nil
			}
			return fires("taken over", Critical).Items
		}
	}
	inNotifier(t, r, source, func(n *Notifier) {
		send(t, n, fires("told here", Warning))
		time.Sleep(90 * time.Minute)
		leads.Store(false)
		time.Sleep(5 * time.Hour)
		var got []string
		for _, m := range r.messages() {
			got = append(got, keys(m))
		}
		if text := strings.Join(got, "|"); text != "told here|taken over" {
			t.Errorf("got %s, want what was told, then one reminder of what the leader knows", text)
		}
	})
}

func TestWarningsWaitUnderPressure(t *testing.T) {
	r := &recorder{}
	hold := func(cfg *Config, _ *Channel) {
		cfg.Hold = func(ctx context.Context, most time.Duration) error {
			select {
			case <-time.After(most):
			case <-ctx.Done():
				return ctx.Err()
			}
			return nil
		}
	}
	inNotifier(t, r, hold, func(n *Notifier) {
		began := time.Now()
		send(t, n, fires("mild", Warning))
		time.Sleep(2 * time.Minute)
		if got := r.times()[0].Sub(began); got != holdMost {
			t.Errorf("a warning under pressure went after %v, want the deadline of %v", got, holdMost)
		}
		began = time.Now()
		send(t, n, fires("bad", Critical))
		time.Sleep(time.Second)
		if got := r.times()[1].Sub(began); got != 0 {
			t.Errorf("a critical one went after %v, want at once", got)
		}
	})
}

func TestStopRecordsWhatWaits(t *testing.T) {
	r := &recorder{answer: func(int) error { return errors.New("away") }}
	var left []Delivery
	inNotifier(t, r, func(cfg *Config, _ *Channel) {
		cfg.Log = func(d Delivery) {
			if d.Outcome == Dropped {
				left = append(left, d)
			}
		}
	}, func(n *Notifier) {
		send(t, n, fires("a", Critical))
		synctest.Wait()
	})
	if len(left) != 1 || !strings.Contains(left[0].Fault, "stopped") {
		t.Errorf("got %+v, want one that the stop dropped", left)
	}
}

func TestTestNamesTheChannel(t *testing.T) {
	r := &recorder{}
	inNotifier(t, r, nil, func(n *Notifier) {
		if d, err := n.Test(context.Background(), "c"); err != nil || d.Outcome != Sent || d.Answer != "200" || !d.Test {
			t.Errorf("got %+v, %v", d, err)
		}
		if m := r.messages()[0]; !m.Test || m.Title() != "Test of notifications (n1)" {
			t.Errorf("got %+v", m)
		}
		if _, err := n.Test(context.Background(), "nobody"); !errors.Is(err, ErrNoChannel) {
			t.Errorf("got %v, want ErrNoChannel", err)
		}
	})
}

func TestDeliveryLogIsBounded(t *testing.T) {
	r := &record{}
	for i := range maxDeliveries + 10 {
		r.add(Delivery{Message: fmt.Sprint(i), Channel: "c", Outcome: Sent})
	}
	got := r.list(0)
	if len(got) != maxDeliveries || got[0].Message != fmt.Sprint(maxDeliveries+9) || got[len(got)-1].Message != "10" {
		t.Errorf("got %d, from %s to %s", len(got), got[0].Message, got[len(got)-1].Message)
	}
	if got := r.list(3); len(got) != 3 || got[2].ID != maxDeliveries+8 {
		t.Errorf("the last three: got %+v", got)
	}
}

func TestHeartbeat(t *testing.T) {
	beats := make(chan string, 100)
	var sick sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { beats <- r.Method + " " + r.URL.Path }))
	defer srv.Close()
	h, err := NewHeartbeat(HeartbeatConfig{URL: srv.URL + "/ping/s3cret", Method: "POST", Every: time.Second, Allow: here, Logger: slog.New(slog.DiscardHandler),
		Healthy: func() error {
			if why, ok := sick.Load("why"); ok {
				return why.(error)
			}
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	h.beat(context.Background())
	if got := <-beats; got != "POST /ping/s3cret" {
		t.Errorf("got %s", got)
	}
	if at, fault := h.Last(); at.IsZero() || fault != "" {
		t.Errorf("got %v, %q", at, fault)
	}
	sick.Store("why", errors.New("the broker is away"))
	h.beat(context.Background())
	if _, fault := h.Last(); len(beats) != 0 || fault != "kept back: the broker is away" {
		t.Errorf("an unhealthy node: got %d beats, %q", len(beats), fault)
	}
	sick.Delete("why")
	srv.Close()
	h.beat(context.Background())
	if _, fault := h.Last(); fault == "" || strings.Contains(fault, "s3cret") {
		t.Errorf("a target that is away: got %q", fault)
	}
	h.client.Close()
	for _, bad := range []HeartbeatConfig{{URL: "x"}, {URL: "https://x", Method: "PUT"}, {URL: "https://x", Every: time.Millisecond}} {
		if _, err := NewHeartbeat(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
