package dash

import (
	"context"
	"time"

	"agentnet/app/ask"
	"agentnet/app/doctor"
	"agentnet/app/relay"
	"agentnet/app/roster"
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
	Origins() map[string]watch.Origin
	Answers() []watch.Answer
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
}

// Orders are what operators have nodes do, this one or another. Errors that are told
// to people are *wire.Error; actor and reason go into the logs.
type Orders interface {
	Drain(ctx context.Context, node, actor, reason string) (ask.Done, error)
	Undrain(ctx context.Context, node, actor, reason string) (ask.Done, error)
	// Rebalance has a node send so many of its clients to others of its region.
	Rebalance(ctx context.Context, node string, clients int, actor, reason string) (ask.Done, error)
	// Disconnect ends all sessions of an agent, on whichever nodes they are.
	Disconnect(ctx context.Context, agent, actor, reason string) (ask.Done, error)
}

// Agents lists the agents of all nodes for operators.
type Agents interface {
	Find(ctx context.Context, q roster.Query) (roster.List, error)
	// Sessions are those of one agent; missing are the nodes that did not answer.
	Sessions(ctx context.Context, agent string) (all []roster.Session, missing []string)
}

// Traces note for a while the envelopes of what one agent sends and gets, on all nodes.
// Errors that are told to people are *wire.Error.
type Traces interface {
	Trace(ctx context.Context, agent, actor string, length time.Duration) (relay.Trace, error)
	Traced(ctx context.Context, agent string) relay.Trace
	EndTrace(ctx context.Context, agent, actor string) error
}

// A Member is one node.
type Member struct {
	Name, Region, Addr, Version, Fingerprint string
	State                                    string // joining, ready, draining, gone
	Self, Leader, Routed                     bool
	Started, Seen                            time.Time
	RTT                                      time.Duration
	Connections, Capacity                    int
	CPU, Memory, MessagesPerS                float64
	Drift                                    []string // settings in which it differs from this node
}

// Broker is Redis, embedded or external, as this node sees it.
type Broker interface {
	// State is how it is in a word, with its colour, and in a sentence.
	State() (kind, word, sentence string)
	// Groups are facts under headings.
	Groups() []Group
}

// A Group is facts under one heading.
type Group struct {
	Name  string
	Facts []Fact
}

// Settings is how the server was configured, and what it keeps.
type Settings interface {
	// Entries lists every option with its value and where it comes from. Secrets are
	// hidden already.
	Entries() []Setting
	// Footer are the last facts of every page.
	Footer() []string
	// Examine looks for faults and hands each finding over with its place in what
	// doctor.Planned lists, by one goroutine at a time; it takes seconds.
	Examine(ctx context.Context, found func(place int, f doctor.Finding))
	// Kept lists what is stored.
	Kept() []Keeping
}

// A Setting is one option in effect.
type Setting struct {
	Name, Value, Default, Source, Doc string
	Secret                            bool
}

// A Keeping is one kind of data that the server stores.
type Keeping struct {
	What, Where, Why, HowLong, Now string
}
