package watch_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// TestServiceDecidesAndWritesItDown runs a lone node through a breach: advice, an
// alert with its walk, samples in the history, and a log that verifies.
func TestServiceDecidesAndWritesItDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1")
		defer b.end()
		svc := b.start()
		b.load.set(func(l *load) { l.connections, l.messages = 150, 50 })
		time.Sleep(10 * time.Minute)
		if st := svc.Status(); st.Desired != 1 || st.Current != 1 || !st.Leads || st.Leader != "n1" || st.Held != "" || st.Alerts.Firing != 0 {
			t.Fatalf("calm: got %+v", st)
		}
		b.load.set(func(l *load) { l.connections = 950 })
		took := await(t, scale.ScaleUpWithin, "5 instances are wanted", func() bool { return svc.Desired().Desired == 5 })
		t.Logf("5 instances were wanted %v after the breach", took)
		await(t, 2*time.Minute, "the critical alert fires", func() bool { return svc.Status().Alerts.Critical == 1 })
		d := svc.Desired()
		if c := d.Signals["connections"]; c.Total != 950 || c.Target != 200 || c.Desired != 5 || !c.Known || d.Mode != "advise" {
			t.Errorf("got %+v", d)
		}
		b.stop()

		kinds := map[scale.Kind]int{}
		var decision, walk *scale.LogEntry
		all := b.entries()
		for i := range all {
			kinds[all[i].Kind]++
			switch e := &all[i]; {
			case e.Kind == scale.KindDecision && strings.Contains(e.Summary, "scale up"):
				decision = e
			case e.Kind == scale.KindWalk:
				walk = e
			}
		}
		if decision == nil || walk == nil || kinds[scale.KindNode] != 2 || kinds[scale.KindAlert] < 2 {
			t.Fatalf("got %v, want a decision, a walk, alerts, a start and a stop", kinds)
		}
		if !strings.Contains(walk.Summary, "Manual Capacity Adjustment") || walk.Cause == 0 {
			t.Errorf("walk: got %+v, want a person asked for, because nothing acts, and the alert as its cause", walk)
		}
		for _, e := range []*scale.LogEntry{decision, walk} {
			if again, err := scale.Replay(e.Entry); err != nil || again.Hash != e.Hash {
				t.Errorf("replay of %s: got %v, %v, want the same", e.Summary, again.Hash == e.Hash, err)
			}
		}
		if r, err := b.db.VerifyScaleLog(t.Context(), all[0].Origin); err != nil || len(r.Faults) > 0 || r.Rows != uint64(len(all)) {
			t.Errorf("verify: got %+v, %v", r, err)
		}
		if strings.Contains(b.logs.String(), "level=ERROR") {
			t.Errorf("the log has errors:\n%s", b.logs)
		}
	})
}

// TestServiceSurvivesRestart: a firing alert, a silence, an acknowledgement and the
// mode are there again, and what was pending begins anew.
func TestServiceSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1")
		defer b.end()
		svc := b.start()
		b.load.set(func(l *load) { l.connections = 950 })
		await(t, 3*time.Minute, "the alert fires", func() bool { return svc.Status().Alerts.Critical == 1 })
		observe := scale.Observe
		pinned := 3
		for _, c := range []watch.Command{
			{Op: watch.OpAck, Alert: "connections_critical", Reason: "I look"},
			{Op: watch.OpSilence, Silence: &scale.Silence{Rule: "memory_warning", Reason: "known", Until: time.Now().Add(3 * time.Hour)}},
			{Op: watch.OpPolicy, Mode: &observe, Reason: "quiet"},
			{Op: watch.OpPolicy, Pinned: &pinned},
		} {
			c.Actor = "alice"
			if e, err := svc.Do(t.Context(), c); err != nil || e.Seq == 0 || e.Actor != "alice" {
				t.Fatalf("%+v: got %+v, %v", c, e, err)
			}
		}
		time.Sleep(2 * time.Minute) // the warning fires too, explained by the critical one
		b.stop()
		time.Sleep(time.Hour)
		svc = b.start()
		i := slices.IndexFunc(svc.Alerts(), func(a scale.Alert) bool { return a.Rule == "connections_critical" })
		if i < 0 || svc.Alerts()[i].State != scale.Firing || svc.Alerts()[i].Ack == nil || svc.Alerts()[i].Ack.Reason != "I look" {
			t.Errorf("got alerts %+v, want the acknowledged one firing still", svc.Alerts())
		}
		if q := svc.Silences(); len(q) != 1 || q[0].Rule != "memory_warning" || q[0].By != "alice" {
			t.Errorf("got silences %+v", q)
		}
		if st := svc.Status(); st.Mode != scale.Observe || st.Pinned != 3 || st.Override.By != "alice" {
			t.Errorf("got %+v, want mode and pinned count kept", st)
		}
		// It goes on firing without being told anew, and resolves when the load is gone.
		before := len(b.entries(scale.KindAlert))
		time.Sleep(time.Minute)
		if n := len(b.entries(scale.KindAlert)); n != before {
			t.Errorf("got %d new entries of alerts, want none: %+v", n-before, b.entries(scale.KindAlert)[before].Summary)
		}
		b.load.set(func(l *load) { l.connections = 10 })
		await(t, 5*time.Minute, "the alert resolves", func() bool { return svc.Status().Alerts.Firing == 0 })
		if _, err := svc.Do(t.Context(), watch.Command{Op: watch.OpPolicy, Actor: "bob", Reset: true}); err != nil {
			t.Fatal(err)
		}
		if st := svc.Status(); st.Mode != scale.Advise || st.Pinned != 0 {
			t.Errorf("after reset: got %+v", st)
		}
	})
}

func TestServiceRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1")
		defer b.end()
		svc := b.start()
		time.Sleep(2 * time.Second)
		act, bad := scale.Act, -1
		for name, tt := range map[string]struct {
			c    watch.Command
			kind watch.FaultKind
		}{
			"no actor":        {watch.Command{Op: watch.OpAck}, watch.FaultInvalid},
			"no command":      {watch.Command{Op: "dance", Actor: "a"}, watch.FaultInvalid},
			"no alert":        {watch.Command{Op: watch.OpAck, Actor: "a", Alert: "x", Reason: "r"}, watch.FaultNotFound},
			"act with nobody": {watch.Command{Op: watch.OpPolicy, Actor: "a", Mode: &act}, watch.FaultInvalid},
			"pinned below 0":  {watch.Command{Op: watch.OpPolicy, Actor: "a", Pinned: &bad}, watch.FaultInvalid},
			"no silence":      {watch.Command{Op: watch.OpSilence, Actor: "a"}, watch.FaultInvalid},
			"silence for ever": {watch.Command{Op: watch.OpSilence, Actor: "a", Silence: &scale.Silence{Reason: "r", Until: time.Now().AddDate(1, 0, 0)}},
				watch.FaultInvalid},
			"unknown silence": {watch.Command{Op: watch.OpUnsilence, Actor: "a", ID: "x"}, watch.FaultNotFound},
			"bad rules":       {watch.Command{Op: watch.OpRules, Actor: "a", Rules: []scale.Rule{{Name: ""}}}, watch.FaultInvalid},
		} {
			_, err := svc.Do(t.Context(), tt.c)
			if f, ok := errors.AsType[*watch.Fault](err); !ok || f.Kind != tt.kind || f.Text == "" {
				t.Errorf("%s: got %v, want a fault of kind %s", name, err, tt.kind)
			}
		}
		if n := len(b.entries(scale.KindConfig, scale.KindSilence)); n != 0 {
			t.Errorf("got %d entries of what was refused, want none", n)
		}
	})
}

// deed is an actuator that remembers.
type deed struct {
	mu     sync.Mutex
	orders []scale.Order
	count  int
	fails  bool
}

func (d *deed) Name() string { return "deed" }

func (d *deed) Act(_ context.Context, o scale.Order) (scale.Action, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.orders = append(d.orders, o)
	if d.fails {
		return scale.Action{}, errors.New("the control plane is away")
	}
	before := d.count
	d.count = o.To
	return scale.Action{Done: true, Changed: true, Before: before, Tries: 1}, nil
}

func (d *deed) Requested(context.Context) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count, nil
}

// told is a notifier that remembers.
type told struct {
	mu      sync.Mutex
	notices []scale.Notice
}

func (n *told) Notify(_ context.Context, notice scale.Notice) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notices = append(n.notices, notice)
	return nil
}

// TestServiceActs: a decision is in the log before the actuator is asked, with its
// action and result; a fault of the actuator asks for a person; people are told.
func TestServiceActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &deed{count: 1}, &told{}
		b := newBed(t, "n1", func(c *watch.Config) {
			c.Actuator, c.Notifier = d, n
			c.Engine.Policy.Mode = scale.Act
		})
		defer b.end()
		svc := b.start()
		b.load.set(func(l *load) { l.connections = 950 })
		await(t, time.Minute, "the actuator is asked for 5", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.count == 5 })
		time.Sleep(2 * time.Second)
		all := b.entries(scale.KindDecision, scale.KindAction, scale.KindResult)
		at := slices.IndexFunc(all, func(e scale.LogEntry) bool { return e.Kind == scale.KindAction })
		if at < 1 || at+1 >= len(all) || all[at].Cause == 0 || all[at+1].Kind != scale.KindResult || all[at+1].Cause != all[at].Seq {
			t.Fatalf("got %+v, want decision, action and result that name each other", all)
		}
		d.mu.Lock()
		o := d.orders[0]
		d.fails = true
		d.mu.Unlock()
		if !strings.HasPrefix(o.ID, "n1~") || o.To != 5 || o.From != 1 {
			t.Errorf("got order %+v", o)
		}
		b.load.set(func(l *load) { l.connections = 1900 })
		await(t, 3*time.Minute, "the fault is in the log", func() bool {
			r := b.entries(scale.KindResult)
			return strings.Contains(r[len(r)-1].Summary, "the control plane is away")
		})
		if st := svc.Status(); st.Last == nil || st.Last.Fault == "" || st.Actuator != "deed" {
			t.Errorf("got %+v, want the fault told", st.Last)
		}
		await(t, 3*time.Minute, "people are told", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.notices) > 0 })
	})
}

// TestServiceCompares: half an hour after a change of the count the log says what
// came of it, also when the node was restarted in between.
func TestServiceCompares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1")
		defer b.end()
		b.start()
		b.load.set(func(l *load) { l.connections, l.messages = 150, 20 })
		time.Sleep(40 * time.Minute)
		b.load.set(func(l *load) { l.connections = 390 })
		time.Sleep(10 * time.Minute)
		b.stop()
		b.start()
		time.Sleep(25 * time.Minute)
		got := b.entries(scale.KindOutcome)
		if len(got) != 1 {
			t.Fatalf("got %d comparisons, want one", len(got))
		}
		var c struct {
			Seq uint64 `json:"seq"`
			scale.Comparison
		}
		if err := json.Unmarshal(got[0].Data, &c); err != nil {
			t.Fatal(err)
		}
		if c.From != 1 || c.To != 2 || c.Signal != scale.Connections || c.Before.Seconds < 1500 || c.After.Seconds < 1500 || c.Before.Value < 140 || c.Before.Value > 170 || c.After.Value < 380 {
			t.Errorf("got %+v, want 150 connections before and 390 after the change from 1 to 2", c)
		}
		if c.Verdict != scale.NoEffect || got[0].Cause != c.Seq {
			t.Errorf("got %s caused by %d, want no effect (nobody acted) and the decision %d as its cause", c.Verdict, got[0].Cause, c.Seq)
		}
		time.Sleep(5 * time.Minute)
		if n := len(b.entries(scale.KindOutcome)); n != 1 {
			t.Errorf("got %d comparisons later, want one still", n)
		}
	})
}

// TestServiceTellsConfigurationChanges: a policy that differs from that of the last
// start is an entry with both.
func TestServiceTellsConfigurationChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1")
		defer b.end()
		b.start()
		time.Sleep(2 * time.Second)
		b.stop()
		b.start()
		time.Sleep(2 * time.Second)
		b.stop()
		if n := len(b.entries(scale.KindConfig)); n != 0 {
			t.Errorf("the same configuration: got %d entries, want none", n)
		}
		b.cfg.Engine.Policy.Max = 7
		b.start()
		time.Sleep(2 * time.Second)
		b.stop()
		got := b.entries(scale.KindConfig)
		if len(got) != 1 || !strings.Contains(string(got[0].Data), `"max":7`) || !strings.Contains(string(got[0].Data), `"max":20`) {
			t.Errorf("got %+v, want one entry with both policies", got)
		}
	})
}
