package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// story drives an engine through a day's worth of trouble and returns its log.
func story(t *testing.T) []Entry {
	t.Helper()
	c := DefaultConfig()
	c.Policy.Mode = Act
	e, err := NewEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	log := NewMemoryLog(10_000)
	put := func(entries ...Entry) {
		if _, err := log.Append(context.Background(), entries); err != nil {
			t.Fatal(err)
		}
	}
	now, r := start, rand.New(rand.NewPCG(1, 2))
	n := 3
	run := func(d time.Duration, l level) {
		for end := now.Add(d); now.Before(end); now = now.Add(time.Second) {
			f := fleetOf(now, n, l.with(Connections, l[Connections]+r.Float64()))
			if l[DeliveryP95] > 0 {
				for i := range f.Nodes {
					f.Nodes[i].Delivery.Observe(time.Duration(l[DeliveryP95]*float64(time.Second)), 100)
				}
				f.Sum()
			}
			out, err := e.Tick(now, f)
			if err != nil {
				t.Fatal(err)
			}
			put(out.Entries...)
			n = out.Desired
		}
	}
	must := func(entry Entry, err error) {
		if err != nil {
			t.Fatal(err)
		}
		put(entry)
	}
	run(10*time.Minute, calm())
	run(3*time.Minute, calm().with(CPU, 0.96))
	must(e.Acknowledge(now, "cpu_critical", "ada", "looking at it"))
	run(2*time.Minute, calm().with(ErrorRate, 0.08).with(Memory, 0.95))
	must(e.Silence(now, Silence{ID: "s", By: "ada", Reason: "a test", From: now, Until: now.Add(time.Hour)}))
	run(3*time.Minute, calm().with(DeliveryP95, 1.4))
	run(time.Minute, calm().with(AcceptRate, 900).with(Reconnects, 1))
	p := e.Policy()
	p.Max = 30
	must(e.SetPolicy(now, "ada", p))
	must(Note(now, "ada", "raised the maximum before the fair"))
	run(30*time.Minute, quiet())
	entries, err := log.Entries(context.Background(), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestStoryVerifiesAndReplays(t *testing.T) {
	entries := story(t)
	var v Verifier
	kinds := map[Kind]int{}
	for i := range entries {
		// As a database would give it back.
		var raw bytes.Buffer
		enc := json.NewEncoder(&raw)
		enc.SetEscapeHTML(i%2 == 0)
		if err := enc.Encode(entries[i]); err != nil {
			t.Fatal(err)
		}
		var e Entry
		if err := json.Unmarshal(raw.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		v.Add(&e)
		kinds[e.Kind]++
		again, err := Replay(e)
		if errors.Is(err, ErrNoReplay) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if again.Hash != e.Hash || again.Summary != e.Summary || string(again.Data) != string(e.Data) {
			t.Fatalf("entry %d (%v) replays differently:\n%.2000s\n%.2000s", e.Seq, e.Kind, e.Data, again.Data)
		}
	}
	if faults, _, _ := v.Finish(Head{}); len(faults) > 0 {
		t.Errorf("got %v, want a whole chain", faults)
	}
	for _, k := range []Kind{KindDecision, KindAlert, KindWalk, KindStorm, KindConfig, KindNote, KindSilence} {
		if kinds[k] == 0 {
			t.Errorf("got kinds %v, want some %v", kinds, k)
		}
	}
	if len(entries) > 200 {
		t.Errorf("got %d entries for 49 minutes, want changes only", len(entries))
	}
}

// TestReplayNoticesAnotherDecision changes what a decision was made from.
func TestReplayNoticesAnotherDecision(t *testing.T) {
	entries := story(t)
	i := slices.IndexFunc(entries, func(e Entry) bool { return e.Kind == KindDecision && strings.Contains(e.Summary, "scale up") })
	if i < 0 {
		t.Fatal("got no way up in the story")
	}
	e := entries[i]
	var d DecisionData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		t.Fatal(err)
	}
	d.Decision.Desired++
	e.Data, _ = Canonical(d)
	again, err := Replay(e)
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash == entries[i].Hash && string(again.Data) == string(e.Data) || again.Hash != entries[i].Hash {
		t.Errorf("got %s, want the decision that the inputs give, of hash %s", again.Hash, entries[i].Hash)
	}
}

func TestWalksFollowTheirAlerts(t *testing.T) {
	entries := story(t)
	walks := 0
	for _, e := range entries {
		if e.Kind != KindWalk {
			continue
		}
		walks++
		if e.Cause == 0 || entries[e.Cause-1].Kind != KindAlert {
			t.Errorf("walk %d: got the cause %d, want its alert", e.Seq, e.Cause)
		}
	}
	fired := 0
	for _, e := range entries {
		if e.Kind == KindAlert && strings.Contains(e.Summary, ": firing,") && !strings.HasPrefix(e.Summary, "reconnect_storm") {
			fired++
		}
	}
	if walks != fired || walks == 0 {
		t.Errorf("got %d walks for %d alerts, want one each", walks, fired)
	}
}

func TestEngineKeepsStateOverRestart(t *testing.T) {
	e, _ := NewEngine(DefaultConfig())
	for i := range 400 {
		if _, err := e.Tick(start.Add(time.Duration(i)*time.Second), fleetOf(start, 4, calm().with(Connections, 190))); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(e.State())
	if err != nil {
		t.Fatal(err)
	}
	var st State
	if err := json.Unmarshal(raw, &st); err != nil {
		t.Fatal(err)
	}
	next, _ := NewEngine(DefaultConfig())
	next.Restore(st)
	out, err := next.Tick(start.Add(405*time.Second), fleetOf(start, 4, quiet()))
	if err != nil || out.Desired != 4 || !next.State().Since.Equal(e.State().Since) {
		t.Errorf("got %d, %v, watching since %v, want 4 and the old window", out.Desired, err, next.State().Since)
	}
}

// BenchmarkTick is the cost of one tick: all default rules, the decision and the
// merging of 20 nodes, in a calm second.
func BenchmarkTick(b *testing.B) {
	e, err := NewEngine(DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	var samples []Sample
	for i := range 20 {
		s := Sample{Node: string(rune('a' + i)), At: start, Ready: start.Add(-time.Hour)}
		for sig, v := range calm() {
			s.Values.Set(sig, v)
		}
		for k := range 200 {
			s.Delivery.Observe(time.Duration(k)*time.Millisecond/10, 3)
		}
		s.Seal()
		samples = append(samples, s)
	}
	now := start
	for b.Loop() {
		now = now.Add(time.Second)
		for i := range samples {
			samples[i].At = now
		}
		if _, err := e.Tick(now, FleetOf(now, samples, FleetConfig{})); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDrainsAreWrittenDownOnce has a node drain, come back and drain again.
func TestDrainsAreWrittenDownOnce(t *testing.T) {
	e, err := NewEngine(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range 120 {
		f := fleetOf(start.Add(time.Duration(i)*time.Second), 3, calm())
		if i >= 20 && i < 50 || i >= 80 {
			f.Nodes[1].State = Draining
			f.Sum()
		}
		out, err := e.Tick(f.At, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range out.Entries {
			if entry.Kind == KindDrain {
				got = append(got, fmt.Sprintf("%d: %s", i, entry.Summary))
			}
		}
	}
	want := []string{"20: n02 drains with 150 connections", "80: n02 drains with 150 connections"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestForecastsThatAskAreWrittenDown has the forecast ask for more, be followed, ask
// again at once, and for still more.
func TestForecastsThatAskAreWrittenDown(t *testing.T) {
	c := DefaultConfig()
	c.Policy.Pause = PauseAll // the count stays, so that what is asked for is seen
	e, err := NewEngine(c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range 1200 {
		f := fleetOf(start.Add(time.Duration(i)*time.Second), 3, calm())
		switch {
		case i >= 900:
			f.Ahead = Ahead{Count: 7, Why: "evening"}
		case i >= 600:
			f.Ahead = Ahead{Count: 6, Why: "evening"}
		case i >= 60 && i < 100, i >= 110 && i < 150: // the second time too soon to be told again
			f.Ahead = Ahead{Count: 5, Why: "noon"}
		}
		out, err := e.Tick(f.At, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range out.Entries {
			if entry.Kind == KindForecast {
				got = append(got, fmt.Sprintf("%d: %s", i, entry.Summary))
			}
		}
	}
	want := []string{"60: the forecast asks for 5 instances, 3 are wanted: noon", "600: the forecast asks for 6 instances, 3 are wanted: evening", "900: the forecast asks for 7 instances, 3 are wanted: evening"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
