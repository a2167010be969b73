package scale

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// A NodeState says what a node counts for.
type NodeState uint8

// The node states.
const (
	Ready    NodeState = iota
	Warming            // started too short ago for its processor figures to mean anything
	Draining           // sends its clients away; no longer capacity
	Silent             // known, but its last sample is too old
)

var nodeStateNames = [...]string{Ready: "ready", Warming: "warming", Draining: "draining", Silent: "silent"}

// String returns the name of the state.
func (s NodeState) String() string {
	if int(s) >= len(nodeStateNames) {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return nodeStateNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s NodeState) MarshalText() ([]byte, error) {
	return marshalName(nodeStateNames[:], int(s), "node state")
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *NodeState) UnmarshalText(text []byte) error {
	return unmarshalName(nodeStateNames[:], text, "node state", s)
}

// FleetConfig says how samples become a fleet view. Zero fields take the default.
type FleetConfig struct {
	// StaleAfter is the age from which a sample no longer speaks for its node. 5 s.
	StaleAfter time.Duration `json:"stale_after"`
	// ForgetAfter is the age from which a silent node is gone. 60 s.
	ForgetAfter time.Duration `json:"forget_after"`
	// WarmUp is how long after becoming ready a node is Warming. 30 s.
	WarmUp time.Duration `json:"warm_up"`
}

// MaxNodes bounds the nodes of one view; the longest silent go first.
const MaxNodes = 1024

func (c FleetConfig) withDefaults() FleetConfig {
	c.StaleAfter = cmp.Or(c.StaleAfter, 5*time.Second)
	c.ForgetAfter = cmp.Or(c.ForgetAfter, time.Minute)
	c.WarmUp = cmp.Or(c.WarmUp, 30*time.Second)
	return c
}

// An Aggregate is one signal over the nodes that had a fresh value.
type Aggregate struct {
	Sum, Mean, Min, Max float64
	Known               int // nodes with a fresh value
	Idle                int // nodes with nothing to measure
	Lost                int // nodes whose value is missing or stale
}

// A Node is one node as the fleet view has it.
type Node struct {
	Name    string        `json:"name"`
	Region  string        `json:"region,omitempty"`
	State   NodeState     `json:"state"`
	Age     time.Duration `json:"age"` // of its last sample
	Started time.Time     `json:"started"`
	Values  Readings      `json:"values"`

	// Delivery and API are the latencies of its last second, empty when silent.
	Delivery Histogram `json:"-"`
	API      Histogram `json:"-"`
}

// A Fleet is all nodes at one moment. It is a value: nothing changes it later.
type Fleet struct {
	At    time.Time
	Nodes []Node // by name

	// Dark are the nodes of other regions of which no node is heard any more. They
	// count for nothing but alerts about the silence itself.
	Dark []Node

	// Requested is the count that the control plane was last told, 0 when nobody
	// knows; Waiting is the number of connections that no node could take.
	Requested int
	Waiting   float64

	// Partial says why the view is not whole, such as a broker that does not
	// answer. No count is changed on a partial view.
	Partial string

	// Ahead is what a forecast asks for; the zero value asks for nothing.
	Ahead Ahead

	// Leader is the node that decides; of nodes that cost the same it goes last.
	Leader string

	// Fence is the number of the leadership under which is decided; it grows with
	// each new leader. 0: a lone node.
	Fence uint64

	// Delivery and API are merged over all nodes by Sum.
	Delivery, API Histogram

	total [SignalCount]Aggregate
}

// Live is the number of nodes that are capacity, or will be: all but draining ones.
func (f *Fleet) Live() (n int) {
	for i := range f.Nodes {
		if f.Nodes[i].State != Draining {
			n++
		}
	}
	return n
}

// Count is the number of nodes in the state.
func (f *Fleet) Count(state NodeState) (n int) {
	for i := range f.Nodes {
		if f.Nodes[i].State == state {
			n++
		}
	}
	return n
}

// Total returns one signal over all nodes. For latencies Mean is the quantile of
// the merged histogram, not a mean of quantiles, which would mean nothing; error
// and reconnect shares weigh by the messages and connections that they are of.
func (f *Fleet) Total(s Signal) Aggregate {
	if s >= SignalCount {
		return Aggregate{}
	}
	return f.total[s]
}

// Region returns the part of the fleet that lies in one region, so that each
// region scales by its own demand. Requested and Waiting are of the whole fleet
// and are left zero.
func (f *Fleet) Region(name string) Fleet {
	part := Fleet{At: f.At, Partial: f.Partial}
	for i := range f.Nodes {
		if f.Nodes[i].Region == name {
			part.Nodes = append(part.Nodes, f.Nodes[i])
		}
	}
	part.Sum()
	return part
}

// Calm reports whether processors and memory are known on every live node and below
// what the document's alert table warns of. What a guessed capacity says of a calm
// fleet is no reason for anything.
func (f *Fleet) Calm() bool {
	cpu, memory := threshold(TableAlerting, "CPU Utilization", ">70%").Value, threshold(TableAlerting, "Memory Usage", ">70%").Value
	c, m := f.Total(CPU), f.Total(Memory)
	n := len(f.Nodes)
	return n > 0 && c.Known == n && m.Known == n && c.Max <= cpu && m.Max <= memory
}

// DarkBeside lists the nodes of all regions but one that are silent as a whole. A
// single silent node is the business of its own region's leader.
func (f *Fleet) DarkBeside(region string) (dark []Node) {
	heard := map[string]bool{region: true}
	for i := range f.Nodes {
		if f.Nodes[i].State != Silent {
			heard[f.Nodes[i].Region] = true
		}
	}
	for i := range f.Nodes {
		if !heard[f.Nodes[i].Region] {
			dark = append(dark, f.Nodes[i])
		}
	}
	return dark
}

// has reports whether a node is among those that are looked at.
func (f *Fleet) has(node string) bool {
	_, ok := slices.BinarySearchFunc(f.Nodes, node, func(n Node, name string) int { return cmp.Compare(n.Name, name) })
	return ok || slices.ContainsFunc(f.Dark, func(n Node) bool { return n.Name == node })
}

// Regions lists the regions of all nodes, sorted.
func (f *Fleet) Regions() []string {
	var out []string
	for i := range f.Nodes {
		out = append(out, f.Nodes[i].Region)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// FleetOf merges the last sample of each node. A second sample of one node
// replaces an older one; samples from the future count as fresh, because the
// clocks of nodes differ.
func FleetOf(now time.Time, samples []Sample, c FleetConfig) Fleet {
	c = c.withDefaults()
	f := Fleet{At: now, Nodes: make([]Node, 0, len(samples))}
	for _, s := range newest(samples) {
		age := max(0, now.Sub(s.At))
		if age > c.ForgetAfter {
			continue
		}
		n := Node{Name: s.Node, Region: s.Region, Age: age, Started: s.Started, Values: s.Values}
		n.State = stateOf(now, &s, age, c)
		if n.State == Silent {
			n.Values.stale()
		} else {
			n.Delivery, n.API = s.Delivery, s.API
		}
		f.Nodes = append(f.Nodes, n)
	}
	f.Sum()
	return f
}

// newest keeps the latest sample of each node, sorted by name, at most MaxNodes.
func newest(samples []Sample) []Sample {
	out := slices.Clone(samples)
	slices.SortStableFunc(out, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), b.At.Compare(a.At))
	})
	out = slices.CompactFunc(out, func(a, b Sample) bool { return a.Node == b.Node })
	if len(out) > MaxNodes {
		slices.SortStableFunc(out, func(a, b Sample) int { return b.At.Compare(a.At) })
		out = out[:MaxNodes]
		slices.SortStableFunc(out, func(a, b Sample) int { return cmp.Compare(a.Node, b.Node) })
	}
	return out
}

func stateOf(now time.Time, s *Sample, age time.Duration, c FleetConfig) NodeState {
	switch {
	case age > c.StaleAfter:
		return Silent
	case s.Draining:
		return Draining
	case s.Ready.IsZero() || now.Sub(s.Ready) < c.WarmUp:
		return Warming
	}
	return Ready
}

// stale marks everything that was known as stale. That a node has no broker is
// no reading that gets old: a silent node of such a fleet is no broker that is down.
func (r *Readings) stale() {
	for i := range r {
		if r[i].State == Missing || Signal(i) == Broker && r[i].State == Idle {
			continue
		}
		r[i].State = Stale
	}
}

// Sum computes the totals and merged latencies from Nodes. FleetOf calls it; who
// builds a Fleet by hand calls it once after the last change.
func (f *Fleet) Sum() {
	f.Delivery, f.API = Histogram{}, Histogram{}
	for i := range f.Nodes {
		f.Delivery.Merge(f.Nodes[i].Delivery)
		f.API.Merge(f.Nodes[i].API)
	}
	for s := range SignalCount {
		f.total[s] = f.aggregate(s)
	}
}

func (f *Fleet) aggregate(s Signal) Aggregate {
	a := Aggregate{Min: math.Inf(1)}
	var weighted, weight float64
	for i := range f.Nodes {
		switch r := f.Nodes[i].Values[s]; r.State {
		case Fresh:
			a.Known++
			a.Sum += r.Value
			a.Min, a.Max = math.Min(a.Min, r.Value), math.Max(a.Max, r.Value)
			if by, ok := s.weight(); ok {
				w, _ := f.Nodes[i].Values.Get(by)
				weighted, weight = weighted+w*r.Value, weight+w
			}
		case Idle:
			a.Idle++
		default:
			a.Lost++
		}
	}
	if a.Known == 0 {
		a.Min = 0
		return a
	}
	a.Mean = a.Sum / float64(a.Known)
	if weight > 0 {
		a.Mean = weighted / weight
	}
	if q, delivery, ok := s.quantile(); ok {
		h := &f.API
		if delivery {
			h = &f.Delivery
		}
		if h.Count() > 0 {
			a.Mean = h.Quantile(q).Seconds()
		}
	}
	return a
}

// A View keeps the last sample of each node. It is not safe for concurrent use:
// the engine that reads it also feeds it.
type View struct {
	cfg  FleetConfig
	last map[string]Sample
}

// NewView returns an empty view.
func NewView(c FleetConfig) *View {
	return &View{cfg: c.withDefaults(), last: make(map[string]Sample)}
}

// Observe takes the sample of one node. An older one than the view has is not
// taken, and neither is a new node when the view holds MaxNodes.
func (v *View) Observe(s Sample) bool {
	old, known := v.last[s.Node]
	if known && s.At.Before(old.At) || !known && len(v.last) >= MaxNodes || s.Node == "" {
		return false
	}
	v.last[s.Node] = s
	return true
}

// Remove forgets a node that said goodbye.
func (v *View) Remove(node string) { delete(v.last, node) }

// Fleet merges what is known and forgets nodes that were silent too long.
func (v *View) Fleet(now time.Time) Fleet {
	return FleetOf(now, v.Samples(now), v.cfg)
}

// Samples returns the last sample of every node that is not forgotten.
func (v *View) Samples(now time.Time) []Sample {
	out := make([]Sample, 0, len(v.last))
	for name, s := range v.last {
		if now.Sub(s.At) > v.cfg.ForgetAfter {
			delete(v.last, name)
			continue
		}
		out = append(out, s)
	}
	return out
}
