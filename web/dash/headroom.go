package dash

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"agentnet/app/scale"
	"agentnet/web/ui"
)

// A headroomRow is one limit: how much of it is used, and where somebody should
// look. All values have the unit of the signal.
type headroomRow struct {
	name, where     string
	signal          scale.Signal
	now, warn, crit float64
	rules           []string
	ofCapacity      bool // counts for the share of safe capacity
	response        string
	kind            string
	missing         bool
	runway          *scale.Runway
	setBy           string
	guessed         bool // by the document's capacity, and the machine is calm
}

// bestCapacity is what one node is known to hold: configured, calibrated, measured
// from samples, or the document's.
func bestCapacity(sc Scaling) scale.Capacity {
	_, c := sc.Rules()
	if c.Guessed() {
		c = sc.Planner().Capacity
	}
	return c
}

// guessing reports whether the capacity is only the document's while processors and
// memory are calm: nothing that follows from it alone is a reason to act.
func guessing(sc Scaling) bool {
	f := sc.Fleet()
	return bestCapacity(sc).Guessed() && f.Calm()
}

// resources are the signals that have a limit, as the rows are named.
var resources = []struct {
	signal scale.Signal
	name   string
	use    bool
}{{scale.Memory, "Memory", true}, {scale.Connections, "Connections", true}, {scale.CPU, "CPU", true}, {scale.MessagesIn, "Messages", true},
	{scale.Descriptors, "File descriptors", true}, {scale.ErrorRate, "Error rate", false}, {scale.DeliveryP95, "Delivery p95", false}, {scale.APIP95, "API p95", false}}

// headroom builds the rows from the fleet as it is and from the alert rules, which
// hold the thresholds; the fullest row comes first.
func headroom(sc Scaling, limits []scale.LimitRow) []headroomRow {
	f := sc.Fleet()
	rules, _ := sc.Rules()
	capacity := bestCapacity(sc)
	guess := capacity.Guessed() && f.Calm()
	var out []headroomRow
	for _, res := range resources {
		row := headroomRow{name: res.name, signal: res.signal, ofCapacity: res.use, where: "fleet"}
		warnOf, critOf := 0.0, 0.0
		for i := range rules {
			r := &rules[i]
			if r.Signal != res.signal || r.Below || r.OfSilence() {
				continue
			}
			t := r.Threshold
			if r.OfCapacity {
				if total, ok := capacity.Of(r.Signal, max(1, f.Live())); ok {
					t *= total
				} else {
					continue
				}
			}
			if r.Severity == scale.Critical {
				critOf = lower(critOf, t)
			} else {
				warnOf = lower(warnOf, t)
			}
			row.rules, row.response = append(row.rules, r.Name), cmp.Or(row.response, r.Response)
		}
		row.warn, row.crit = warnOf, critOf
		total := f.Total(res.signal)
		row.now, row.missing = total.Mean, math.IsNaN(total.Mean) || len(f.Nodes) == 0
		if res.signal.Additive() {
			row.now = total.Sum
			if row.crit == 0 {
				if whole, ok := capacity.Of(res.signal, max(1, f.Live())); ok {
					row.crit = whole
				}
			}
		} else if worst, node := worstNode(&f, res.signal); node != "" {
			row.now, row.where, row.missing = worst, node, false
		}
		if row.crit == 0 && row.warn == 0 {
			if !res.use || res.signal.Additive() {
				continue
			}
			row.crit = 1
		}
		row.guessed = guess && res.signal.Additive()
		switch {
		case row.guessed: // a default says nothing of a machine that is calm
		case row.crit > 0 && row.now > row.crit:
			row.kind = "crit"
		case row.warn > 0 && row.now > row.warn:
			row.kind = "warn"
		}
		for k := range limits {
			if strings.EqualFold(limits[k].Name, res.name) || strings.EqualFold(limits[k].Name, res.signal.String()) {
				row.runway, row.setBy = &limits[k].Runway, limits[k].SetBy
			}
		}
		out = append(out, row)
	}
	slices.SortStableFunc(out, func(a, b headroomRow) int { return cmp.Compare(b.share(), a.share()) })
	return out
}

func lower(old, t float64) float64 {
	if old == 0 {
		return t
	}
	return min(old, t)
}

// worstNode is the largest value of a share or latency on one node.
func worstNode(f *scale.Fleet, s scale.Signal) (worst float64, name string) {
	for i := range f.Nodes {
		if v, ok := f.Nodes[i].Values.Get(s); ok && (name == "" || v > worst) {
			worst, name = v, f.Nodes[i].Name
		}
	}
	return worst, name
}

// share is how much of the critical mark is used.
func (h *headroomRow) share() float64 {
	limit := cmp.Or(h.crit, h.warn)
	if limit <= 0 || h.missing {
		return 0
	}
	return h.now / limit
}

func (h *headroomRow) gauge() ui.Gauge {
	g := ui.Gauge{Now: h.now, Warn: h.warn, Crit: h.crit, Kind: h.kind, Label: h.value() + " used"}
	if h.missing {
		g.Now, g.Label = 0, "not measured"
	}
	if h.warn > 0 {
		g.Label += ", warning at " + write(h.signal, h.warn)
	}
	if h.crit > 0 {
		g.Label += ", critical at " + write(h.signal, h.crit)
	}
	return g
}

// value is the row's number as people read it: shares in percent, sums as a
// percentage of what is critical.
func (h *headroomRow) value() string {
	switch {
	case h.missing:
		return "–"
	case h.signal.Additive() && h.crit > 0:
		return fmt.Sprintf("%.0f%%", 100*h.now/h.crit)
	}
	return write(h.signal, h.now)
}

// away is when the limit is reached.
func (h *headroomRow) away() string {
	if h.runway == nil {
		return "not known yet"
	}
	return runwayWords(h.runway)
}

func runwayWords(r *scale.Runway) string {
	switch r.State {
	case scale.RunwayRising:
		if r.Days > 90 {
			return "> 90 days"
		}
		return days(r.Days)
	case scale.RunwayReached:
		return "now"
	}
	return "no trend"
}

// write writes a value of a signal with its unit, as people read it.
func write(s scale.Signal, v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case s.Unit() == "share":
		return share(v)
	case s.Unit() == "seconds":
		value, unit := ui.Latency(time.Duration(v * float64(time.Second)))
		if v <= 0 {
			return "0 ms"
		}
		return value + " " + unit
	case s.Unit() == "bytes":
		value, unit := ui.Bytes(int64(v))
		return value + " " + unit
	case strings.HasPrefix(s.Unit(), "bytes/"):
		value, unit := ui.Bytes(int64(v))
		return value + " " + unit + "/s"
	case strings.HasSuffix(s.Unit(), "/s"):
		return ui.Rate(v) + "/s"
	}
	return ui.Rate(v)
}

// share writes a share in percent, small ones with decimals.
func share(v float64) string {
	p := v * 100
	switch {
	case p == 0:
		return "0%"
	case math.Abs(p) < 0.095:
		return fmt.Sprintf("%.2f%%", p)
	case math.Abs(p) < 9.95:
		return fmt.Sprintf("%.1f%%", p)
	}
	return fmt.Sprintf("%.0f%%", p)
}

// alertSentence says what an alert is about: "Memory on n1 is 71%, warning at 70%".
func alertSentence(sc Scaling, a *scale.Alert) string {
	rules, capacity := sc.Rules()
	f := sc.Fleet()
	for i := range rules {
		r := &rules[i]
		if r.Name != a.Rule {
			continue
		}
		where := ""
		if a.Node != "" {
			where = " on " + a.Node
		}
		severity := "warning"
		if r.Severity == scale.Critical {
			severity = "critical"
		}
		side := "over"
		if r.Below {
			side = "under"
		}
		name := signalName(r.Signal)
		if r.OfSilence() {
			if a.NoData {
				return "No sample" + strings.Replace(where, " on ", " from ", 1) + " since " + a.Seen.Format("15:04:05")
			}
			return "Samples" + strings.Replace(where, " on ", " from ", 1) + " again"
		}
		if a.NoData {
			return name + where + " has not been measured since " + a.Seen.Format("15:04")
		}
		threshold := r.Threshold
		if r.OfCapacity {
			if total, ok := capacity.Of(r.Signal, max(1, f.Live())); ok {
				return name + where + " is at " + share(a.Value) + " of " + write(r.Signal, total) + ", " + severity + " " + side + " " + share(threshold)
			}
			return name + where + " is at " + share(a.Value) + " of capacity, " + severity + " " + side + " " + share(threshold)
		}
		return name + where + " is " + write(r.Signal, a.Value) + ", " + severity + " " + side + " " + write(r.Signal, threshold)
	}
	return a.Rule + " fires"
}

var signalNames = map[scale.Signal]string{scale.Connections: "Connections", scale.CPU: "CPU", scale.Memory: "Memory", scale.MemoryBytes: "Memory used",
	scale.MemoryLimit: "Memory limit", scale.KernelMemory: "Kernel socket memory", scale.MessagesIn: "Messages in", scale.MessagesOut: "Messages out",
	scale.BytesIn: "Bytes in", scale.BytesOut: "Bytes out", scale.ErrorRate: "Error rate", scale.QueueBytes: "Waiting in queues", scale.AcceptRate: "New connections",
	scale.RefusedRate: "Refused connections", scale.Reconnects: "Share of reconnects", scale.Broker: "Broker", scale.Descriptors: "File descriptors",
	scale.DeliveryP50: "Delivery p50", scale.DeliveryP95: "Delivery p95", scale.DeliveryP99: "Delivery p99", scale.APIP50: "API p50", scale.APIP95: "API p95", scale.APIP99: "API p99"}

// signalName is how people call a signal.
func signalName(s scale.Signal) string {
	if name, ok := signalNames[s]; ok {
		return name
	}
	return strings.ReplaceAll(s.String(), "_", " ")
}
