package app_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/relay/overload"
)

var adaptive = app.Adaptive{Enabled: true, Least: 0.125, Most: 2}

func TestTunerFollowsPressure(t *testing.T) {
	type span struct {
		seconds int
		p       app.Pressure
	}
	high := app.Pressure{Memory: 0.7}
	for _, tt := range []struct {
		name  string
		spans []span
		want  string // the shares in percent, as they change
	}{
		{"calm", []span{{600, app.Pressure{Memory: 0.3}}}, ""},
		{"in between", []span{{600, app.Pressure{Memory: 0.55}}}, ""},
		{"one odd second", []span{{1, high}, {60, app.Pressure{Memory: 0.2}}}, ""},
		{"memory", []span{{5, high}, {20, app.Pressure{Memory: 0.55}}}, "50"},
		{"queues", []span{{5, app.Pressure{Memory: 0.1, Queue: 0.65}}}, "50"},
		{"memory for long", []span{{60, high}}, "50 25 12.5"},
		{"almost full", []span{{4, app.Pressure{Memory: 0.9}}}, "50 25 12.5"},
		{"and back", []span{{7, high}, {31, app.Pressure{Memory: 0.4}}, {31, app.Pressure{Memory: 0.4}}, {500, app.Pressure{Memory: 0.4}}}, "50 25 50 100"},
		{"between the thresholds nothing comes back", []span{{4, high}, {500, app.Pressure{Memory: 0.55}}}, "50"},
		{"overflow with room", []span{{20, app.Pressure{Memory: 0.2}}, {1, app.Pressure{Memory: 0.2, Dropped: 9}}, {400, app.Pressure{Memory: 0.2, Dropped: 9}}}, "200 100"},
		{"overflow without room", []span{{20, app.Pressure{Memory: 0.45}}, {60, app.Pressure{Memory: 0.45, Dropped: 9}}}, ""},
		{"overflow beside dips", []span{{20, app.Pressure{Queue: 0.3}}, {8, app.Pressure{Queue: 0.3, Dropped: 9}}, {5, app.Pressure{Dropped: 19}}, {30, app.Pressure{Queue: 0.3, Dropped: 29}}}, ""},
		{"room that others need", []span{{20, app.Pressure{Memory: 0.2}}, {1, app.Pressure{Memory: 0.2, Dropped: 9}}, {1, app.Pressure{Queue: 0.65, Dropped: 9}}, {1, app.Pressure{Queue: 0.55, Dropped: 9}}}, "200 100"},
		{"dropped before we looked", []span{{60, app.Pressure{Memory: 0.2, Dropped: 9}}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tuner, now, last := app.NewTuner(adaptive), time.Unix(1000, 0), 1.0
			var got []string
			for _, s := range tt.spans {
				for range s.seconds {
					now = now.Add(time.Second)
					share, _, why := tuner.Look(now, s.p)
					if (share != last) != strings.Contains(why, "queues and windows") {
						t.Fatalf("from %v to %v, but said %q", last, share, why)
					}
					if share != last {
						got = append(got, fmt.Sprintf("%.4g", share*100))
					}
					last = share
				}
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
}

func TestTunerSlowsHeartbeats(t *testing.T) {
	tuner, now := app.NewTuner(adaptive), time.Unix(1000, 0)
	look := func(level overload.Level, want bool, changed bool) {
		t.Helper()
		now = now.Add(time.Second)
		_, slow, why := tuner.Look(now, app.Pressure{Memory: 0.3, Level: level})
		if slow != want || (why != "") != changed {
			t.Errorf("%v: got slow %v, %q; want %v", level, slow, why, want)
		}
	}
	look(overload.Elevated, false, false)
	look(overload.Degraded, true, true)
	look(overload.Elevated, true, false) // not back at once
	look(overload.Normal, false, true)
}

// TestTunerNeverFlaps holds over random histories: the share stays in its bounds,
// and between a step down and the next step up lie at least 30 s.
func TestTunerNeverFlaps(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		tuner, now, last := app.NewTuner(adaptive), time.Unix(1000, 0), 1.0
		var down time.Time
		p := app.Pressure{}
		for range 2000 {
			now = now.Add(time.Second)
			if r.IntN(10) == 0 {
				p.Memory, p.Queue, p.Level = r.Float64(), r.Float64()*r.Float64(), overload.Level(r.IntN(4))
			}
			p.Dropped += uint64(r.IntN(2))
			share, _, why := tuner.Look(now, p)
			if share < adaptive.Least || share > adaptive.Most {
				t.Fatalf("seed %d: share %v is out of bounds", seed, share)
			}
			if share < last {
				down = now
			}
			if share > last && share <= 1 && now.Sub(down) < 30*time.Second {
				t.Fatalf("seed %d: up again %v after a step down: %s", seed, now.Sub(down), why)
			}
			if share > last && max(p.Memory, p.Queue) >= 0.5 {
				t.Fatalf("seed %d: larger at memory %.2f and queues %.2f", seed, p.Memory, p.Queue)
			}
			last = share
		}
	}
}
