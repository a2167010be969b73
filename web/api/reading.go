package api

import "github.com/prometheus/client_golang/prometheus"

// A Reading is one metric of a part that this package does not know, such as the
// WebSocket door, as it is now.
type Reading struct {
	Name    string // with the unit in its suffix, as Prometheus wants it
	Help    string
	Counter bool               // else a gauge
	Label   string             // "" for a metric without one
	Values  map[string]float64 // by the label's value, of which there are few; "" where there is no label
}

// readings turns Readings into metrics at each scrape.
type readings struct{ read func() []Reading }

// Describe implements prometheus.Collector. It names nothing: which metrics there
// are is known at a scrape only.
func (r readings) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r readings) Collect(out chan<- prometheus.Metric) {
	for _, m := range r.read() {
		kind := prometheus.GaugeValue
		if m.Counter {
			kind = prometheus.CounterValue
		}
		if m.Label == "" {
			out <- prometheus.MustNewConstMetric(prometheus.NewDesc(m.Name, m.Help, nil, nil), kind, m.Values[""])
			continue
		}
		desc := prometheus.NewDesc(m.Name, m.Help, []string{m.Label}, nil)
		for value, v := range m.Values {
			out <- prometheus.MustNewConstMetric(desc, kind, v, value)
		}
	}
}
