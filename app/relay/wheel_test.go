package relay

import (
	"math/rand/v2"
	"testing"
)

// expiries notes what expired and when.
type expiries struct{ at map[*timer]int64 }

type nothing struct {
	e   *expiries
	now *int64
}

func (n nothing) expire(_ *Turn, tm *timer) { n.e.at[tm] = *n.now }

// TestWheelsAgainstNaiveModel arms, moves and stops timers at random, near and far
// beyond one turn of the wheel, and checks that each expires exactly when it is due.
func TestWheelsAgainstNaiveModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var w wheels
	now := int64(1)
	e := &expiries{at: map[*timer]int64{}}
	want := map[*timer]int64{}
	timers := make([]*timer, 500)
	for i := range timers {
		timers[i] = &timer{owner: nothing{e, &now}, shard: uint8(i)}
	}
	var due []*timer
	for range 20_000 {
		tm := timers[rng.IntN(len(timers))]
		switch rng.IntN(3) {
		case 0, 1:
			when := now + rng.Int64N(int64(tick)*[]int64{4, 300, 3 * wheelSlots}[rng.IntN(3)])
			w.arm(tm, when)
			want[tm] = when
		case 2:
			w.stop(tm)
			delete(want, tm)
		}
		if rng.IntN(4) > 0 {
			continue
		}
		now += rng.Int64N(int64(tick) * 10)
		due = w.advance(nil, now, due)
		for tm, at := range e.at {
			when, armed := want[tm]
			if !armed {
				t.Fatalf("a timer that was not armed expired at %d", at)
			}
			if when > at {
				t.Fatalf("a timer for %d expired at %d", when, at)
			}
			delete(want, tm)
			delete(e.at, tm)
		}
		for _, when := range want {
			if when <= now {
				t.Fatalf("a timer for %d has not expired at %d", when, now)
			}
		}
	}
}
