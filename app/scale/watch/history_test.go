package watch_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// TestHistory runs two hours, with restarts in the middle of spans, and reads them
// at every resolution: nothing is counted twice and nothing is missing but the time
// that the node was down.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1")
		defer b.end()
		svc := b.start()
		begun := time.Now()
		b.load.set(func(l *load) { l.messages = 40 })
		for minute := range 150 {
			b.load.set(func(l *load) { l.connections = 100 + minute })
			time.Sleep(time.Minute)
			if minute == 33 || minute == 71 {
				b.stop()
				time.Sleep(7 * time.Second)
				svc = b.start()
			}
		}
		time.Sleep(15 * time.Second)
		now := time.Now()
		down := 2 * 7.0
		for _, tt := range []struct {
			name   string
			length time.Duration
			source time.Duration
		}{
			{"seconds", 10 * time.Minute, time.Second},
			{"ten seconds", 2 * time.Hour, 10 * time.Second},
			{"all", now.Sub(begun), 10 * time.Second},
			{"a day", 23 * time.Hour, time.Minute},
			{"ten days", 10 * 24 * time.Hour, 15 * time.Minute},
			{"everything", 400 * 24 * time.Hour, 6 * time.Hour},
		} {
			h, err := svc.History(t.Context(), watch.HistoryQuery{From: now.Add(-tt.length), To: now, Signals: []scale.Signal{scale.Connections, scale.DeliveryP95, scale.CPU}, Nodes: []string{"", "n1"}})
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if h.Source != tt.source || len(h.Trends) != 6 {
				t.Errorf("%s: got %v with %d trends, want %v with 6", tt.name, h.Source, len(h.Trends), tt.source)
				continue
			}
			var seconds uint64
			low, high := math.Inf(1), 0.0
			for _, p := range h.Trends[0].Points {
				seconds += p.Count
				low, high = min(low, p.Min), max(high, p.Max)
			}
			if n := len(h.Trends[0].Points); n == 0 || n > watch.MaxPoints {
				t.Errorf("%s: got %d points, want 1 to %d", tt.name, n, watch.MaxPoints)
			}
			want := min(tt.length, now.Sub(begun)).Seconds() - down
			if tt.source == time.Second {
				want += down
			}
			// The open span and, of the coarse ones, what has not ended yet is not there.
			if got := float64(seconds); got > want+2*tt.source.Seconds()+4 || got < want-max(2*tt.source.Seconds(), 30) {
				t.Errorf("%s: got %v seconds, want about %v", tt.name, got, want)
			}
			if tt.length > 150*time.Minute && (low != 100 || high < 230) {
				t.Errorf("%s: got %v to %v connections, want 100 to 249", tt.name, low, high)
			}
			if p := h.Trends[1].Points; len(p) == 0 || p[0].P95 < 0.0015 || p[0].P95 > 0.0025 {
				t.Errorf("%s: delivery got %+v, want 2 ms", tt.name, p[:min(1, len(p))])
			}
			if n := len(h.Trends[2].Points); n != 0 {
				t.Errorf("%s: got %d points of a signal that nobody measured", tt.name, n)
			}
		}
		for name, q := range map[string]watch.HistoryQuery{
			"no signal":   {From: now.Add(-time.Hour), To: now},
			"backwards":   {From: now, To: now.Add(-time.Hour), Signals: []scale.Signal{scale.CPU}},
			"a century":   {From: now.AddDate(-100, 0, 0), To: now, Signals: []scale.Signal{scale.CPU}},
			"too many":    {From: now.Add(-time.Hour), To: now, Signals: []scale.Signal{scale.CPU}, Nodes: make([]string, 300)},
			"of the year": {From: time.Time{}, To: now, Signals: []scale.Signal{scale.CPU}},
		} {
			if _, err := svc.History(t.Context(), q); err == nil {
				t.Errorf("%s: got no error", name)
			}
		}
		// The rule would have fired when 700 connections are 70% of what an instance
		// holds; the load never got there, 150 of a rule of its own did.
		rule := scale.Rule{Name: "own", Signal: scale.Connections, Reduce: scale.Sum, Threshold: 200, Clear: 180, For: time.Minute, NoDataAfter: time.Minute}
		got, err := svc.Backtest(t.Context(), rule, begun, now)
		if err != nil || len(got.Episodes) != 1 || !got.Episodes[0].Until.IsZero() {
			t.Fatalf("backtest: got %+v, %v, want one episode that goes on", got, err)
		}
		if at := got.Episodes[0].From.Sub(begun); at < 101*time.Minute || at > 105*time.Minute {
			t.Errorf("backtest: it fired after %v, want about 102 minutes", at)
		}
	})
}

// TestOutlook lets days go by in the database and looks ahead.
func TestOutlook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, "n1", func(c *watch.Config) { c.Engine.Policy.Max = 2 })
		defer b.end()
		start := time.Now().UTC().Truncate(15 * time.Minute).Add(-21 * 24 * time.Hour)
		var rows []scale.NodeRollup
		for i := range 21 * 96 {
			at := start.Add(time.Duration(i) * 15 * time.Minute)
			day := float64(i) / 96
			load := (200 + 10*day) * (1 + 0.5*math.Sin(2*math.Pi*(day-0.25)))
			for _, node := range []string{"", "n1"} {
				r := scale.Rollup{From: at, Span: 15 * time.Minute}
				slot := scale.Slot{At: at, Instances: 1}
				slot.Values.Set(scale.Connections, load)
				slot.Values.Set(scale.MessagesIn, load/10)
				r.Add(&slot)
				rows = append(rows, scale.NodeRollup{Node: node, Rollup: r})
			}
		}
		if err := b.db.PutRollups(t.Context(), rows, nil, time.Now(), 0); err != nil {
			t.Fatal(err)
		}
		svc := b.start()
		time.Sleep(time.Minute)
		o := svc.Outlook()
		if !o.Good || len(o.Next) != 96 || len(o.Recent) != 96 || o.Recent[40].Actual == nil {
			t.Fatalf("got good %v (%s), %d ahead, %d behind", o.Good, o.Why, len(o.Next), len(o.Recent))
		}
		var errs, sum float64
		for _, p := range o.Recent {
			errs, sum = errs+math.Abs(p.Value-*p.Actual), sum+*p.Actual
		}
		if errs/sum > 0.1 {
			t.Errorf("the last day was forecast with an error of %.0f%%, want below 10%%", 100*errs/sum)
		}
		if len(o.Limits) == 0 || o.Limits[0].Runway.State != scale.RunwayRising {
			t.Errorf("got limits %+v, want connections rising first", o.Limits)
		}
	})
}
