package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// A town is a bus between desks; parcels go at once.
type town struct {
	mu    sync.Mutex
	desks map[string]*Desk
}

type door struct {
	town *town
	name string
}

func (d door) Post(node string, parcel []byte) bool {
	d.town.mu.Lock()
	to := d.town.desks[node]
	d.town.mu.Unlock()
	if to == nil {
		return false
	}
	to.Receive(d.name, parcel)
	return true
}

// settle makes two desks, a and b, of which b answers.
func settle(t *testing.T, handlers map[string]Handler) (a, b *Desk) {
	t.Helper()
	town := &town{desks: map[string]*Desk{}}
	quiet := slog.New(slog.DiscardHandler)
	a, b = New(door{town, "a"}, nil, quiet), New(door{town, "b"}, handlers, quiet)
	town.desks["a"], town.desks["b"] = a, b
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, d := range []*Desk{a, b} {
		all.Go(func() { d.Run(ctx) })
	}
	t.Cleanup(func() { stop(); all.Wait() })
	return a, b
}

func TestQuestionsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := settle(t, map[string]Handler{
			"echo": func(_ context.Context, from string, body json.RawMessage) (any, error) {
				return map[string]string{"from": from, "body": string(body)}, nil
			},
			"no": func(context.Context, string, json.RawMessage) (any, error) {
				return nil, &wire.Error{Code: wire.Conflict, Message: "not now"}
			},
			"fault": func(context.Context, string, json.RawMessage) (any, error) {
				return nil, errors.New("a secret of the node")
			},
			"panic": func(context.Context, string, json.RawMessage) (any, error) { panic("a secret of the node") },
			"long": func(context.Context, string, json.RawMessage) (any, error) {
				return strings.Repeat("x", MaxParcel), nil
			},
			"slow": func(ctx context.Context, _ string, _ json.RawMessage) (any, error) {
				time.Sleep(2 * Patience)
				return nil, ctx.Err()
			},
		})
		var got map[string]string
		if err := a.Ask(t.Context(), "b", "echo", 7, &got); err != nil || got["from"] != "a" || got["body"] != "7" {
			t.Errorf("got %v, %v, want an echo of 7 to a", got, err)
		}
		for _, c := range []struct {
			node, kind string
			want       wire.Code
		}{{"b", "no", wire.Conflict}, {"b", "fault", wire.Internal}, {"b", "panic", wire.Internal}, {"b", "unknown", wire.NotFound}, {"b", "long", wire.TooLarge}, {"b", "slow", wire.Timeout}, {"c", "echo", wire.Unavailable}} {
			err := a.Ask(t.Context(), c.node, c.kind, nil, nil)
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != c.want || strings.Contains(e.Message, "secret") {
				t.Errorf("%s of %s: got %v, want %s without the node's own words", c.kind, c.node, err, c.want)
			}
		}
		if len(a.open) != 0 {
			t.Errorf("got %d questions still open, want none", len(a.open))
		}
		time.Sleep(3 * Patience)
	})
}

func TestOnlyTheNodeThatWasAskedAnswers(t *testing.T) {
	d := New(door{&town{}, "a"}, nil, slog.New(slog.DiscardHandler))
	id, ch, err := d.begin("b")
	if err != nil {
		t.Fatal(err)
	}
	d.Receive("c", fmt.Appendf(nil, `{"id":%d,"body":1}`, id))
	select {
	case p := <-ch:
		t.Fatalf("got the answer %s of a node that was not asked", p.Body)
	default:
	}
	d.Receive("b", fmt.Appendf(nil, `{"id":%d,"body":2}`, id))
	d.Receive("b", fmt.Appendf(nil, `{"id":%d,"body":3}`, id)) // again: nobody waits any more
	if p := <-ch; string(p.Body) != "2" {
		t.Errorf("got %s, want 2", p.Body)
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	d := New(door{&town{}, "a"}, nil, slog.New(slog.DiscardHandler))
	for i := range maxWaiting + 5 {
		d.Receive("b", fmt.Appendf(nil, `{"id":%d,"kind":"x"}`, i))
	}
	d.Receive("b", []byte("{"))
	d.Receive("b", make([]byte, MaxParcel+1))
	if got := d.Dropped(); got != 7 {
		t.Errorf("got %d dropped, want 7", got)
	}
	for range maxOpen {
		if _, _, err := d.begin("b"); err != nil {
			t.Fatal(err)
		}
	}
	var e *wire.Error
	if _, _, err := d.begin("b"); !errors.As(err, &e) || e.Code != wire.Overloaded {
		t.Errorf("got %v, want overloaded", err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"id":1,"kind":"x","body":{}}`))
	f.Add([]byte(`{"id":1,"error":{"code":"timeout"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := New(door{&town{}, "a"}, nil, slog.New(slog.DiscardHandler))
		d.begin("b")
		d.Receive("b", raw)
	})
}
