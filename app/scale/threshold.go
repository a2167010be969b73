package scale

import "time"

// The document's auto-scaling parameters, which policies and tests cite.
const (
	DefaultMinInstances = 2
	DefaultMaxInstances = 20
	ScaleUpWithin       = 30 * time.Second
	ScaleDownAfter      = 5 * time.Minute
)

// A Capacity is what one instance carries. The zero value means the document's
// capacity table; Source then says so, and says what measured it otherwise.
type Capacity struct {
	Connections float64 `json:"connections"` // that one instance holds at most
	Messages    float64 `json:"messages"`    // that one instance accepts at most, per second
	ScaleAt     float64 `json:"scale_at"`    // connections of one instance above which the fleet grows
	Source      string  `json:"source"`      // "document", or what measured it
}

// DocumentCapacity is the capacity of one instance by the document: its capacity
// table adds one instance for each 1,000 connections and for each 100 messages a
// second, and its auto-scaling table grows the fleet above 200 connections each.
func DocumentCapacity() Capacity {
	return Capacity{Connections: 1000, Messages: 100, ScaleAt: 200, Source: "document: capacity metrics and auto-scaling configuration"}
}

// Guessed reports whether the capacity is the document's, which knows nothing of
// this machine: a label for a default, and no evidence.
func (c Capacity) Guessed() bool { return c.withDefaults() == DocumentCapacity() }

// withDefaults fills what is zero from the document.
func (c Capacity) withDefaults() Capacity {
	d := DocumentCapacity()
	if c == (Capacity{}) {
		return d
	}
	if c.Connections == 0 {
		c.Connections = d.Connections
	}
	if c.Messages == 0 {
		c.Messages = d.Messages
	}
	if c.ScaleAt == 0 {
		// What was measured is a limit. The fleet grows at 70% of it, where the
		// document's alert table begins to warn.
		c.ScaleAt = 0.7 * c.Connections
	}
	return c
}

// Of returns the capacity of n instances for a signal that is counted against
// one, and false for all others.
func (c Capacity) Of(s Signal, n int) (float64, bool) {
	c = c.withDefaults()
	switch s {
	case Connections:
		return c.Connections * float64(n), true
	case MessagesIn:
		return c.Messages * float64(n), true
	}
	return 0, false
}

// A Threshold is one row of one table of the document, kept as data so that
// every number can be shown with its source and tested by it.
type Threshold struct {
	Table  string  // heading of the table in the document
	Metric string  // first column
	Text   string  // the cell, to the letter
	Signal Signal  // what we compare
	Value  float64 // in the signal's unit, or a share of capacity
	Share  bool    // Value is a share of capacity
	Means  string  // what the document says to do
}

// The headings of the tables.
const (
	TableScaling     = "Auto-scaling Configuration"
	TableAlerting    = "Alerting Thresholds"
	TablePerformance = "Performance Metrics"
)

// Thresholds are the rows of the three tables that the engine compares samples
// with. Client rendering and agent processing time are measured by the clients.
func Thresholds() []Threshold {
	const increase, settings, memory, errs, latency = "Increase instance size or count", "Review auto-scaling settings",
		"Investigate memory usage patterns", "Investigate and address errors", "Optimize message handling or add capacity"
	return []Threshold{
		{Table: TableScaling, Metric: "Concurrent Connections", Text: ">200 per instance", Signal: Connections, Value: 200, Means: "scale up"},
		{Table: TableScaling, Metric: "CPU Utilization", Text: ">70%", Signal: CPU, Value: 0.70, Means: "scale up"},
		{Table: TableScaling, Metric: "Memory Utilization", Text: ">80%", Signal: Memory, Value: 0.80, Means: "scale up"},

		{Table: TableAlerting, Metric: "Connection Count", Text: ">70% capacity", Signal: Connections, Value: 0.70, Share: true, Means: settings},
		{Table: TableAlerting, Metric: "Connection Count", Text: ">90% capacity", Signal: Connections, Value: 0.90, Share: true, Means: settings},
		{Table: TableAlerting, Metric: "CPU Utilization", Text: ">70%", Signal: CPU, Value: 0.70, Means: increase},
		{Table: TableAlerting, Metric: "CPU Utilization", Text: ">90%", Signal: CPU, Value: 0.90, Means: increase},
		{Table: TableAlerting, Metric: "Memory Usage", Text: ">70%", Signal: Memory, Value: 0.70, Means: memory},
		{Table: TableAlerting, Metric: "Memory Usage", Text: ">90%", Signal: Memory, Value: 0.90, Means: memory},
		{Table: TableAlerting, Metric: "Error Rate", Text: ">2%", Signal: ErrorRate, Value: 0.02, Means: errs},
		{Table: TableAlerting, Metric: "Error Rate", Text: ">5%", Signal: ErrorRate, Value: 0.05, Means: errs},
		{Table: TableAlerting, Metric: "Message Latency", Text: ">500ms", Signal: DeliveryP95, Value: 0.5, Means: latency},
		{Table: TableAlerting, Metric: "Message Latency", Text: ">1000ms", Signal: DeliveryP95, Value: 1, Means: latency},

		{Table: TablePerformance, Metric: "WebSocket Message Latency", Text: "<200ms", Signal: DeliveryP95, Value: 0.2, Means: "target"},
		{Table: TablePerformance, Metric: "WebSocket Message Latency", Text: ">1000ms", Signal: DeliveryP95, Value: 1, Means: "critical"},
		{Table: TablePerformance, Metric: "API Response Time", Text: "<1s", Signal: APIP95, Value: 1, Means: "target"},
		{Table: TablePerformance, Metric: "API Response Time", Text: ">3s", Signal: APIP95, Value: 3, Means: "critical"},
	}
}

// threshold finds one row; it is only asked for rows that a test holds in place.
func threshold(table, metric, text string) Threshold {
	for _, t := range Thresholds() {
		if t.Table == table && t.Metric == metric && t.Text == text {
			return t
		}
	}
	return Threshold{}
}

func defaultTargets(c Capacity) []Target {
	c = c.withDefaults()
	row := func(metric, text string) Target {
		t := threshold(TableScaling, metric, text)
		return Target{Signal: t.Signal, Value: t.Value, Source: "document, " + t.Table + ": " + t.Metric + " " + t.Text}
	}
	connections := row("Concurrent Connections", ">200 per instance")
	if c.ScaleAt != connections.Value {
		connections.Value, connections.Source = c.ScaleAt, c.Source
	}
	return []Target{
		connections,
		row("CPU Utilization", ">70%"),
		row("Memory Utilization", ">80%"),
		{Signal: MessagesIn, Value: c.Messages, Source: messageSource(c)},
	}
}

func messageSource(c Capacity) string {
	if c.Messages == DocumentCapacity().Messages {
		return "document, Capacity Metrics: +100 msg/sec = +1 instance"
	}
	return c.Source
}

func defaultGuards() []Guard {
	latency, api, errs := threshold(TableAlerting, "Message Latency", ">500ms"), threshold(TablePerformance, "API Response Time", "<1s"),
		threshold(TableAlerting, "Error Rate", ">2%")
	return []Guard{
		{Signal: DeliveryP95, Block: latency.Value, Raise: 1, Step: 1, Source: "document, Alerting Thresholds: Message Latency >500ms, >1000ms"},
		{Signal: APIP95, Block: api.Value, Raise: 3, Step: 1, Source: "document, Performance Metrics: API Response Time <1s, >3s"},
		// Errors of a fault in the code do not fall with the count: no step.
		{Signal: ErrorRate, Block: errs.Value, Source: "document, Alerting Thresholds: Error Rate >2%"},
	}
}
