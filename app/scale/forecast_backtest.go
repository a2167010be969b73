package scale

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Accuracy says how good forecasts of a series have been: forecasts were made
// from a growing part of the history and held against what came.
type Accuracy struct {
	Origins int           `json:"origins"` // forecasts made
	Horizon time.Duration `json:"horizon"` // how far each looked ahead
	Points  int           `json:"points"`  // values compared

	MAE   float64 `json:"mae"`   // mean absolute error, in the signal's unit
	WAPE  float64 `json:"wape"`  // sum of errors by sum of values
	Bias  float64 `json:"bias"`  // mean error by mean value; above 0: too high
	Naive float64 `json:"naive"` // WAPE of "it stays as it is"
	Cover float64 `json:"cover"` // share of the values within the range of 80%, after widening

	// Widen multiplies the model's own range so that it held four values of five.
	Widen float64 `json:"widen"`

	Good bool   `json:"good"` // good enough to scale by
	Why  string `json:"why"`  // in words
}

// Rules of "good enough".
const (
	maxWAPE    = 0.15 // beyond it the targets' own headroom does not cover the error
	minOrigins = 8
	maxOrigins = 24
	minSkill   = 0.9 // of the error of "it stays as it is"
	// steadyWAPE is the error below which there is nothing to be better at.
	steadyWAPE = 0.05
	maxWiden   = 10
)

// A compared value is one prediction beside what came.
type compared struct{ predicted, actual, half, naive float64 }

// Check backtests forecasts of a series over the last quarter of its history.
func Check(s Series, horizon time.Duration) Accuracy {
	a := Accuracy{Horizon: horizon, Widen: 1}
	if err := s.validate(); err != nil {
		a.Why = err.Error()
		return a
	}
	steps := int(horizon / s.Step)
	if steps < 1 || steps > MaxAhead {
		a.Why = fmt.Sprintf("a horizon of %v cannot be checked in steps of %v", horizon, s.Step)
		return a
	}
	n := len(s.Values)
	first := max(minSteps, n*3/4)
	last := n - steps
	if last <= first {
		first = max(minSteps, n/2)
	}
	if last-first+1 < minOrigins {
		a.Why = fmt.Sprintf("the history of %v is too short to check a forecast of %v", time.Duration(n)*s.Step, horizon)
		return a
	}
	var all []compared
	for k := range maxOrigins {
		at := first + (last-first)*k/(maxOrigins-1)
		if k > 0 && at == first+(last-first)*(k-1)/(maxOrigins-1) {
			continue
		}
		head := s.head(at)
		m, err := Learn(head)
		if err != nil {
			continue
		}
		a.Origins++
		all = append(all, compareAhead(&s, &m, at, steps)...)
	}
	a.sum(all)
	a.judge(&s)
	return a
}

// compareAhead makes one forecast at step at and lays it beside what came.
func compareAhead(s *Series, m *Model, at, steps int) (out []compared) {
	now := math.NaN()
	for i := at - 1; i >= 0 && !finite(now); i-- {
		now = s.Values[i]
	}
	for h, p := range m.Ahead(steps) {
		if v := s.Values[at+h]; finite(v) {
			out = append(out, compared{predicted: p.Value, actual: v, half: p.High - p.Value, naive: now})
		}
	}
	return out
}

func (a *Accuracy) sum(all []compared) {
	a.Points = len(all)
	if a.Points == 0 {
		return
	}
	var errs, values, bias, naive float64
	ratios := make([]float64, 0, len(all))
	for _, c := range all {
		e := c.predicted - c.actual
		errs, values, bias = errs+math.Abs(e), values+math.Abs(c.actual), bias+e
		naive += math.Abs(c.naive - c.actual)
		switch {
		case c.half > 0:
			ratios = append(ratios, math.Abs(e)/c.half)
		case e == 0:
			ratios = append(ratios, 0)
		default:
			ratios = append(ratios, maxWiden)
		}
	}
	a.MAE = errs / float64(a.Points)
	if values > 0 {
		a.WAPE, a.Bias, a.Naive = errs/values, bias/values, naive/values
	}
	slices.Sort(ratios)
	a.Widen = min(max(ratios[(len(ratios)-1)*4/5], 1), maxWiden)
	within := 0
	for _, r := range ratios {
		if r <= a.Widen {
			within++
		}
	}
	a.Cover = float64(within) / float64(len(ratios))
}

func (a *Accuracy) judge(s *Series) {
	length := time.Duration(len(s.Values)) * s.Step
	switch {
	case a.Points == 0 || a.Origins < minOrigins:
		a.Why = fmt.Sprintf("only %d forecasts could be checked, want %d", a.Origins, minOrigins)
	case length < 2*dayLength:
		a.Why = fmt.Sprintf("%.1f days of history do not show a season of the day: want 2", length.Hours()/24)
	case a.WAPE > maxWAPE:
		a.Why = fmt.Sprintf("forecasts of %v were %.1f%% off on average, want at most %.0f%%", a.Horizon, a.WAPE*100, maxWAPE*100)
	case a.WAPE > steadyWAPE && a.WAPE > minSkill*a.Naive:
		a.Why = fmt.Sprintf("forecasts of %v were %.1f%% off on average, hardly better than the %.1f%% of \"it stays as it is\"", a.Horizon, a.WAPE*100, a.Naive*100)
	default:
		a.Good = true
		a.Why = fmt.Sprintf("%d forecasts of %v were %.1f%% off on average; \"it stays as it is\" %.1f%%", a.Origins, a.Horizon, a.WAPE*100, a.Naive*100)
	}
}

// A Forecast is a model with what its backtest says of it.
type Forecast struct {
	Signal   Signal
	Model    Model
	Accuracy Accuracy
}

// ForecastOf learns a series and checks how well it can be forecast over horizon.
func ForecastOf(signal Signal, s Series, horizon time.Duration) (Forecast, error) {
	m, err := Learn(s)
	if err != nil {
		return Forecast{}, fmt.Errorf("forecast %v: %w", signal, err)
	}
	return Forecast{Signal: signal, Model: m, Accuracy: Check(s, horizon)}, nil
}

// Ahead predicts the next steps, with ranges as wide as the backtest asks for.
func (f *Forecast) Ahead(steps int) []Prediction {
	out := f.Model.Ahead(steps)
	for i := range out {
		p := &out[i]
		half := (p.High - p.Value) * f.Accuracy.Widen
		p.Low, p.High = max(0, p.Value-half), p.Value+half
	}
	return out
}

// mostGrowth bounds what a forecast may ask for by what was seen: a model that
// runs away must not start a fleet.
const mostGrowth = 2.0

// Before asks for the instances that the predicted peak within lead after now
// needs, by the policy's own target. It asks for nothing unless the backtest was
// good, and never beyond the policy's bounds.
func (f *Forecast) Before(now time.Time, lead time.Duration, p *Policy) Ahead {
	t, ok := p.target(f.Signal)
	if !ok || !f.Signal.Additive() || !f.Accuracy.Good || lead <= 0 {
		return Ahead{}
	}
	end := f.Model.start.Add(time.Duration(f.Model.n) * f.Model.step)
	if now.Before(end.Add(-f.Model.step)) || now.Sub(end) > f.Accuracy.Horizon {
		return Ahead{} // not of this time, or too old
	}
	steps := int(now.Add(lead).Sub(end)/f.Model.step) + 1
	var peak Prediction
	for _, q := range f.Ahead(steps) {
		if !q.At.Before(now) && q.Value > peak.Value {
			peak = q
		}
	}
	load := min(peak.Value, mostGrowth*f.Model.highest)
	count := min(max(ceil(load/t.Value), p.Min), p.Max)
	return Ahead{Count: count, Why: fmt.Sprintf("%s expected at %s needs %d at %s each (%s)",
		show(f.Signal, load), peak.At.UTC().Format("15:04"), count, show(f.Signal, t.Value), f.Accuracy.Why)}
}
