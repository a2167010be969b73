package app

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"agentnet/app/doctor"
	"agentnet/app/scale"
	"agentnet/web/dash"
	"agentnet/web/ui"
)

// WithPagesEvery says how often watched pages are rendered, and the relay read for
// them, for tests that look at hundreds of renderings.
func WithPagesEvery(d time.Duration) Option {
	return func(a *App) { a.pagesEvery = d }
}

// Viewers is how many pages are watched live at this moment.
func (a *App) Viewers() int { return a.web.Viewers() }

// pages are the parts of this node that the console shows beside the relay.
func (a *App) pages() dash.Sources {
	s := dash.Sources{Scaling: a.scaling, Notify: a.acting.notifier, Broker: brokerPage{a}, Config: settingsPage{a}, Memory: firstMemory{a}, Orders: fleetOrders{a}, Agents: fleetAgents{a}, Traces: fleetTraces{a}}
	if a.node != nil {
		s.Nodes = nodesPage{a}
	}
	return s
}

// nodesPage is the fleet for the page of nodes.
type nodesPage struct{ a *App }

func (p nodesPage) Members() (out []dash.Member) {
	drift := p.a.node.Stats().Drift
	for _, m := range p.a.node.Members() {
		out = append(out, dash.Member{Name: m.Name, Region: m.Region, Addr: m.Addr, Version: m.Version, Fingerprint: m.Fingerprint, State: m.State.String(), Self: m.Self, Leader: m.Leader,
			Routed: m.Routed, Started: m.Started, Seen: m.Seen, RTT: m.RTT, Connections: m.Load.Connections, Capacity: m.Load.Capacity, CPU: m.Load.CPU, Memory: m.Load.Memory,
			MessagesPerS: m.Load.MessagesPerS, Drift: drift[m.Name]})
	}
	return out
}

// brokerPage is Redis for its page.
type brokerPage struct{ a *App }

func (p brokerPage) State() (kind, word, sentence string) {
	a := p.a
	switch {
	case a.node == nil:
		return "ok", "Embedded", "The broker is part of this process: no other program is needed. Its data live in the data directory."
	case a.node.Stats().Cut:
		return "crit", "Cut off", "Redis cannot be reached. This node delivers to its own agents; nothing goes to others until Redis is back."
	case a.embedded != nil:
		return "ok", "Embedded, shared", "The broker is part of this process, and other nodes use it too."
	}
	return "ok", "Connected", "The nodes meet in a Redis of their own."
}

func (p brokerPage) Groups() (out []dash.Group) {
	if e := p.a.embedded; e != nil {
		s := e.Stats()
		used, unit := ui.Bytes(s.Bytes)
		g := dash.Group{Name: "Embedded Redis", Facts: []dash.Fact{{Name: "Keys", Value: ui.Count(s.Keys)}, {Name: "Memory, estimated", Value: used + " " + unit + ofBytes(s.MaxBytes)},
			{Name: "Commands", Value: fmt.Sprint(s.Commands)}, {Name: "Refused", Value: fmt.Sprint(s.Refused)}, {Name: "TCP clients", Value: ui.Count(s.Clients)}, {Name: "Snapshots that failed", Value: fmt.Sprint(s.Failed)}}}
		if s.Snapshots != nil {
			g.Facts = append(g.Facts, dash.Fact{Name: "Last snapshot", Value: fmt.Sprintf("%+v", s.Snapshots.At.Format(time.DateTime))})
		}
		out = append(out, g)
	}
	if p.a.node == nil {
		return out
	}
	s := p.a.node.Stats()
	if r := s.Redis; !r.At.IsZero() {
		used, unit := ui.Bytes(r.UsedMemory)
		out = append(out, dash.Group{Name: "Redis", Facts: []dash.Fact{{Name: "Version", Value: r.Version + " " + r.Mode}, {Name: "Role", Value: r.Role}, {Name: "Memory", Value: used + " " + unit + ofBytes(r.MaxMemory)},
			{Name: "Evicted keys", Value: fmt.Sprint(r.Evicted)}, {Name: "Commands a second", Value: ui.Rate(r.OpsPerS)}, {Name: "Clients", Value: ui.Count(r.Clients)}, {Name: "INFO took", Value: r.Took.Round(10 * time.Microsecond).String()}}})
	}
	bus := dash.Group{Name: "Between nodes", Facts: []dash.Fact{{Name: "Sent", Value: fmt.Sprintf("%d batches, %d parcels", s.BatchesOut, s.Posted)}, {Name: "Received", Value: fmt.Sprintf("%d batches, %d records", s.BatchesIn, s.RecordsIn)},
		{Name: "Lost", Value: fmt.Sprint(s.Lost)}, {Name: "Sent again", Value: fmt.Sprint(s.Retries)}, {Name: "Waiting", Value: fmt.Sprintf("%d records", s.Waiting)}, {Name: "Agents, channels elsewhere", Value: fmt.Sprintf("%d, %d", s.Agents, s.Channels)}}}
	out = append(out, bus)
	for _, l := range s.Links {
		state := "connected"
		if !l.Connected {
			state = "not connected"
		}
		out = append(out, dash.Group{Name: "Region " + l.Region, Facts: []dash.Fact{{Name: "State", Value: state + ", breaker " + l.Breaker}, {Name: "Last command took", Value: l.Took.Round(10 * time.Microsecond).String()},
			{Name: "Breaker opened", Value: fmt.Sprint(l.Opened)}, {Name: "Nodes", Value: ui.Count(l.Nodes)}, {Name: "Last fault", Value: l.Fault}}})
	}
	return out
}

func ofBytes(limit int64) string {
	if limit <= 0 {
		return ", no limit"
	}
	value, unit := ui.Bytes(limit)
	return " of " + value + " " + unit
}

// settingsPage is the configuration and what is kept, for their pages.
type settingsPage struct{ a *App }

func (p settingsPage) Entries() (out []dash.Setting) {
	cfg := p.a.current()
	var plain Config
	plain.setDefaults()
	defaults := plain.Fields()
	for i, f := range cfg.Fields() {
		e := dash.Setting{Name: f.Key, Default: defaults[i].Text(), Doc: f.Help, Source: "default", Secret: f.Secret != ""}
		if f.OnlyIn {
			n := f.value.Len()
			if e.Value = ui.Plural(n, "rule", "rules"); n > 0 {
				e.Source = "file"
			}
			out = append(out, e)
			continue
		}
		e.Value = f.Text()
		switch {
		case os.Getenv(f.Env) != "":
			e.Source = "environment"
		case e.Value != e.Default:
			e.Source = "file or flag"
		}
		switch {
		case f.Secret == "url":
			e.Value = hideURL(e.Value)
		case f.Secret != "" && e.Value != "":
			e.Value = "***"
		}
		out = append(out, e)
	}
	return out
}

func (p settingsPage) Footer() []string {
	db, wal := p.a.store.Size()
	value, unit := ui.Bytes(db + wal)
	return []string{"Database " + value + " " + unit}
}

func (p settingsPage) Examine(ctx context.Context, found func(place int, f doctor.Finding)) {
	p.a.watchExamined(ctx, found)
}

// Kept lists what this node stores. What is said here is held to the code by the
// retention of each part.
func (p settingsPage) Kept() []dash.Keeping {
	a := p.a
	s := a.hub.Stats()
	db, wal := a.store.Size()
	size, unit := ui.Bytes(db + wal)
	mail, mailUnit := ui.Bytes(s.MailboxBytes)
	var spans []string
	for _, r := range scale.Resolutions() {
		spans = append(spans, ui.Uptime(r.Span)+" steps for "+ui.Plural(int(r.Keep.Hours()/24), "day", "days"))
	}
	return []dash.Keeping{
		{What: "Messages on their way", Where: "memory", Why: "to deliver them", HowLong: "until delivered, acknowledged or expired", Now: ui.Plural(int(s.QueueFrames), "frame", "frames")},
		{What: "Messages parked for absent agents", Where: "journal in the data directory, as they came", Why: "the sender gave them a time to live", HowLong: "until fetched or their time is over, at most " + a.cfg.Limits.MaxTTL.String(), Now: ui.Plural(int(s.MailboxCount), "message", "messages") + ", " + mail + " " + mailUnit},
		{What: "Recent messages of channels", Where: "memory; in Redis where a channel rule says keep", Why: "so that a client that was away misses nothing", HowLong: "by the channel's rule; in memory minutes only", Now: ui.Plural(s.Channels, "channel", "channels")},
		{What: "Profiles that agents publish of themselves", Where: "memory", Why: "so that others find them", HowLong: "while the agent has a session", Now: ui.Plural(s.Agents, "agent", "agents")},
		{What: "Tokens", Where: "database", Why: "to know who may connect; only hashes of opaque tokens are kept", HowLong: "until deleted, and a while after their end"},
		{What: "Accounts and sessions of people", Where: "database", Why: "to sign in; passwords as argon2id hashes, sessions as hashes with address and browser", HowLong: "accounts until deleted, sessions until they end"},
		{What: "Audit log: who changed what, when, from which address", Where: "database", Why: "to answer for changes", HowLong: "bounded; the oldest go first; all nodes of the relay hold it"},
		{What: "Measurements: counts, rates, latencies", Where: "database", Why: "trends, alerts and forecasts; no names of agents", HowLong: strings.Join(spans, ", "), Now: size + " " + unit + " in all"},
		{What: "Scaling log: decisions, alerts, changes, notes", Where: "database", Why: "to explain each decision", HowLong: a.cfg.Scaling.logKept()},
		{What: "Log of the process", Where: "standard error", Why: "to find faults; names of agents and tokens' public names, never content", HowLong: "as your service manager keeps it"},
	}
}
