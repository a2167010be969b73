package dash

import (
	"context"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// Scaling is the engine that watches the fleet, as the pages use it.
// *watch.Service is one.
type Scaling interface {
	Fleet() scale.Fleet
	Status() watch.Status
	Outlook() watch.Outlook
	Planner() scale.Planner
	Alerts() []scale.Alert
	Silences() []scale.Silence
	Rules() ([]scale.Rule, scale.Capacity)
	History(ctx context.Context, q watch.HistoryQuery) (watch.History, error)
	Nodes(ctx context.Context) ([]string, error)
	Backtest(ctx context.Context, r scale.Rule, from, to time.Time) (scale.Backtested, error)
	Log(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error)
	LogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, []scale.LogEntry, error)
	Verify(ctx context.Context) ([]scale.LogReport, error)
	Do(ctx context.Context, c watch.Command) (scale.LogEntry, error)
	Note(ctx context.Context, actor, text string, cause uint64) (scale.LogEntry, error)
}

// trendOf is the trend of a signal, empty when there is none.
func trendOf(h *watch.History, node string, s scale.Signal) *watch.Trend {
	for i := range h.Trends {
		if h.Trends[i].Node == node && h.Trends[i].Signal == s {
			return &h.Trends[i]
		}
	}
	return &watch.Trend{Node: node, Signal: s}
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
