package scale

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var forecastStart = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC) // a Monday

// season makes a series of whole days in steps of 15 minutes.
func season(days int, noise float64, seed uint64, f func(day, hour float64) float64) Series {
	rnd := rand.New(rand.NewPCG(seed, 99))
	s := Series{Start: forecastStart, Step: 15 * time.Minute, Values: make([]float64, days*96)}
	for i := range s.Values {
		v := f(float64(i)/96, float64(i%96)/4)
		s.Values[i] = max(0, v*(1+noise*rnd.NormFloat64()))
	}
	return s
}

// office is a working day: quiet nights, a hill from eight to six, quiet weekends.
func office(day, hour float64) float64 {
	v := 400 + 1600*math.Exp(-math.Pow((hour-13)/4, 2))
	if weekday := int(day) % 7; weekday >= 5 {
		v = 400 + 0.3*(v-400)
	}
	return v
}

func TestForecastBacktests(t *testing.T) {
	const horizon = 3 * time.Hour
	tests := []struct {
		name   string
		series Series
		wape   float64 // at most
		good   bool
	}{
		{"steady", season(7, 0.02, 1, func(_, _ float64) float64 { return 1000 }), 0.03, true},
		{"daily", season(10, 0.05, 2, func(_, h float64) float64 { return 1000 + 600*math.Sin(h/24*2*math.Pi) }), 0.07, true},
		{"daily and weekly", season(35, 0.05, 3, office), 0.10, true},
		{"with growth", season(35, 0.05, 4, func(d, h float64) float64 { return office(d, h) * (1 + d/50) }), 0.10, true},
		{"a shift of level before the check", season(35, 0.05, 5, func(d, h float64) float64 {
			if d > 20 {
				return 1.6 * office(d, h)
			}
			return office(d, h)
		}), 0.15, true},
		{"a shift of level within the check", season(35, 0.05, 6, func(d, h float64) float64 {
			if d > 30 {
				return 1.6 * office(d, h)
			}
			return office(d, h)
		}), 0.15, true},
		{"pure noise", season(14, 1, 7, func(_, _ float64) float64 { return 1000 }), 2, false},
		{"one day only", season(1, 0.02, 8, func(_, h float64) float64 { return 1000 + 600*math.Sin(h/24*2*math.Pi) }), 2, false},
	}
	for _, tt := range tests {
		a := Check(tt.series, horizon)
		t.Logf("%-36s %2d forecasts, WAPE %.1f%%, as it is %.1f%%, bias %+.1f%%, within the range %.0f%% (widened %.1f): good %v",
			tt.name, a.Origins, a.WAPE*100, a.Naive*100, a.Bias*100, a.Cover*100, a.Widen, a.Good)
		if a.Good != tt.good || a.WAPE > tt.wape {
			t.Errorf("%s: got WAPE %.3f, good %v (%s); want at most %.3f, %v", tt.name, a.WAPE, a.Good, a.Why, tt.wape, tt.good)
		}
		if a.Good && a.Cover < 0.75 {
			t.Errorf("%s: the range held %.0f%% of the values, want about 80%%", tt.name, a.Cover*100)
		}
	}
}

// TestForecastAfterShift looks at the hours right after a shift of level: what
// deviates of late must be carried on.
func TestForecastAfterShift(t *testing.T) {
	shifted := func(d, h float64) float64 {
		if d >= 27.5 {
			return office(d, h) + 900
		}
		return office(d, h)
	}
	s := season(29, 0.03, 11, shifted)
	at := 27*96 + 48 + 16 // four hours after the shift
	m, err := Learn(s.head(at))
	if err != nil {
		t.Fatal(err)
	}
	for h, p := range m.Ahead(8) {
		want := shifted(float64(at+h)/96, float64((at+h)%96)/4)
		if math.Abs(p.Value-want) > 0.2*want {
			t.Errorf("%v after the history: got %.0f, want %.0f within 20%%", time.Duration(h)*s.Step, p.Value, want)
		}
	}
}

func TestForecastWithGaps(t *testing.T) {
	s := season(21, 0.03, 12, office)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range s.Values {
		if rnd.IntN(10) < 3 || i > 500 && i < 600 {
			s.Values[i] = math.NaN()
		}
	}
	if a := Check(s, 2*time.Hour); !a.Good {
		t.Errorf("with a third of the values missing: %s", a.Why)
	}
}

func TestForecastRefuses(t *testing.T) {
	nans := make([]float64, 100)
	for i := range nans {
		nans[i] = math.NaN()
	}
	tests := []struct {
		name string
		s    Series
		want error
	}{
		{"empty", Series{Step: time.Minute}, ErrNoHistory},
		{"no step", Series{Values: make([]float64, 100)}, ErrSeries},
		{"too long", Series{Step: time.Minute, Values: make([]float64, MaxSeries+1)}, ErrSeries},
		{"no values", Series{Step: time.Minute, Values: nans}, ErrNoHistory},
		{"few values", Series{Step: time.Minute, Values: make([]float64, minSteps-1)}, ErrNoHistory},
	}
	for _, tt := range tests {
		if _, err := Learn(tt.s); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if a := Check(tt.s, time.Hour); a.Good || a.Why == "" {
			t.Errorf("%s: got %+v, want a reason why it is not good", tt.name, a)
		}
	}
}

// TestForecastIsSane feeds what no fleet ever was: predictions stay finite,
// ordered and not below zero.
func TestForecastIsSane(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for round := range 300 {
		n := minSteps + rnd.IntN(2000)
		s := Series{Start: forecastStart, Step: time.Duration(1+rnd.IntN(7200)) * time.Second, Values: make([]float64, n)}
		for i := range s.Values {
			switch rnd.IntN(12) {
			case 0:
				s.Values[i] = math.NaN()
			case 1:
				s.Values[i] = rnd.Float64() * 1e12
			case 2:
				s.Values[i] = math.Inf(1)
			default:
				s.Values[i] = float64(rnd.IntN(3))
			}
		}
		m, err := Learn(s)
		if err != nil {
			continue
		}
		for _, p := range m.Ahead(200) {
			if !finite(p.Value) || !finite(p.High) || p.Low < 0 || p.Low > p.Value || p.High < p.Value {
				t.Fatalf("round %d: got %+v", round, p)
			}
		}
	}
}

func TestForecastScalesAhead(t *testing.T) {
	policy := DefaultPolicy(Capacity{})
	policy.Max = 100
	s := season(36, 0.03, 13, office)
	at := 28*96 + 8*4 // Monday, eight in the morning
	f, err := ForecastOf(Connections, s.head(at), 3*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	now := s.At(at)
	const lead = 150 * time.Minute
	got := f.Before(now, lead, &policy)
	// At half past ten it is 400 + 1600·e^−(2.5/4)² = 1,483 connections, which need eight.
	if got.Count != 8 || got.Why == "" {
		t.Errorf("got %+v (%s), want 8", got, f.Accuracy.Why)
	}
	policy.Max = 4
	if got := f.Before(now, lead, &policy); got.Count != 4 {
		t.Errorf("beyond the bounds: got %d, want 4", got.Count)
	}
	policy.Max = 100
	if got := f.Before(now.Add(6*time.Hour), lead, &policy); got.Count != 0 {
		t.Errorf("from a history six hours old: got %d, want nothing", got.Count)
	}
	f.Accuracy.Good = false
	if got := f.Before(now, lead, &policy); got.Count != 0 {
		t.Errorf("without a good backtest: got %d, want nothing", got.Count)
	}
}

func TestDaysUntil(t *testing.T) {
	grow := func(level, perDay float64) func(d, h float64) float64 {
		return func(d, h float64) float64 {
			return (level + perDay*d) * (0.6 + 0.4*math.Sin((h-6)/24*2*math.Pi))
		}
	}
	tests := []struct {
		name  string
		s     Series
		limit float64
		state RunwayState
		days  float64
	}{
		{"rising", season(28, 0.01, 21, grow(570, 10)), 1000, RunwayRising, 15}, // 850 after 28 days
		{"rising slowly", season(28, 0.01, 22, grow(700, 2)), 1000, RunwayRising, 120},
		{"flat", season(28, 0.01, 23, grow(700, 0)), 1000, RunwayFlat, 0},
		{"falling", season(28, 0.01, 24, grow(900, -10)), 1000, RunwayFlat, 0},
		{"reached", season(28, 0.01, 25, grow(900, 10)), 1000, RunwayReached, 0},
		{"too short", season(2, 0.01, 26, grow(570, 10)), 1000, RunwayUnknown, 0},
		{"weekly", season(35, 0.02, 27, func(d, h float64) float64 { return office(d, h) * (1 + d/100) }), 3400, RunwayRising, 35},
	}
	for _, tt := range tests {
		r := DaysUntil(tt.s, tt.limit)
		t.Logf("%-14s %+v", tt.name, r)
		if r.State != tt.state {
			t.Errorf("%s: got %+v, want state %s", tt.name, r, tt.state)
			continue
		}
		if r.State != RunwayRising {
			continue
		}
		if math.Abs(r.Days-tt.days) > 0.15*tt.days+1 {
			t.Errorf("%s: got %.1f days, want about %.0f", tt.name, r.Days, tt.days)
		}
		if r.Early > r.Days || r.Late != 0 && r.Late < r.Days {
			t.Errorf("%s: the range %.1f to %.1f does not hold %.1f", tt.name, r.Early, r.Late, r.Days)
		}
	}
}

// TestDaysUntilBand makes many noisy histories with a known end and counts how
// often the range holds it.
func TestDaysUntilBand(t *testing.T) {
	held, total := 0, 0
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		s := Series{Start: forecastStart, Step: time.Hour, Values: make([]float64, 28*24)}
		for d := range 28 {
			off := rnd.NormFloat64() * 20
			for h := range 24 {
				s.Values[d*24+h] = 500 + 10*float64(d+1) + off
			}
		}
		r := DaysUntil(s, 1000) // 500 + 10·28 = 780 now, so in 22 days
		if r.State != RunwayRising {
			t.Fatalf("seed %d: got %+v", seed, r)
		}
		total++
		if r.Early <= 22 && (r.Late == 0 || r.Late >= 22) {
			held++
		}
	}
	if share := float64(held) / float64(total); share < 0.75 {
		t.Errorf("the range of 80%% held the truth %.0f%% of %d times", share*100, total)
	}
}

func TestFirstToBreak(t *testing.T) {
	rows := []LimitRow{{Name: "disk", Runway: Runway{State: RunwayFlat}}, {Name: "memory", Runway: Runway{State: RunwayRising, Days: 19}},
		{Name: "nodes", Runway: Runway{State: RunwayUnknown}}, {Name: "cpu", Runway: Runway{State: RunwayReached}}, {Name: "connections", Runway: Runway{State: RunwayRising, Days: 3}}}
	FirstToBreak(rows)
	want := []string{"cpu", "connections", "memory", "disk", "nodes"}
	for i, r := range rows {
		if r.Name != want[i] {
			t.Errorf("place %d: got %s, want %s", i, r.Name, want[i])
		}
	}
}

func TestFullIn(t *testing.T) {
	s := Series{Step: time.Minute, Values: []float64{100, 150, math.NaN(), 250, 300}}
	if d, ok := FullIn(s, 900); !ok || d.Round(time.Second) != 12*time.Minute {
		t.Errorf("got %v, %v, want 12m0s", d, ok)
	}
	if d, ok := FullIn(s, 300); !ok || d != 0 {
		t.Errorf("at the limit: got %v, %v, want 0s", d, ok)
	}
	for name, v := range map[string][]float64{"flat": {5, 5, 5, 5}, "falling": {9, 8, 7}, "short": {1, 2}} {
		if d, ok := FullIn(Series{Step: time.Minute, Values: v}, 900); ok {
			t.Errorf("%s: got %v, want none", name, d)
		}
	}
}

func TestSeriesOf(t *testing.T) {
	at := func(m int) time.Time { return forecastStart.Add(time.Duration(m) * time.Minute) }
	point := func(m int, node string, v float64) Point {
		p := Point{At: at(m), Node: node}
		p.Values.Set(Connections, v)
		return p
	}
	s, err := SeriesOf([]Point{point(31, "", 40), point(0, "", 10), point(1, "", 20), point(1, "n1", 999), {At: at(15)}}, Connections, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Values) != 4 || s.Values[0] != 15 || !math.IsNaN(s.Values[1]) || !math.IsNaN(s.Values[2]) || s.Values[3] != 40 {
		t.Errorf("got %v, want [15 NaN NaN 40]", s.Values)
	}
	if _, err := SeriesOf([]Point{point(0, "n1", 1)}, Connections, time.Minute); !errors.Is(err, ErrNoHistory) {
		t.Errorf("points of nodes only: got %v, want %v", err, ErrNoHistory)
	}
	far := point(0, "", 1)
	far.At = far.At.AddDate(50, 0, 0)
	if _, err := SeriesOf([]Point{point(0, "", 1), far}, Connections, time.Minute); !errors.Is(err, ErrSeries) {
		t.Errorf("fifty years of minutes: got %v, want %v", err, ErrSeries)
	}
}

func BenchmarkLearn(b *testing.B) {
	s := season(28, 0.05, 1, office)
	for b.Loop() {
		if _, err := Learn(s); err != nil {
			b.Fatal(err)
		}
	}
}
