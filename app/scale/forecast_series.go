package scale

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// A Series is one signal in even steps. A NaN is a step without a value.
type Series struct {
	Start  time.Time     // of the first step
	Step   time.Duration // between two values
	Values []float64
}

// MaxSeries bounds the steps of a series: 400 days of quarters of an hour.
const MaxSeries = 400 * 96

// Errors of series and forecasts.
var (
	ErrNoHistory = errors.New("not enough history")
	ErrSeries    = errors.New("not a series")
)

// At is the time of step i.
func (s *Series) At(i int) time.Time { return s.Start.Add(time.Duration(i) * s.Step) }

// End is the time of the step after the last.
func (s *Series) End() time.Time { return s.At(len(s.Values)) }

// validate reports whether the series can be worked with at all.
func (s *Series) validate() error {
	if s.Step < time.Second || s.Step > 24*time.Hour || len(s.Values) > MaxSeries {
		return fmt.Errorf("%w: step %v and %d values, want 1 s to 24 h and at most %d values", ErrSeries, s.Step, len(s.Values), MaxSeries)
	}
	return nil
}

// known counts the steps that have a value.
func (s *Series) known() (n int) {
	for _, v := range s.Values {
		if finite(v) {
			n++
		}
	}
	return n
}

// SeriesOf lays the points of the whole fleet (those without a node) on even
// steps: the mean of the fresh values of each step. Points need not be in order.
func SeriesOf(points []Point, signal Signal, step time.Duration) (Series, error) {
	s := Series{Step: step}
	if err := s.validate(); err != nil {
		return s, err
	}
	var first, last time.Time
	for i := range points {
		if p := &points[i]; p.Node == "" {
			if first.IsZero() || p.At.Before(first) {
				first = p.At
			}
			if p.At.After(last) {
				last = p.At
			}
		}
	}
	if first.IsZero() {
		return s, fmt.Errorf("%w: no point of the whole fleet", ErrNoHistory)
	}
	s.Start = first.UTC().Truncate(step)
	n := int(last.Sub(s.Start)/step) + 1
	if n > MaxSeries {
		return s, fmt.Errorf("%w: %d steps of %v, want at most %d", ErrSeries, n, step, MaxSeries)
	}
	s.Values = make([]float64, n)
	counts := make([]int, n)
	for i := range points {
		if v, ok := points[i].Values.Get(signal); ok && points[i].Node == "" {
			k := int(points[i].At.Sub(s.Start) / step)
			s.Values[k] += v
			counts[k]++
		}
	}
	for k, c := range counts {
		if c == 0 {
			s.Values[k] = math.NaN()
		} else {
			s.Values[k] /= float64(c)
		}
	}
	return s, nil
}

// head is the series up to step n.
func (s *Series) head(n int) Series {
	return Series{Start: s.Start, Step: s.Step, Values: s.Values[:n]}
}
