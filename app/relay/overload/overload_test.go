package overload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const tick = 50 * time.Millisecond

var start = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// A stretch is the same signals for a while, read each tick.
type stretch struct {
	signals Signals
	long    time.Duration
}

// climb observes the stretches one after the other and returns what changed:
// "350ms elevated lag 60 ms over 50 ms".
func climb(c Config, stretches []stretch) (changes []string) {
	l, now := NewLadder(c), start
	for _, s := range stretches {
		for end := now.Add(s.long); now.Before(end); now = now.Add(tick) {
			if lvl, changed, cause := l.Observe(now, s.signals); changed {
				changes = append(changes, fmt.Sprintf("%v %v %s", now.Sub(start), lvl, cause))
			}
		}
	}
	return changes
}

func TestLadder(t *testing.T) {
	ms := func(n int) Signals { return Signals{Lag: time.Duration(n) * time.Millisecond} }
	for name, tt := range map[string]struct {
		config    Config
		stretches []stretch
		want      []string
	}{
		"calm stays normal": {Config{}, []stretch{{ms(49), time.Minute}}, nil},
		"a short breach does nothing": {Config{}, []stretch{
			{ms(600), 300 * time.Millisecond}, {ms(40), tick}, {ms(600), 300 * time.Millisecond}, {ms(40), time.Second}}, nil},
		"up after the hold, at once to the level that is reached": {Config{}, []stretch{{ms(180), time.Second}},
			[]string{"300ms degraded lag 180 ms over 150 ms"}},
		"up again from the first breach on": {Config{}, []stretch{{ms(60), time.Second}, {ms(501), time.Second}},
			[]string{"300ms elevated lag 60 ms over 50 ms", "1.3s critical lag 501 ms over 500 ms"}},
		"down one by one": {Config{}, []stretch{{ms(700), time.Second}, {ms(1), 20 * time.Second}},
			[]string{
				"300ms critical lag 700 ms over 500 ms",
				"6s degraded all signals below 70% of the critical thresholds for 5s",
				"11.05s elevated all signals below 70% of the degraded thresholds for 5s",
				"16.1s normal all signals below 70% of the elevated thresholds for 5s",
			}},
		"between calm and threshold nothing moves": {Config{}, []stretch{{ms(60), time.Second}, {ms(36), time.Hour}},
			[]string{"300ms elevated lag 60 ms over 50 ms"}},
		"a breach while going down starts the wait anew": {Config{}, []stretch{
			{ms(60), time.Second}, {ms(1), 4900 * time.Millisecond}, {ms(36), tick}, {ms(1), 6 * time.Second}},
			[]string{"300ms elevated lag 60 ms over 50 ms",
				"10.95s normal all signals below 70% of the elevated thresholds for 5s"}},
		"critical memory at once": {Config{}, []stretch{{Signals{Memory: 0.95}, tick}},
			[]string{"0s critical memory 95% over 93%"}},
		"degraded memory waits": {Config{}, []stretch{{Signals{Memory: 0.86}, time.Second}},
			[]string{"300ms degraded memory 86% over 85%"}},
		"the worst signal is the cause": {Config{}, []stretch{{Signals{Lag: 151 * time.Millisecond, Queue: 0.88, Busy: 1}, time.Second}},
			[]string{"300ms degraded queue 88% over 75%"}},
		"busy alone is elevated": {Config{}, []stretch{{Signals{Busy: 1}, time.Minute}},
			[]string{"300ms elevated busy 100% over 97%"}},
		"a busy loop does not hold the higher level": {Config{}, []stretch{
			{Signals{Lag: time.Second, Busy: 1}, time.Second}, {Signals{Busy: 1}, time.Minute}},
			[]string{"300ms critical lag 1000 ms over 500 ms",
				"6s degraded all signals below 70% of the critical thresholds for 5s",
				"11.05s elevated all signals below 70% of the degraded thresholds for 5s"}},
		"own thresholds and holds": {Config{Queue: Shares{0.1, Never, 0.2}, UpHold: time.Second, DownHold: 2 * time.Second}, []stretch{
			{Signals{Queue: 0.15}, 1100 * time.Millisecond}, {Signals{}, 3 * time.Second}},
			[]string{"1s elevated queue 15% over 10%",
				"3.1s normal all signals below 70% of the elevated thresholds for 2s"}},
		"not a number changes nothing": {Config{}, []stretch{
			{ms(60), time.Second}, {Signals{Queue: math.NaN()}, time.Minute}},
			[]string{"300ms elevated lag 60 ms over 50 ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := climb(tt.config, tt.stretches); !slices.Equal(got, tt.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// Whatever the signals do, the level never flaps and never moves without cause.
func TestLadderNeverFlaps(t *testing.T) {
	c := Config{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		l, now := NewLadder(c), start
		level, since, stepped := Normal, time.Time{}, 0
		var s Signals
		for range 3000 {
			now = now.Add(time.Duration(1+r.IntN(200)) * time.Millisecond)
			if r.IntN(1+int(seed%60)) == 0 { // from wild to slow
				s = Signals{Lag: time.Duration(r.IntN(700)) * time.Millisecond, Busy: r.Float64(), Queue: r.Float64() * 1.1, Memory: r.Float64()}
				if r.IntN(2) == 0 {
					s = Signals{Lag: time.Duration(r.IntN(80)) * time.Millisecond}
				}
			}
			got, changed, cause := l.Observe(now, s)
			if changed != (got != level) || changed != (cause != "") {
				t.Fatalf("seed %d: level %v to %v, changed %v, cause %q", seed, level, got, changed, cause)
			}
			if !changed {
				continue
			}
			held := now.Sub(since)
			switch {
			case got < level && got != level-1:
				t.Fatalf("seed %d: from %v down to %v", seed, level, got)
			case got < level && held < 5*time.Second:
				t.Fatalf("seed %d: down to %v after %v", seed, got, held)
			case got > level && stepped < 0 && held < 300*time.Millisecond && s.Memory < 0.93:
				t.Fatalf("seed %d: up to %v %v after going down", seed, got, held)
			}
			stepped = int(got) - int(level)
			level, since = got, now
			if lvl, at := l.Level(); lvl != level || !at.Equal(since) {
				t.Fatalf("level: got %v since %v, want %v since %v", lvl, at, level, since)
			}
		}
	}
}

// Higher signals never lead to a lower level.
func TestHigherSignalsNeverLowerTheLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	settle := func(s Signals) (lvl Level) {
		l := NewLadder(Config{})
		for i := range 8 {
			lvl, _, _ = l.Observe(start.Add(time.Duration(i)*tick), s)
		}
		return lvl
	}
	for range 2000 {
		low := Signals{time.Duration(r.IntN(600)) * time.Millisecond, r.Float64(), r.Float64(), r.Float64()}
		high := low
		switch r.IntN(4) {
		case 0:
			high.Lag += time.Duration(r.IntN(300)) * time.Millisecond
		case 1:
			high.Busy += r.Float64()
		case 2:
			high.Queue += r.Float64()
		case 3:
			high.Memory += r.Float64()
		}
		if a, b := settle(low), settle(high); a > b {
			t.Fatalf("%+v gives %v, %+v gives %v", low, a, high, b)
		}
	}
}

func TestClockSetBackStartsAnew(t *testing.T) {
	l := NewLadder(Config{})
	s := Signals{Lag: 60 * time.Millisecond}
	l.Observe(start, s)
	if lvl, _, _ := l.Observe(start.Add(-time.Hour), s); lvl != Normal {
		t.Errorf("after one hour back: got %v, want normal", lvl)
	}
	if lvl, _, _ := l.Observe(start.Add(-time.Hour+300*time.Millisecond), s); lvl != Elevated {
		t.Errorf("after the hold: got %v, want elevated", lvl)
	}
}

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		c    Config
		want []string // parts of the error; none: valid
	}{
		"defaults": {Config{}, nil},
		"never":    {Config{Lag: Lags{Never, Never, Never}, Memory: Shares{Never, 0.5, Never}}, nil},
		"order": {Config{Lag: Lags{Elevated: 200 * time.Millisecond}},
			[]string{"lag.degraded: 150 ms is below lag.elevated (200 ms)"}},
		"order over a gap": {Config{Queue: Shares{0.8, Never, 0.7}}, []string{"queue.critical: 70% is below queue.elevated (80%)"}},
		"share above one":  {Config{Memory: Shares{0.1, 0.2, 90}}, []string{"memory.critical: 9000% is above 1"}},
		"all at once": {Config{Busy: Shares{Elevated: -0.5}, Queue: Shares{Critical: math.NaN()}, UpHold: -1, DownHold: -1},
			[]string{"busy.elevated: -50%", "queue.critical: NaN%", "up_hold: -1ns", "down_hold: -1ns"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.c.Validate()
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to hold %q", err, part)
				}
			}
		})
	}
}

func TestLevels(t *testing.T) {
	type row struct {
		word                                                                     string
		sheds                                                                    []string
		history, presence, background, low, throttle, normal, connections, keeps bool
		factor                                                                   float64
	}
	for lvl, want := range map[Level]row{
		Normal:   {word: "normal", keeps: true, factor: 1},
		Elevated: {"elevated", []string{"history", "presence", "background"}, true, true, true, false, false, false, false, true, 1},
		Degraded: {"degraded", []string{"history", "presence", "background", "low", "publish_rate"}, true, true, true, true, true, false, false, true, 0.5},
		Critical: {"critical", []string{"history", "presence", "background", "low", "publish_rate", "normal_publish", "connections"},
			true, true, true, true, true, true, true, true, 0.25},
	} {
		got := row{lvl.String(), lvl.Sheds(), lvl.DefersHistory(), lvl.DropsPresence(), lvl.DefersBackground(), lvl.DropsLow(),
			lvl.ThrottlesPublish(), lvl.DropsNormalPublish(), lvl.RefusesConnections(), lvl.KeepsDirectCritical(), lvl.PublishFactor()}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v:\ngot  %+v\nwant %+v", lvl, got, want)
		}
		if (lvl.RetryAfter() > 0) != (lvl > Normal) {
			t.Errorf("%v: retry after %v", lvl, lvl.RetryAfter())
		}
	}
	if got := Level(9).String(); got != "unknown" {
		t.Errorf("level 9: got %q, want unknown", got)
	}
}

func TestSteadyObserveDoesNotAllocate(t *testing.T) {
	l, now := NewLadder(Config{}), start
	s := Signals{Lag: 60 * time.Millisecond, Busy: 0.5, Queue: 0.1, Memory: 0.3}
	for range 20 {
		now = now.Add(tick)
		l.Observe(now, s)
	}
	if got := testing.AllocsPerRun(1000, func() {
		now = now.Add(tick)
		l.Observe(now, s)
	}); got != 0 {
		t.Errorf("allocations: got %v, want 0", got)
	}
}

func BenchmarkObserve(b *testing.B) {
	l, now := NewLadder(Config{}), start
	s := Signals{Lag: 60 * time.Millisecond, Busy: 0.5, Queue: 0.1, Memory: 0.3}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(tick)
		l.Observe(now, s)
	}
}
