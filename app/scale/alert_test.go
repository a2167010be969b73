package scale

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// plain is a rule with round numbers: above 70 for 3 s, over at 60 for 5 s.
func plain() Rule {
	return Rule{Name: "plain", Signal: Connections, Reduce: Sum, Threshold: 70, Clear: 60, For: 3 * time.Second, KeepFiring: 5 * time.Second, NoDataAfter: 4 * time.Second}
}

// trace runs a rule over one value a second and writes the states as letters.
// A negative value is a second without data, -2 one with nothing to measure.
func trace(r Rule, values ...float64) (states string, last Alert) {
	a := Alert{Rule: r.Name, Since: start}
	for i, v := range values {
		o := Observation{At: start.Add(time.Duration(i) * time.Second), Reading: Reading{Value: v, State: Fresh}}
		switch v {
		case -1:
			o.Reading = Reading{State: Stale}
		case -2:
			o.Reading = Reading{State: Idle}
		}
		a, _ = Judge(&r, a, o)
		states += string("ipfr"[a.State])
	}
	return states, a
}

func TestJudge(t *testing.T) {
	below := plain()
	below.Below, below.Threshold, below.Clear = true, 30, 40
	at := func(n NoData) Rule {
		r := plain()
		r.NoData = n
		return r
	}
	tests := []struct {
		name   string
		r      Rule
		values []float64
		want   string
	}{
		{"holds and fires", plain(), []float64{50, 71, 71, 71, 71}, "ipppf"},
		{"at the threshold is no breach", plain(), []float64{70, 70, 70, 70, 70}, "iiiii"},
		{"too short", plain(), []float64{71, 71, 69, 71, 71, 71, 71}, "ppipppf"},
		{"between clear and threshold goes on", plain(), []float64{71, 71, 71, 71, 65, 65, 65, 65, 65, 65, 65}, "pppffffffff"},
		{"clears after calm", plain(), []float64{71, 71, 71, 71, 60, 60, 60, 60, 60, 60}, "pppffffffr"},
		{"calm begins anew", plain(), []float64{71, 71, 71, 71, 60, 60, 60, 61, 60, 60, 60, 60, 60, 60}, "pppffffffffffr"},
		{"fires again", plain(), []float64{71, 71, 71, 71, 60, 60, 60, 60, 60, 60, 71, 71, 71, 71}, "pppffffffrpppf"},
		{"below", below, []float64{30, 29, 29, 29, 29, 35, 40, 40, 40, 40, 40, 40}, "ipppfffffffr"},
		{"idle counts as clear", plain(), []float64{71, 71, 71, 71, -2, -2, -2, -2, -2, -2}, "pppffffffr"},
		{"no data holds", at(NoDataHold), []float64{71, 71, 71, 71, -1, -1, -1, -1, -1, -1, -1}, "pppffffffff"},
		{"no data fires", at(NoDataFire), []float64{50, -1, -1, -1, -1, -1}, "iiiiff"},
		{"no data resolves", at(NoDataResolve), []float64{71, 71, 71, 71, -1, -1, -1, -1, -1}, "pppffffrr"},
		{"no data ends pending", at(NoDataHold), []float64{71, 71, -1, -1, -1, -1}, "ppppp" + "i"},
		{"never any data fires", at(NoDataFire), []float64{-1, -1, -1, -1, -1}, "iiiif"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := trace(tt.r, tt.values...); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestFlappingAlertIsToldOnce(t *testing.T) {
	r := plain()
	r.For, r.KeepFiring = 0, 0
	a := Alert{Rule: r.Name}
	told := 0
	for i := range 40 {
		v := 80.0
		if i%2 == 1 {
			v = 10
		}
		var events []Event
		a, events = Judge(&r, a, Observation{At: start.Add(time.Duration(i) * time.Second), Reading: Reading{Value: v, State: Fresh}})
		for _, e := range events {
			if !e.Quiet {
				told++
			}
		}
	}
	if !a.Flapped || told >= flapTurns {
		t.Errorf("got flapping %v, told %d times, want it told less than %d times", a.Flapped, told, flapTurns)
	}
	a, _ = Judge(&r, a, Observation{At: start.Add(time.Hour), Reading: Reading{Value: 10, State: Fresh}})
	if a.Flapped || a.State != Inactive {
		t.Errorf("an hour later: got flapping %v, %v, want neither", a.Flapped, a.State)
	}
}

// alarm runs a set each second until a time has passed.
type alarm struct {
	t   *testing.T
	set *Alerts
	at  time.Time
}

func newAlarm(t *testing.T, rules ...Rule) *alarm {
	t.Helper()
	s, err := NewAlerts(rules, Capacity{})
	if err != nil {
		t.Fatal(err)
	}
	return &alarm{t, s, start}
}

func (a *alarm) run(d time.Duration, f Fleet) (out []Judgement) {
	for end := a.at.Add(d); a.at.Before(end); a.at = a.at.Add(time.Second) {
		f.At = a.at
		out = append(out, a.set.Observe(&f)...)
	}
	return out
}

func (a *alarm) one(key string) Alert {
	all := a.set.Alerts()
	i := slices.IndexFunc(all, func(x Alert) bool { return x.Key() == key })
	if i < 0 {
		a.t.Fatalf("got alerts %v, want %s among them", all, key)
	}
	return all[i]
}

func TestCriticalInhibitsWarning(t *testing.T) {
	a := newAlarm(t, DefaultRules()...)
	a.run(3*time.Minute, fleetOf(start, 2, calm().with(CPU, 0.95)))
	if w := a.one("cpu_warning"); w.State != Firing || w.Under != "cpu_critical" || !w.Quiet() {
		t.Errorf("got %+v, want it firing, and inhibited by cpu_critical", w)
	}
	if c := a.one("cpu_critical"); c.State != Firing || c.Quiet() {
		t.Errorf("got %+v, want it firing and told", c)
	}
}

func TestAcknowledge(t *testing.T) {
	a := newAlarm(t, plain())
	busy := fleetOf(start, 1, level{Connections: 80})
	if err := a.set.Acknowledge("plain", Ack{By: "ada", Reason: "on it"}); !errors.Is(err, ErrNoAlert) {
		t.Errorf("got %v, want %v", err, ErrNoAlert)
	}
	a.run(10*time.Second, busy)
	if err := a.set.Acknowledge("plain", Ack{By: "ada"}); !errors.Is(err, ErrNoReason) {
		t.Errorf("got %v, want %v", err, ErrNoReason)
	}
	if err := a.set.Acknowledge("plain", Ack{By: "ada", Reason: "on it", At: a.at}); err != nil {
		t.Fatal(err)
	}
	a.run(time.Minute, busy)
	if got := a.one("plain"); got.Ack == nil || !got.Quiet() || got.State != Firing {
		t.Errorf("got %+v, want it firing and acknowledged", got)
	}
	a.run(10*time.Second, fleetOf(start, 1, level{Connections: 1}))
	if got := a.one("plain"); got.Ack != nil || got.State != Resolved {
		t.Errorf("got %+v, want it resolved and no longer acknowledged", got)
	}
}

func TestSilence(t *testing.T) {
	a := newAlarm(t, plain())
	ok := Silence{ID: "s1", Rule: "plain", By: "ada", Reason: "load test", From: start, Until: start.Add(time.Minute)}
	for name, q := range map[string]Silence{
		"no reason": {ID: "s", By: "ada", Until: start.Add(time.Hour)},
		"no person": {ID: "s", Reason: "x", Until: start.Add(time.Hour)},
		"no end":    {ID: "s", By: "ada", Reason: "x"},
		"for ever":  {ID: "s", By: "ada", Reason: "x", Until: start.AddDate(1, 0, 0)},
	} {
		if err := a.set.Silence(start, q); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if err := a.set.Silence(start, ok); err != nil {
		t.Fatal(err)
	}
	for _, j := range a.run(30*time.Second, fleetOf(start, 1, level{Connections: 80})) {
		for _, e := range j.Events {
			if !e.Quiet {
				t.Errorf("got %+v, want nothing told", e)
			}
		}
	}
	if got := a.one("plain"); got.State != Firing || got.Silent != "s1" {
		t.Errorf("got %+v, want it firing, silenced by s1", got)
	}
	a.run(time.Minute, fleetOf(start, 1, level{Connections: 80}))
	if got := a.one("plain"); got.Silent != "" || got.Quiet() {
		t.Errorf("after its end: got %+v, want it not silenced", got)
	}
	for i := range maxSilences {
		q := ok
		q.ID, q.Until = strings.Repeat("x", i+1), a.at.Add(time.Hour)
		if err := a.set.Silence(a.at, q); err != nil {
			t.Fatal(err)
		}
	}
	ok.Until = a.at.Add(time.Hour)
	if err := a.set.Silence(a.at, ok); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v, want %v", err, ErrTooMany)
	}
	if err := a.set.Unsilence("nobody"); !errors.Is(err, ErrNoSilence) {
		t.Errorf("got %v, want %v", err, ErrNoSilence)
	}
}

func TestEachNode(t *testing.T) {
	r := plain()
	r.Reduce = EachNode
	a := newAlarm(t, r)
	f := mixed(fleetOf(start, 3, level{Connections: 10}), map[int]func(*Node){1: set(Connections, 90)})
	a.run(10*time.Second, f)
	if all := a.set.Alerts(); len(all) != 1 || all[0].Key() != "plain@n02" || all[0].State != Firing {
		t.Fatalf("got %+v, want plain@n02 alone", all)
	}
	// A node that is gone takes its alert along.
	f.Nodes = slices.Delete(f.Nodes, 1, 2)
	f.Sum()
	a.run(10*time.Second, f)
	if got := a.one("plain@n02"); got.State != Resolved {
		t.Errorf("got %v, want resolved", got.State)
	}
}

func TestGrouper(t *testing.T) {
	g := NewGrouper()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	add := func(s int, group string, severity Severity, to AlertState, quiet bool) {
		g.Add(&Judgement{Rule: Rule{Name: "r", Group: group, Severity: severity}, Events: []Event{{At: at(s), Alert: "r", To: to, Quiet: quiet}}})
	}
	add(0, "cpu", Warning, Firing, false)
	add(1, "cpu", Warning, Resolved, false)
	add(2, "memory", Critical, Firing, false)
	add(2, "errors", Critical, Firing, true)
	if got := g.Flush(at(6)); got != nil {
		t.Errorf("got %v, want nothing yet", got)
	}
	if got := g.Flush(at(7)); len(got) != 1 || got[0].Group != "memory" || got[0].Severity != Critical {
		t.Errorf("got %v, want memory first", got)
	}
	if got := g.Flush(at(30)); len(got) != 1 || got[0].Group != "cpu" || len(got[0].Events) != 2 || got[0].Resolved {
		t.Errorf("got %v, want both events of cpu", got)
	}
	if got := g.Flush(at(100)); got != nil {
		t.Errorf("got %v, want each notice once", got)
	}
}

// TestBacktestEqualsLive runs one load live and as stored samples.
func TestBacktestEqualsLive(t *testing.T) {
	r := plain()
	a := newAlarm(t, r)
	var points []Point
	fired := 0
	for i := range 600 {
		l := level{Connections: 30}
		if i%200 > 150 {
			l[Connections] = 45 // two nodes: 90
		}
		f := fleetOf(start.Add(time.Duration(i)*time.Second), 2, l)
		for _, j := range a.set.Observe(&f) {
			for _, e := range j.Events {
				if e.To == Firing {
					fired++
				}
			}
		}
		s := SlotOf(&f)
		points = append(points, Point{At: s.At, Instances: s.Instances, Values: s.Values})
	}
	b, err := Backtest(r, Capacity{}, points)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Episodes) != fired || fired != 3 || b.Moments != 600 || b.Episodes[0].Worst != 90 {
		t.Errorf("got %+v, want %d episodes that reach 90", b, fired)
	}
	// Each fires 3 s after its breach of 49 s and 5 s of calm after it ends; the
	// last one fires still.
	if want := 2*(49-3+5)*time.Second + 45*time.Second; b.Firing != want {
		t.Errorf("got %v of firing, want %v", b.Firing, want)
	}
	points[5].At = start.Add(-time.Hour)
	if _, err := Backtest(r, Capacity{}, points); err == nil {
		t.Error("points out of order: got no error")
	}
}

func TestRuleValidate(t *testing.T) {
	if err := ValidateRules(DefaultRules()); err != nil {
		t.Fatal(err)
	}
	bad := []Rule{plain(), plain()}
	bad[0].Clear = 80
	bad[1].OfCapacity, bad[1].Signal = true, CPU
	bad[1].InhibitedBy = []string{"nobody"}
	err := ValidateRules(bad)
	for _, want := range []string{"bad side", "cpu has no capacity", "given twice", `"nobody" is no other rule`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
