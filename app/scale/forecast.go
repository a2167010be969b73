package scale

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A Model is what a series was found to consist of: a level with a trend, a
// season of the day, a season of the week, and a deviation of late that fades.
//
// It is a regression on harmonics in which old steps count less, so that it
// forgets what a fleet was months ago. What the last hours deviate from it is
// carried on, fading as fast as deviations have faded before: after a sudden
// change of level the next hours are right at once, and the next weeks when the
// regression has learnt it. A Model is a value and never changes.
type Model struct {
	start    time.Time
	step     time.Duration
	n        int // steps fitted
	basis    basis
	weights  []float64
	scale    float64 // of the trend's time axis, in steps
	residual float64 // deviation of late
	fade     float64 // of the deviation, each step
	sigma    float64 // standard deviation of what is left
	jump     float64 // standard deviation of one step to the next, of what is left
	highest  float64 // that was seen

	Day   bool `json:"day"`   // has a season of the day
	Week  bool `json:"week"`  // has a season of the week
	Trend bool `json:"trend"` // has a trend
}

const (
	dayLength  = 24 * time.Hour
	weekLength = 7 * dayLength

	// halfLife is the age at which a step counts half. Two weeks hold two of each
	// day of the week.
	halfLife = 14 * dayLength
	// Three days separate a trend from a season of the day.
	trendFrom = 3 * dayLength
	// residualHalf is the age at which a deviation of late counts half.
	residualHalf = 45 * time.Minute
	// minSteps are needed for any forecast.
	minSteps = 24
)

// basis says which columns the regression has.
type basis struct {
	trend     bool
	harmonics []float64 // cycles a day
}

// dayHarmonics follow a working day with its lunch; more would follow noise.
const dayHarmonics = 6

// weekHarmonics are in cycles a week. Those up to six tell the days apart; those
// next to multiples of seven let the shape of the day differ between them.
var weekHarmonics = [...]float64{1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 15, 16}

// basisFor chooses what the length of the history can tell apart: a season must
// have been seen twice.
func basisFor(length, step time.Duration) (b basis, day, week bool) {
	b.trend = length >= trendFrom
	if day = length >= 2*dayLength && step <= 3*time.Hour; day {
		for k := range dayHarmonics {
			if h := float64(k + 1); dayLength.Seconds()/h >= 2*step.Seconds() {
				b.harmonics = append(b.harmonics, h)
			}
		}
	}
	if week = day && length >= 2*weekLength; week {
		for _, h := range weekHarmonics {
			b.harmonics = append(b.harmonics, h/7)
		}
	}
	return b, day, week
}

func (b *basis) columns() int {
	n := 1 + 2*len(b.harmonics)
	if b.trend {
		n++
	}
	return n
}

// row fills x with the columns at one time. at is days since the epoch, so that a
// season has the same phase whenever the history begins; trend runs from -1 to 0
// over the fitted history and on from there.
func (b *basis) row(x []float64, at, trend float64) {
	x[0] = 1
	i := 1
	if b.trend {
		x[i] = trend
		i++
	}
	for _, h := range b.harmonics {
		x[i], x[i+1] = math.Sincos(2 * math.Pi * h * at)
		i += 2
	}
}

// Learn fits a model. It needs two dozen values, the last of them not older than
// a tenth of the history. Errors wrap ErrSeries or ErrNoHistory.
func Learn(s Series) (Model, error) {
	if err := s.validate(); err != nil {
		return Model{}, err
	}
	n := len(s.Values)
	if known := s.known(); known < minSteps || known*2 < n {
		return Model{}, fmt.Errorf("%w: %d of %d steps have a value, want %d and half of them", ErrNoHistory, known, n, minSteps)
	}
	m := Model{start: s.Start, step: s.Step, n: n, scale: float64(n)}
	m.basis, m.Day, m.Week = basisFor(time.Duration(n)*s.Step, s.Step)
	m.Trend = m.basis.trend
	if err := m.fit(s.Values); err != nil {
		return Model{}, err
	}
	m.deviations(s.Values)
	return m, nil
}

// fit solves the weighted normal equations.
func (m *Model) fit(values []float64) error {
	k := m.basis.columns()
	a, y, x := make([]float64, k*k), make([]float64, k), make([]float64, k)
	decay := math.Exp2(-m.step.Hours() / halfLife.Hours())
	weight, sum := 1.0, 0.0
	for i := len(values) - 1; i >= 0; i-- {
		if v := values[i]; finite(v) {
			m.basis.row(x, m.day(i), m.trend(i))
			for r := range k {
				w := weight * x[r]
				for c := range r + 1 {
					a[r*k+c] += w * x[c]
				}
				y[r] += w * v
			}
			sum += weight
			m.highest = max(m.highest, v)
		}
		weight *= decay
	}
	// A little ridge keeps columns apart that gaps have made alike. The level is
	// left free: it must not be drawn to zero.
	for r := 1; r < k; r++ {
		a[r*k+r] += 1e-4 * sum
	}
	w, ok := cholesky(a, y, k)
	if !ok {
		return fmt.Errorf("%w: the values do not tell the seasons apart", ErrNoHistory)
	}
	m.weights = w
	return nil
}

// cholesky solves a·w = y for a symmetric positive definite a, given by its lower
// half, which it overwrites.
func cholesky(a, y []float64, k int) ([]float64, bool) {
	for r := range k {
		for c := range r + 1 {
			v := a[r*k+c]
			for i := range c {
				v -= a[r*k+i] * a[c*k+i]
			}
			if r != c {
				a[r*k+c] = v / a[c*k+c]
				continue
			}
			if !(v > 1e-12) {
				return nil, false
			}
			a[r*k+r] = math.Sqrt(v)
		}
	}
	w := make([]float64, k)
	copy(w, y)
	for r := range k {
		for i := range r {
			w[r] -= a[r*k+i] * w[i]
		}
		w[r] /= a[r*k+r]
	}
	for r := k - 1; r >= 0; r-- {
		for i := r + 1; i < k; i++ {
			w[r] -= a[i*k+r] * w[i]
		}
		w[r] /= a[r*k+r]
	}
	return w, true
}

// day is the time of step i in days since the epoch.
func (m *Model) day(i int) float64 {
	return float64(m.start.Unix())/dayLength.Seconds() + float64(i)*m.step.Hours()/24
}

func (m *Model) trend(i int) float64 { return float64(i-m.n) / m.scale }

// curve is the regression at step i, without the deviation of late.
func (m *Model) curve(i int, x []float64) float64 {
	m.basis.row(x, m.day(i), m.trend(i))
	v := 0.0
	for c, w := range m.weights {
		v += w * x[c]
	}
	return v
}

// deviations learns from what the regression leaves: how large it is, how fast it
// fades, and where it stands now.
func (m *Model) deviations(values []float64) {
	x := make([]float64, m.basis.columns())
	keep := math.Exp2(-m.step.Minutes() / residualHalf.Minutes())
	var sum, both, squares, jumps, level, weight float64
	var count, pairs int
	last := math.NaN()
	for i, v := range values {
		level, weight = level*keep, weight*keep
		if !finite(v) {
			last = math.NaN()
			continue
		}
		e := v - m.curve(i, x)
		level, weight = level+(1-keep)*e, weight+(1-keep)
		sum, count = sum+e*e, count+1
		if finite(last) {
			both, squares, pairs = both+e*last, squares+last*last, pairs+1
			jumps += (e - last) * (e - last)
		}
		last = e
	}
	m.sigma = math.Sqrt(sum / float64(max(1, count)))
	if pairs > 0 && squares > 0 {
		m.fade = min(max(both/squares, 0), 0.9995)
		m.jump = math.Sqrt(jumps / float64(pairs))
	}
	if weight > 0 {
		m.residual = level / weight
	}
	// Steps of pure noise have no memory, and averages of them even less.
	if m.fade < 0.2 {
		m.fade, m.residual = 0, 0
	}
	if by, ok := m.shift(values); ok {
		m.residual, m.fade = by, math.Exp2(-m.step.Hours()/shiftHalf.Hours())
	}
}

const (
	// shiftHalf is the age at which a change of level is expected to be half over,
	// or half learnt by the regression.
	shiftHalf = 12 * time.Hour
	// shiftWindow is how long a deviation must have held to be a change of level,
	// shiftSteps how many steps at least, and shiftSigma how large it must be.
	shiftWindow = 2 * time.Hour
	shiftSteps  = 4
	shiftSigma  = 3.5
)

// shift finds a change of level: a deviation of late that lies throughout to one
// side and is larger than the noise of this series makes one. Noise is judged by
// the median, which the shift itself hardly moves.
func (m *Model) shift(values []float64) (by float64, ok bool) {
	x := make([]float64, m.basis.columns())
	var all []float64
	var late []float64
	from := m.n - max(shiftSteps, int(shiftWindow/m.step))
	for i, v := range values {
		if !finite(v) {
			continue
		}
		e := v - m.curve(i, x)
		all = append(all, math.Abs(e))
		if i >= from {
			late = append(late, e)
		}
	}
	if len(late) < shiftSteps {
		return 0, false
	}
	slices.Sort(all)
	slices.Sort(late)
	noise := 1.4826 * median(all)
	by = median(late)
	return by, late[0]*late[len(late)-1] > 0 && math.Abs(by) > shiftSigma*noise
}

// A Prediction is a value to come with the range in which it lies four times out
// of five.
type Prediction struct {
	At    time.Time `json:"at"`
	Value float64   `json:"value"`
	Low   float64   `json:"low"`
	High  float64   `json:"high"`
}

// z80 spans the middle 80% of a normal distribution.
const z80 = 1.2816

// MaxAhead bounds the steps of one forecast.
const MaxAhead = 10_000

// Ahead predicts the next steps after the history; none is below zero. A Model
// by itself is as sure as its fit; Backtest says how sure it may be.
func (m *Model) Ahead(steps int) []Prediction {
	steps = min(max(steps, 0), MaxAhead)
	out := make([]Prediction, steps)
	x := make([]float64, m.basis.columns())
	faded := 1.0
	for h := range steps {
		faded *= m.fade
		v := max(0, m.curve(m.n+h, x)+m.residual*faded)
		// A deviation that comes anew grows to sigma as the old one fades.
		spread := z80 * m.sigma * math.Sqrt(max(1-faded*faded, min(1, m.jump*m.jump/max(m.sigma*m.sigma, 1e-300))))
		out[h] = Prediction{At: m.start.Add(time.Duration(m.n+h) * m.step), Value: v, Low: max(0, v-spread), High: v + spread}
	}
	return out
}
