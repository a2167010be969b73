package scale

import (
	"errors"
	"fmt"
	"time"
)

// A Class is the branch of the decision framework that an alert takes.
type Class uint8

// The classes: the document's three, and one for what is operated, not scaled.
const (
	ClassCapacity Class = iota
	ClassPerformance
	ClassError
	ClassOperation // not walked: no scaling decision follows from it
)

var classNames = [...]string{ClassCapacity: "capacity", ClassPerformance: "performance", ClassError: "error", ClassOperation: "operation"}

// String returns the name of the class.
func (c Class) String() string {
	if int(c) >= len(classNames) {
		return fmt.Sprintf("class(%d)", uint8(c))
	}
	return classNames[c]
}

// MarshalText implements encoding.TextMarshaler.
func (c Class) MarshalText() ([]byte, error) { return marshalName(classNames[:], int(c), "class") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Class) UnmarshalText(text []byte) error {
	return unmarshalName(classNames[:], text, "class", c)
}

// A Severity says how soon somebody must look.
type Severity uint8

// The severities.
const (
	Warning Severity = iota
	Critical
)

var severityNames = [...]string{Warning: "warning", Critical: "critical"}

// String returns the name of the severity.
func (s Severity) String() string {
	if int(s) >= len(severityNames) {
		return fmt.Sprintf("severity(%d)", uint8(s))
	}
	return severityNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) {
	return marshalName(severityNames[:], int(s), "severity")
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	return unmarshalName(severityNames[:], text, "severity", s)
}

// A Reduce makes one value of the nodes' values.
type Reduce uint8

// The reductions. EachNode keeps one alert for each node.
const (
	Mean Reduce = iota
	Highest
	Lowest
	Sum
	EachNode
)

var reduceNames = [...]string{Mean: "mean", Highest: "highest", Lowest: "lowest", Sum: "sum", EachNode: "each_node"}

// MarshalText implements encoding.TextMarshaler.
func (r Reduce) MarshalText() ([]byte, error) { return marshalName(reduceNames[:], int(r), "reduce") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Reduce) UnmarshalText(text []byte) error {
	return unmarshalName(reduceNames[:], text, "reduce", r)
}

// A NoData says what becomes of an alert whose signal has no value any more.
type NoData uint8

// The answers to missing data. The zero value neither hides nor invents a fault.
const (
	NoDataHold    NoData = iota // keep the state and mark the alert
	NoDataFire                  // not knowing is a fault in itself
	NoDataResolve               // no value means no load
)

var noDataNames = [...]string{NoDataHold: "hold", NoDataFire: "fire", NoDataResolve: "resolve"}

// MarshalText implements encoding.TextMarshaler.
func (n NoData) MarshalText() ([]byte, error) { return marshalName(noDataNames[:], int(n), "no_data") }

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *NoData) UnmarshalText(text []byte) error {
	return unmarshalName(noDataNames[:], text, "no_data", n)
}

// A Rule says when somebody should know. It is data: it comes from the
// configuration, is stored with what it caused, and can be backtested.
type Rule struct {
	Name     string   `json:"name"` // unique
	Class    Class    `json:"class"`
	Severity Severity `json:"severity"`

	Signal     Signal `json:"signal"`
	Reduce     Reduce `json:"reduce"`
	OfCapacity bool   `json:"of_capacity,omitempty"` // the value is divided by the capacity of the live nodes
	Below      bool   `json:"below,omitempty"`       // fires below the threshold instead of above it

	Threshold  float64       `json:"threshold"` // strictly beyond it is a breach
	Clear      float64       `json:"clear"`     // at it or on its good side it is over
	For        time.Duration `json:"for"`       // a breach must hold so long before it fires
	KeepFiring time.Duration `json:"keep_firing"`

	NoData      NoData        `json:"no_data"`
	NoDataAfter time.Duration `json:"no_data_after"`

	Group       string   `json:"group,omitempty"`        // alerts of one group are told together
	InhibitedBy []string `json:"inhibited_by,omitempty"` // rules that, firing, explain this one

	Response string `json:"response,omitempty"` // what to do
	Runbook  string `json:"runbook,omitempty"`  // which runbook says how, such as disk-full
	Source   string `json:"source,omitempty"`   // where the numbers come from

	Disabled bool `json:"disabled,omitempty"` // it is kept and not run
}

// maxRules bounds the rules of one engine.
const maxRules = 256

// breach reports whether v is beyond the threshold.
func (r *Rule) breach(v float64) bool {
	if r.Below {
		return v < r.Threshold
	}
	return v > r.Threshold
}

// clear reports whether v is on the good side of the clear threshold.
func (r *Rule) clear(v float64) bool {
	if r.Below {
		return v >= r.Clear
	}
	return v <= r.Clear
}

// Validate joins every fault of one rule.
func (r *Rule) Validate() error {
	var errs []error
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(r.Name != "" && len(r.Name) <= 100, "name: empty or longer than 100")
	fault(r.Signal < SignalCount, "signal: %v is unknown", r.Signal)
	fault(int(r.Class) < len(classNames) && int(r.Severity) < len(severityNames) && int(r.Reduce) < len(reduceNames) && int(r.NoData) < len(noDataNames),
		"class, severity, reduce or no_data is unknown")
	fault(finite(r.Threshold) && finite(r.Clear), "threshold or clear is no number")
	fault(r.Below && r.Clear >= r.Threshold || !r.Below && r.Clear <= r.Threshold,
		"clear: %v lies on the bad side of the threshold (%v): it would fire and resolve at once", r.Clear, r.Threshold)
	fault(r.For >= 0 && r.KeepFiring >= 0 && r.NoDataAfter >= 0, "for, keep_firing or no_data_after is negative")
	if _, ok := DocumentCapacity().Of(r.Signal, 1); r.OfCapacity && !ok {
		errs = append(errs, fmt.Errorf("of_capacity: %v has no capacity", r.Signal))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("rule %.100q: %w", r.Name, err)
	}
	return nil
}

// ValidateRules checks every rule and that names are unique and known.
func ValidateRules(rules []Rule) error {
	var errs []error
	if len(rules) > maxRules {
		errs = append(errs, fmt.Errorf("rules: %d given, want at most %d", len(rules), maxRules))
	}
	names := make(map[string]bool, len(rules))
	for i := range rules {
		errs = append(errs, rules[i].Validate())
		if names[rules[i].Name] {
			errs = append(errs, fmt.Errorf("rule %.100q: given twice", rules[i].Name))
		}
		names[rules[i].Name] = true
	}
	for i := range rules {
		for _, by := range rules[i].InhibitedBy {
			if !names[by] || by == rules[i].Name {
				errs = append(errs, fmt.Errorf("rule %.100q: inhibited_by: %.100q is no other rule", rules[i].Name, by))
			}
		}
	}
	return errors.Join(errs...)
}

// Hold times of the default rules: a warning can wait a minute, a critical state
// half of one, and neither is over before it has been for two.
const (
	warningFor    = time.Minute
	criticalFor   = 30 * time.Second
	keepFiring    = 2 * time.Minute
	noDataAfter   = 30 * time.Second
	clearShare    = 0.9 // the default clear threshold, as a share of the threshold
	brokerDownFor = 10 * time.Second
	// silentFor comes after the time in which a sample still speaks for its node, and
	// both together are less than the time after which a node is forgotten.
	silentFor = 10 * time.Second
)

// DefaultRules are the document's alert table, its performance table, and what
// self-hosters expect beyond them.
func DefaultRules() []Rule {
	rules := documentRules()
	add := func(r Rule) {
		r.KeepFiring = keepFiring
		if r.NoDataAfter == 0 {
			r.NoDataAfter = noDataAfter
		}
		if r.Clear == 0 {
			r.Clear = clearShare * r.Threshold
		}
		rules = append(rules, r)
	}
	add(Rule{Name: "broker_down", Class: ClassOperation, Severity: Critical, Signal: Broker, Reduce: Lowest, Below: true,
		Threshold: 0.5, Clear: 1, For: brokerDownFor, NoData: NoDataFire, Group: "broker", Source: "starter rules",
		Runbook: "redis-down", Response: "Restore the broker: nodes deliver locally only and no count is changed until then"})
	add(Rule{Name: "kernel_memory", Class: ClassCapacity, Severity: Warning, Signal: KernelMemory, Reduce: Highest,
		Threshold: 0.3, For: warningFor, Group: "memory", InhibitedBy: []string{"memory_critical"}, Source: "starter rules",
		Runbook: "slow-consumers", Response: "Slow readers fill socket buffers that the process does not see: look for them, or add capacity"})
	add(Rule{Name: "descriptors", Class: ClassCapacity, Severity: Warning, Signal: Descriptors, Reduce: Highest,
		Threshold: 0.8, For: warningFor, Group: "connections", Source: "starter rules",
		Runbook: "capacity", Response: "Raise the limit of open files, or add capacity"})
	add(Rule{Name: "messages_capacity", Class: ClassCapacity, Severity: Warning, Signal: MessagesIn, Reduce: Sum, OfCapacity: true,
		Threshold: 0.9, For: warningFor, Group: "messages", Source: "document: Messages per Second, +100 msg/sec = +1 instance",
		Runbook: "capacity", Response: "Optimize message handling or add capacity"})
	add(Rule{Name: "reconnect_storm", Class: ClassOperation, Severity: Warning, Signal: AcceptRate, Reduce: Sum, OfCapacity: false,
		Threshold: 500, For: 5 * time.Second, Group: "connections", Source: "starter rules",
		Runbook: "reconnect-storm", Response: "Admission spreads it; look for what cut the connections"})
	// Every node always knows its connections, so that no value means no node. The
	// threshold itself is never reached.
	add(Rule{Name: "node_silent", Class: ClassOperation, Severity: Warning, Signal: Connections, Reduce: EachNode,
		Threshold: neverReached, NoData: NoDataFire, NoDataAfter: silentFor, Group: "nodes", InhibitedBy: []string{"broker_down"}, Source: "starter rules",
		Runbook: "node-lost", Response: "A node ended without a goodbye, or cannot be reached; where it is a whole region, see the runbook region-lost"})
	return rules
}

// documentRules turns the rows of the alerting table into rules: a warning and a
// critical one for each metric, of which the critical silences the warning.
func documentRules() []Rule {
	var rules []Rule
	pair := func(name, metric, warn, crit string, class Class, reduce Reduce, group, runbook string) {
		add := func(text string, severity Severity, hold time.Duration) {
			t := threshold(TableAlerting, metric, text)
			r := Rule{Name: name + "_" + severity.String(), Class: class, Severity: severity, Signal: t.Signal, Reduce: reduce,
				OfCapacity: t.Share, Threshold: t.Value, Clear: clearShare * t.Value, For: hold, KeepFiring: keepFiring,
				NoDataAfter: noDataAfter, Group: group, Runbook: runbook, Response: t.Means, Source: "document, " + t.Table + ": " + t.Metric + " " + t.Text}
			if severity == Warning {
				r.InhibitedBy = []string{name + "_" + Critical.String()}
			}
			rules = append(rules, r)
		}
		add(warn, Warning, warningFor)
		add(crit, Critical, criticalFor)
	}
	pair("connections", "Connection Count", ">70% capacity", ">90% capacity", ClassCapacity, Sum, "connections", "capacity")
	pair("cpu", "CPU Utilization", ">70%", ">90%", ClassCapacity, Mean, "cpu", "capacity")
	// The fullest node is killed by its limit, however empty the others are.
	pair("memory", "Memory Usage", ">70%", ">90%", ClassCapacity, Highest, "memory", "memory")
	pair("errors", "Error Rate", ">2%", ">5%", ClassError, Mean, "errors", "errors")
	pair("latency", "Message Latency", ">500ms", ">1000ms", ClassPerformance, Mean, "latency", "latency")

	api := threshold(TablePerformance, "API Response Time", ">3s")
	return append(rules, Rule{Name: "api_critical", Class: ClassPerformance, Severity: Critical, Signal: api.Signal, Reduce: Mean,
		Threshold: api.Value, Clear: clearShare * api.Value, For: criticalFor, KeepFiring: keepFiring, NoDataAfter: noDataAfter, Group: "latency",
		Runbook: "latency", Response: "Optimize message handling or add capacity", Source: "document, " + api.Table + ": " + api.Metric + " " + api.Text})
}
