package dash

import (
	"context"
	"time"

	"agentnet/app/scale"
)

// Scaling is the engine that watches the fleet, as the pages read it.
type Scaling interface {
	Fleet() scale.Fleet
	Alerts() []scale.Alert
	Silences() []scale.Silence
	Rules() ([]scale.Rule, scale.Capacity)
	Policy() scale.Policy
	Decision() scale.Decision
	// Limits are what is reached first, the first one first. Empty: nothing was learnt
	// yet.
	Limits() []scale.LimitRow
	// History reads trends. Steps that were not measured have no point.
	History(ctx context.Context, q HistoryQuery) (History, error)
}

// A HistoryQuery chooses trends.
type HistoryQuery struct {
	From, To time.Time
	Signals  []scale.Signal
	Nodes    []string // "" is the whole fleet; nil: the fleet only
	Points   int      // at most
}

// A History is what was measured over a time.
type History struct {
	Step   time.Duration
	Trends []Trend
}

// A Trend is one signal of one node, or of the fleet.
type Trend struct {
	Node   string // "" is the fleet
	Signal scale.Signal
	Points []TrendPoint
}

// A TrendPoint sums up one step.
type TrendPoint struct {
	At                           time.Time
	Min, Avg, Max, P50, P95, P99 float64
}

// Of is the trend of a signal, empty when there is none.
func (h *History) Of(node string, s scale.Signal) *Trend {
	for i := range h.Trends {
		if h.Trends[i].Node == node && h.Trends[i].Signal == s {
			return &h.Trends[i]
		}
	}
	return &Trend{Node: node, Signal: s}
}

// Nodes are the members of the fleet.
type Nodes interface {
	Members() []Member
	// Drain asks the clients of a node to leave.
	Drain(ctx context.Context, node string) error
}

// A Member is one node.
type Member struct {
	Name, Region, Addr, Version, Fingerprint string
	State                                    string // joining, ready, draining, gone
	Self, Leader                             bool
	Started, Seen                            time.Time
	RTT                                      time.Duration
	Connections, Capacity                    int
	CPU, Memory, MessagesPerS                float64
}

// Broker is Redis, embedded or external, as this node sees it.
type Broker interface {
	Facts() []Fact
}

// Settings is how the server was configured.
type Settings interface {
	// Entries lists every option with its value and where it comes from. Secrets are
	// already hidden.
	Entries() []Setting
	// Footer are the last facts of every page.
	Footer() []string
}

// A Setting is one option in effect.
type Setting struct {
	Name, Value, Source, Doc string
	Secret                   bool
}
