package watch_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// TestFleetHasOneLeader: all nodes see all, one decides, the others know what it
// knows, and their admins' words reach it.
func TestFleetHasOneLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, beds := join(t, 3)
		defer func() {
			for _, b := range beds {
				b.end()
			}
		}()
		for _, b := range beds {
			b.load.set(func(l *load) { l.connections, l.messages = 150, 20 })
		}
		time.Sleep(time.Minute)
		for i, b := range beds {
			st := b.svc.Status()
			if st.Current != 3 || st.Leader != "n1" || st.Leads != (i == 0) || st.Fence != 1 || len(st.Nodes) != 3 {
				t.Fatalf("%s: got %+v, want three nodes led by n1", b.load.node, st)
			}
		}
		beds[1].load.set(func(l *load) { l.connections = 900 })
		await(t, scale.ScaleUpWithin, "n1 wants 6", func() bool { return beds[0].svc.Desired().Desired == 6 })
		await(t, 5*time.Second, "n3 knows of it", func() bool { return beds[2].svc.Desired().Desired == 6 })
		for i, b := range beds {
			if n := len(b.entries(scale.KindDecision)); (n > 0) != (i == 0) {
				t.Errorf("%s wrote %d decisions, want those of the leader only", b.load.node, n)
			}
		}

		// A word to a node that does not lead.
		pause := scale.PauseAll
		e, err := beds[2].svc.Do(t.Context(), watch.Command{Op: watch.OpPolicy, Actor: "alice", Pause: &pause, Reason: "maintenance"})
		if err != nil || !strings.HasPrefix(e.Origin, "n1~") || e.Actor != "alice" {
			t.Fatalf("got %+v, %v, want an entry of n1", e, err)
		}
		_, err = beds[2].svc.Do(t.Context(), watch.Command{Op: watch.OpAck, Actor: "alice", Alert: "nothing", Reason: "r"})
		if f, ok := errors.AsType[*watch.Fault](err); !ok || f.Kind != watch.FaultNotFound {
			t.Errorf("got %v, want the leader's refusal", err)
		}
		await(t, 5*time.Second, "all nodes are paused", func() bool {
			return beds[0].svc.Status().Pause == scale.PauseAll && beds[1].svc.Status().Pause == scale.PauseAll && beds[2].svc.Status().Pause == scale.PauseAll
		})
		_ = w
	})
}

// TestFleetLeaderDies: the next one goes on with its windows, its alerts and what
// admins said, and is told apart by its number.
func TestFleetLeaderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, beds := join(t, 3)
		defer func() {
			for _, b := range beds {
				b.end()
			}
		}()
		for _, b := range beds {
			b.load.set(func(l *load) { l.connections, l.messages = 330, 20 })
		}
		await(t, time.Minute, "5 are wanted", func() bool { return beds[0].svc.Desired().Desired == 5 })
		if _, err := beds[1].svc.Do(t.Context(), watch.Command{Op: watch.OpSilence, Actor: "alice", Silence: &scale.Silence{Rule: "cpu_warning", Reason: "x", Until: time.Now().Add(time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		w.nodes["n1"] = nil
		w.leader = ""
		w.mu.Unlock()
		beds[0].stop()
		time.Sleep(2 * time.Second)
		for _, b := range beds[1:] {
			if st := b.svc.Status(); st.Held == "" || st.Leader != "" {
				t.Errorf("%s without a leader: got %+v, want it held", b.load.node, st)
			}
			pinned := 9
			_, err := b.svc.Do(t.Context(), watch.Command{Op: watch.OpPolicy, Actor: "a", Pinned: &pinned})
			if f, ok := errors.AsType[*watch.Fault](err); !ok || f.Kind != watch.FaultUnavailable {
				t.Errorf("without a leader: got %v, want unavailable", err)
			}
		}
		w.lead("n2")
		time.Sleep(3 * time.Second)
		if st := beds[1].svc.Status(); !st.Leads || st.Desired != 5 || st.Fence != 2 || len(beds[1].svc.Silences()) != 1 {
			t.Errorf("got %+v, want n2 to lead with what n1 knew", st)
		}
		lead := beds[1].entries(scale.KindNode)
		if last := lead[len(lead)-1]; !strings.Contains(last.Summary, "n2 leads, number 2") {
			t.Errorf("got %q, want the new leader told", last.Summary)
		}
		// The silent node keeps the count, and is forgotten in the end; nothing goes
		// down for five minutes.
		for range 100 {
			time.Sleep(time.Second)
			if d := beds[1].svc.Desired(); d.Desired < 5 {
				t.Fatalf("%v after the loss: got %d, want 5", 100*time.Second, d.Desired)
			}
		}
	})
}

// TestFleetCut: a node that cannot reach the others changes nothing.
func TestFleetCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, beds := join(t, 2)
		defer func() {
			for _, b := range beds {
				b.end()
			}
		}()
		for _, b := range beds {
			b.load.set(func(l *load) { l.connections, l.messages = 390, 20 })
		}
		await(t, time.Minute, "both know that 4 are wanted", func() bool { return beds[0].svc.Desired().Desired == 4 && beds[1].svc.Desired().Desired == 4 })
		w.mu.Lock()
		w.cut["n1"], w.cut["n2"] = true, true
		w.mu.Unlock()
		for _, b := range beds {
			b.load.set(func(l *load) { l.connections = 5 })
		}
		time.Sleep(20 * time.Minute)
		for _, b := range beds {
			if st := b.svc.Status(); st.Desired != 4 || !strings.Contains(st.Held, "cannot be reached") {
				t.Errorf("%s: got %d, held %q, want 4 held", b.load.node, st.Desired, st.Held)
			}
		}
		w.mu.Lock()
		w.cut["n1"], w.cut["n2"] = false, false
		w.mu.Unlock()
		took := await(t, 20*time.Minute, "fewer are wanted again", func() bool { return beds[0].svc.Desired().Desired < 4 })
		if took < scale.ScaleDownAfter {
			t.Errorf("fewer were wanted %v after the cut, want %v of watching before", took, scale.ScaleDownAfter)
		}
	})
}

// TestFleetGoodbye: a node that left in order is no silent one.
func TestFleetGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, beds := join(t, 2)
		defer func() {
			for _, b := range beds {
				b.end()
			}
		}()
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		w.nodes["n2"] = nil
		w.mu.Unlock()
		beds[1].stop()
		beds[0].svc.Left("n2")
		time.Sleep(2 * time.Second)
		if st := beds[0].svc.Status(); st.Current != 1 || len(st.Nodes) != 1 {
			t.Errorf("got %+v, want n1 alone", st.Nodes)
		}
	})
}
