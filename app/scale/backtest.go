package scale

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A Point is one stored value set: of one node, or of the whole fleet where Node
// is empty. Instances then says how many nodes the fleet had.
type Point struct {
	At        time.Time `json:"at"`
	Node      string    `json:"node,omitempty"`
	Instances int       `json:"instances,omitempty"`
	Values    Readings  `json:"values"`
}

// FleetAt makes a fleet view of the points of one moment. A point without a node
// sets the totals: a sum for what adds up, and mean, lowest and highest alike for
// the rest.
func FleetAt(points []Point) Fleet {
	var f Fleet
	if len(points) > 1 {
		f.Nodes = make([]Node, 0, len(points))
	}
	whole := -1
	for i := range points {
		p := &points[i]
		f.At = p.At
		if p.Node == "" {
			whole = i
			continue
		}
		f.Nodes = append(f.Nodes, Node{Name: p.Node, Values: p.Values})
	}
	slices.SortFunc(f.Nodes, func(a, b Node) int { return compareNames(a.Name, b.Name) })
	if whole < 0 {
		f.Sum()
		return f
	}
	p := points[whole]
	if len(f.Nodes) == 0 {
		f.Nodes = make([]Node, max(0, min(p.Instances, MaxNodes)))
		for i := range f.Nodes {
			f.Nodes[i].Name = "n" + strconv.Itoa(i+1)
		}
	}
	f.Sum()
	for s := range SignalCount {
		r := p.Values[s]
		switch r.State {
		case Fresh:
			a := Aggregate{Sum: r.Value, Mean: r.Value, Min: r.Value, Max: r.Value, Known: max(1, p.Instances)}
			if s.Additive() {
				each := r.Value / float64(max(1, p.Instances))
				a.Mean, a.Min, a.Max = each, each, each
			}
			f.total[s] = a
		case Idle:
			f.total[s] = Aggregate{Idle: max(1, p.Instances)}
		}
	}
	return f
}

func compareNames(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// An Episode is one time that a rule fired.
type Episode struct {
	Alert string    `json:"alert"`
	From  time.Time `json:"from"`
	Until time.Time `json:"until,omitzero"` // zero: it fires still
	Worst float64   `json:"worst"`
}

// A Backtested says what a rule would have done on stored samples.
type Backtested struct {
	Episodes []Episode     `json:"episodes"`
	Firing   time.Duration `json:"firing"`  // in all, to the last sample
	Pending  int           `json:"pending"` // times that it was pending and did not fire
	Moments  int           `json:"moments"` // moments that were judged
	Flapped  bool          `json:"flapped"` // its notices would have been held back
	Dropped  int           `json:"dropped"` // episodes beyond the first 1,000
}

const maxEpisodes = 1000

// Absentees are the nodes of which points ceased to come. Samples do not tell a node
// that said goodbye from one that was lost, so that each counts as silent, until a
// fleet would have forgotten it.
type absentees struct {
	wanted bool
	last   time.Time
	seen   map[string]time.Time // a node's last point
}

// add puts those nodes into the fleet of the next moment.
func (a *absentees) add(f *Fleet) {
	if !a.wanted {
		return
	}
	if a.seen == nil {
		a.seen = make(map[string]time.Time)
	}
	for i := range f.Nodes {
		a.seen[f.Nodes[i].Name] = f.At
	}
	// A node that is missed for the first time was last seen one step of the points ago.
	until := FleetConfig{}.withDefaults().ForgetAfter
	if !a.last.IsZero() {
		until += f.At.Sub(a.last)
	}
	a.last = f.At
	for name, at := range a.seen {
		switch {
		case at.Equal(f.At):
		case f.At.Sub(at) > until:
			delete(a.seen, name)
		default:
			n := Node{Name: name, State: Silent}
			for s := range n.Values {
				n.Values[s].State = Stale
			}
			f.Nodes = append(f.Nodes, n)
		}
	}
	slices.SortFunc(f.Nodes, func(a, b Node) int { return compareNames(a.Name, b.Name) })
	f.Sum()
}

// Backtest runs one rule over stored samples with the code that runs it live.
// The points are in the order of time; those of one moment form one fleet.
func Backtest(r Rule, c Capacity, points []Point) (Backtested, error) {
	r.InhibitedBy = nil // the other rules are not run
	r.Disabled = false  // it is asked what it would do if it ran
	set, err := NewAlerts([]Rule{r}, c)
	if err != nil {
		return Backtested{}, fmt.Errorf("backtest: %w", err)
	}
	var b Backtested
	open := make(map[string]int) // alert -> its episode, -1 where dropped
	away := absentees{wanted: r.Reduce == EachNode && r.NoData == NoDataFire}
	for i := 0; i < len(points); {
		k := i + 1
		for k < len(points) && points[k].At.Equal(points[i].At) {
			k++
		}
		if k < len(points) && points[k].At.Before(points[i].At) {
			return Backtested{}, fmt.Errorf("backtest: point %d at %s comes after a later one", k, points[k].At)
		}
		f := FleetAt(points[i:k])
		away.add(&f)
		b.Moments++
		for _, j := range set.Observe(&f) {
			b.take(&j, open)
		}
		i = k
	}
	last := time.Time{}
	if n := len(points); n > 0 {
		last = points[n-1].At
	}
	for i := range b.Episodes {
		e := &b.Episodes[i]
		if end := e.Until; end.IsZero() {
			b.Firing += last.Sub(e.From)
			e.Worst = set.all[e.Alert].Worst
		} else {
			b.Firing += end.Sub(e.From)
		}
	}
	return b, nil
}

func (b *Backtested) take(j *Judgement, open map[string]int) {
	b.Flapped = b.Flapped || j.After.Flapped
	for _, e := range j.Events {
		switch {
		case e.To == Firing && len(b.Episodes) < maxEpisodes:
			open[e.Alert] = len(b.Episodes)
			b.Episodes = append(b.Episodes, Episode{Alert: e.Alert, From: e.At})
		case e.To == Firing:
			open[e.Alert] = -1
			b.Dropped++
		case e.From == Firing:
			if i := open[e.Alert]; i >= 0 {
				b.Episodes[i].Until, b.Episodes[i].Worst = e.At, j.After.Worst
			}
		case e.From == Pending && e.To == Inactive:
			b.Pending++
		}
	}
}
