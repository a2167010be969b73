package watch_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// TestRegionsForecastApart lets two regions have opposite days, so that their sum is
// flat, and holds that each is scaled ahead by its own day.
func TestRegionsForecastApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		regions := []string{"east", "west"}
		k := 0
		w, beds := join(t, 2, func(c *watch.Config) {
			c.Region = regions[k]
			k++
			start := time.Now().UTC().Truncate(15 * time.Minute).Add(-21 * 24 * time.Hour)
			var rows []scale.NodeRollup
			for i := range 21 * 96 {
				at := start.Add(time.Duration(i) * 15 * time.Minute)
				// The load of the east is highest half an hour after now, that of the west lowest.
				wave := math.Cos(2 * math.Pi * (float64(i-21*96) - 2) / 96)
				east, west := 1000+800*wave, 1000-800*wave
				for node, load := range map[string]float64{"": east + west, "@east": east, "@west": west} {
					r := scale.Rollup{From: at, Span: 15 * time.Minute}
					slot := scale.Slot{At: at, Instances: 1}
					slot.Values.Set(scale.Connections, load)
					r.Add(&slot)
					rows = append(rows, scale.NodeRollup{Node: node, Rollup: r})
				}
			}
			if err := c.Store.PutRollups(t.Context(), rows, nil, time.Now(), 0); err != nil {
				t.Fatal(err)
			}
		})
		defer func() {
			for _, b := range beds {
				b.end()
			}
		}()
		_ = w
		time.Sleep(time.Minute)
		want := map[string]int{"east": 9, "west": 2} // 1,800 and about 210 connections at 200 an instance
		for i, b := range beds {
			region := regions[i]
			o := b.svc.Outlook()
			if o.Region == nil || o.Region.Region != region || !o.Region.Good || len(o.Region.Next) != 96 {
				t.Fatalf("%s: got %+v, want a good forecast of its own", region, o.Region)
			}
			if len(o.Regions) != 2 || o.Regions[0].Region != region || !o.Regions[0].Own || o.Regions[1].Region != regions[1-i] || o.Regions[1].Own {
				t.Fatalf("%s: got the regions %+v, want both, its own first", region, o.Regions)
			}
			for _, r := range o.Regions { // the coming hour's top is that of the east, the other's bottom
				most := map[string]float64{"east": 1800, "west": 200}[r.Region]
				if !r.Good || len(r.Next) != 96 || len(r.Recent) != 96 || math.Abs(r.Next[1].Value-most) > 100 || !(r.Next[1].Low <= r.Next[1].Value && r.Next[1].Value <= r.Next[1].High) {
					t.Fatalf("%s: of %s got good %v, %d ahead, %d past, %+v soon, want about %v", region, r.Region, r.Good, len(r.Next), len(r.Recent), r.Next[1], most)
				}
				if last := r.Recent[95]; last.Actual == nil || math.Abs(*last.Actual-last.Value) > 100 {
					t.Errorf("%s: of %s got %+v, want what came beside the forecast", region, r.Region, last)
				}
			}
			for _, p := range o.Next { // the fleet as a whole has no season
				if math.Abs(p.Value-2000) > 100 {
					t.Fatalf("%s: the fleet is forecast at %.0f, want about 2000", region, p.Value)
				}
			}
			if got := o.Ahead.Count; got < want[region] || got > want[region]+1 {
				t.Errorf("%s: %d instances ahead (%s), want %d", region, got, o.Ahead.Why, want[region])
			}
			if names, err := b.svc.Nodes(t.Context()); err != nil || slices.Contains(names, "@"+region) {
				t.Errorf("%s: nodes are %v (%v), want no region among them", region, names, err)
			}
		}
	})
}

// TestRegionWithoutHistory holds that a region which cannot be forecast by itself is
// not scaled ahead by the load of all.
func TestRegionWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		regions := []string{"east", "west"}
		k := 0
		_, beds := join(t, 2, func(c *watch.Config) {
			c.Region = regions[k]
			k++
			start := time.Now().UTC().Truncate(15 * time.Minute).Add(-21 * 24 * time.Hour)
			var rows []scale.NodeRollup
			for i := range 21 * 96 {
				r := scale.Rollup{From: start.Add(time.Duration(i) * 15 * time.Minute), Span: 15 * time.Minute}
				slot := scale.Slot{At: r.From, Instances: 2}
				slot.Values.Set(scale.Connections, 2000+900*math.Sin(2*math.Pi*float64(i)/96))
				r.Add(&slot)
				rows = append(rows, scale.NodeRollup{Rollup: r})
			}
			if err := c.Store.PutRollups(t.Context(), rows, nil, time.Now(), 0); err != nil {
				t.Fatal(err)
			}
		})
		defer func() {
			for _, b := range beds {
				b.end()
			}
		}()
		time.Sleep(16 * time.Minute) // a second look, which knows of the regions
		for i, b := range beds {
			o := b.svc.Outlook()
			if !o.Good || o.Region == nil || o.Region.Good || o.Region.Why == "" || o.Ahead.Count != 0 {
				t.Errorf("%s: got the fleet %v, the region %+v, ahead %+v, want a forecast of the fleet and none of the region", regions[i], o.Good, o.Region, o.Ahead)
			}
		}
	})
}
