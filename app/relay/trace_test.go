package relay

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app/wire"
)

// lines are the rows of a trace in short.
func (tr *Trace) lines() (out []string) {
	for _, r := range tr.Rows {
		out = append(out, fmt.Sprintf("%s %s %s>%s%s %d %s %s", r.Direction, r.Kind, r.From, r.To, r.Channel, r.Bytes, r.Priority, r.Outcome))
	}
	return out
}

// TestTraceShowsEnvelopes: what one agent sends and gets is noted while it is traced,
// not before, not after, and never what it holds.
func TestTraceShowsEnvelopes(t *testing.T) {
	const canary = "CANARY7f3a"
	inWorld(t, nil, func(w *world) {
		alice, bob := w.join("alice"), w.join("bob")
		alice.ok(subscribe("news"))
		alice.ok(send("bob", "before"))
		if _, err := w.hub.Trace("alice", "root", time.Minute); err != nil {
			t.Fatal(err)
		}
		m := send("bob", canary)
		m.Headers, m.Key, m.Class = []wire.Header{{Name: canary, Value: canary}}, []byte(canary), wire.Critical
		id := alice.ok(m).MessageID
		alice.ok(publish("news", canary))
		alice.refused(send("nobody", canary), wire.AgentOffline)
		bob.ok(send("alice", canary))
		bob.tell(&wire.Command{ID: 77, Kind: wire.KindRequest, To: []byte("alice"), Method: []byte(canary), Class: wire.Normal, Payload: text(canary)})
		for _, ev := range only(alice.take(), wire.KindRequest) {
			alice.tell(&wire.Command{Kind: wire.KindReply, Request: ev.Request.Request, Class: wire.Normal, Err: &wire.Error{Code: "canary7f3a", Message: canary}})
		}
		bob.ok(send("bob", "of no concern"))
		tr := w.hub.Traced("alice", 0)
		want := []string{"sent send alice>bob 12 critical delivered", "sent publish alice>news 12 normal published", "received message alice>news 12 normal delivered",
			"sent send alice>nobody 12 normal agent_offline", "received message bob>alice 12 normal delivered", "received request bob>alice 12 normal delivered", "sent reply alice> 0 normal "}
		if got := tr.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if tr.Rows[0].MessageID != id || !tr.Running || tr.By != "root" || tr.Seen != 7 {
			t.Errorf("got %+v, want a running trace by root whose first row is %s", tr, id)
		}
		raw, err := json.Marshal(tr)
		if err != nil || strings.Contains(strings.ToUpper(string(raw)), canary) {
			t.Errorf("the trace holds what was sent: %s, %v", raw, err)
		}
		if later := w.hub.Traced("alice", 5); len(later.Rows) != 2 || later.Rows[0].Number != 6 {
			t.Errorf("got %v after row 5, want rows 6 and 7", later.lines())
		}
		time.Sleep(time.Minute + time.Second)
		bob.ok(send("alice", "after"))
		if tr := w.hub.Traced("alice", 0); tr.Running || tr.Seen != 7 || w.hub.tracing.on.Load() != nil {
			t.Errorf("got running %v and %d rows a second after its end, want none and 7", tr.Running, tr.Seen)
		}
		time.Sleep(traceKept)
		if tr := w.hub.Traced("alice", 0); len(tr.Rows) != 0 || len(w.hub.tracing.all) != 0 {
			t.Errorf("got %d rows long after the end, want none", len(tr.Rows))
		}
	})
}

// TestTraceIsBounded: rows, agents and time; and an end before the time.
func TestTraceIsBounded(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		bob := w.join("bob")
		if _, err := w.hub.Trace("bob", "root", time.Minute); err != nil {
			t.Fatal(err)
		}
		for range traceRows + 40 {
			bob.tell(publish("news", "x"))
			time.Sleep(20 * time.Millisecond)
		}
		tr := w.hub.Traced("bob", 0)
		if len(tr.Rows) != traceRows || tr.Seen != traceRows+40 || tr.Rows[0].Number != 41 || tr.Rows[traceRows-1].Number != traceRows+40 {
			t.Errorf("got %d rows of %d, from %d to %d, want the last %d", len(tr.Rows), tr.Seen, tr.Rows[0].Number, tr.Rows[len(tr.Rows)-1].Number, traceRows)
		}
		if !w.hub.EndTrace("bob") || w.hub.EndTrace("bob") || w.hub.Traced("bob", 0).Running {
			t.Error("got another answer than: ended, and then nothing to end")
		}
		for i := range maxTraces {
			if _, err := w.hub.Trace(fmt.Sprint("a", i), "root", time.Minute); err != nil {
				t.Errorf("agent %d: %v", i, err) // bob's, which ended, makes room
			}
		}
		if _, err := w.hub.Trace("more", "root", time.Minute); err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("got %v for one agent more than fit, want the limit", err)
		}
		for _, length := range []time.Duration{0, time.Millisecond, MaxTrace + time.Second} {
			if _, err := w.hub.Trace("a1", "root", length); err == nil {
				t.Errorf("%v: got no refusal", length)
			}
		}
		first := w.hub.Traced("a1", 0).Ends
		time.Sleep(30 * time.Second)
		if again, err := w.hub.Trace("a1", "eve", time.Minute); err != nil || !again.Ends.After(first) || again.By != "root" {
			t.Errorf("got %+v, %v, want root's trace with a later end", again, err)
		}
		time.Sleep(MaxTrace + traceKept)
	})
}

// TestTraceOfAnotherCostsNothing: while somebody else is traced, a direct message
// still allocates nothing.
func TestTraceOfAnotherCostsNothing(t *testing.T) {
	encodings(func(name string, enc wire.Encoding) {
		x := newExchange(t, enc)
		if _, err := x.turn.hub.Trace("carol", "root", time.Minute); err != nil {
			t.Fatal(err)
		}
		defer x.turn.hub.EndTrace("carol")
		for range 200 {
			x.once()
		}
		if n := testing.AllocsPerRun(500, x.once); n > spare {
			t.Errorf("%s: %v allocations a message, want 0", name, n)
		}
	})
}
