package scale

import "time"

// oracle feeds the forecast of a simulation: it keeps the demand seen so far in
// steps, learns anew each hour and checks itself once a day.
type oracle struct {
	on      bool
	series  Series
	sum     float64
	count   int
	learned time.Time
	checked time.Time
	now     Forecast
	ready   bool
	warned  []Prediction // what was expected, for the report
}

const (
	oracleStep    = 10 * time.Minute
	oracleHorizon = 2 * time.Hour
	// oracleLead is how long before they are needed instances should be ready: to
	// warm up, and because the load has steps of its own. Booting comes on top.
	oracleLead = 15 * time.Minute
)

// begin invents the history before the start, from the same load with the same
// kind of noise.
func (o *oracle) begin(w *simWorld) {
	if w.History == 0 || w.shape == nil {
		return
	}
	o.on = true
	n := int(time.Duration(w.History) * dayLength / oracleStep)
	o.series = Series{Start: w.Start.Add(-time.Duration(n) * oracleStep), Step: oracleStep, Values: make([]float64, n)}
	for i := range o.series.Values {
		c, _ := w.demand(o.series.At(i).Add(oracleStep / 2))
		o.series.Values[i] = c * (1 + 0.01*w.rnd.NormFloat64())
	}
}

// look takes the demand of one step and says what the forecast asks for.
func (o *oracle) look(w *simWorld, now time.Time, connections float64) Ahead {
	if !o.on {
		return Ahead{}
	}
	if !now.Before(o.series.End().Add(oracleStep)) {
		if o.count > 0 && len(o.series.Values) < MaxSeries {
			o.series.Values = append(o.series.Values, o.sum/float64(o.count))
		}
		o.sum, o.count = 0, 0
	}
	o.sum, o.count = o.sum+connections, o.count+1
	if !o.ready || now.Sub(o.learned) >= oracleStep*6 {
		o.learn(now)
	}
	if !o.ready {
		return Ahead{}
	}
	return o.now.Before(now, oracleLead+w.Model.Boot, &w.Policy)
}

func (o *oracle) learn(now time.Time) {
	m, err := Learn(o.series)
	if err != nil {
		return
	}
	o.learned, o.now.Model, o.now.Signal, o.ready = now, m, Connections, true
	if o.checked.IsZero() || now.Sub(o.checked) >= dayLength {
		o.checked, o.now.Accuracy = now, Check(o.series, oracleHorizon)
	}
	for _, p := range o.now.Ahead(int(oracleHorizon / oracleStep))[:6] {
		if len(o.warned) < maxSimFrames*10 {
			o.warned = append(o.warned, p)
		}
	}
}
