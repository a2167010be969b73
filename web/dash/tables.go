package dash

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/wire"
)

// tables are the rows for machines, by path: whatever a page shows as a table is one
// of these.
func (b *Board) tables() map[string]func(*request) (*table, error) {
	all := map[string]func(*request) (*table, error){
		"/agents":          b.agentTable,
		"/agents/sessions": b.agentSessionTable,
		"/channels":        b.channelTable,
		"/trends":          b.trendTable,
		"/simulator":       b.simulatedTable,
		"/nodes":           b.nodeTable,
		"/regions":         b.regionTable,
		"/broker":          b.brokerTable,
		"/settings":        b.settingTable,
		"/doctor":          b.findingTable,
		"/privacy":         b.privacyTable,
		"/log":             b.logTable,
		"/log/wants":       b.wantTable,
		"/log/compare":     b.compareTable,
		"/capacity":        b.limitTable,
		"/what-if":         b.whatIfTable,
		"/plan":            b.planTable,
		"/advice":          b.adviceTable,
		"/alerts":          b.alertTable,
		"/rules":           b.ruleTable,
		"/notify":          b.notifyTable,
	}
	if b.cfg.Sources.Traces != nil {
		all["/agents/trace"] = b.traceTable
	}
	maps.Copy(all, b.accessTables())
	return all
}

// abouts say what each table lists.
var abouts = map[string]string{
	"/agents": "The agents of all nodes.", "/agents/sessions": "The sessions of one agent (parameter agent).", "/agents/trace": "The envelopes that were noted of one agent (parameter agent).",
	"/channels": "The channels of this node with their rates.", "/trends": "Trends of the load over a range.", "/simulator": "A simulation, frame by frame; its parameters are those of the page.",
	"/nodes": "The nodes of the fleet.", "/regions": "The regions with their nodes, load and latency.", "/broker": "What is known of the broker.", "/settings": "The configuration in effect; secrets are hidden.",
	"/doctor": "What the examination of this server found.", "/privacy": "What this server stores, where, why and for how long.", "/log": "The scaling log.",
	"/log/wants": "What each signal asked for in a decision (parameters origin and seq).", "/log/compare": "The half hours before and after an action (parameters origin and seq).",
	"/capacity": "The limits, the first to break on top.", "/what-if": "The load multiplied (parameters agents, msgs and size).", "/plan": "The planner's answer (parameters users, connections, messages, bytes, fan, regions).",
	"/advice": "What is advised, with evidence and the exact change.", "/alerts": "The alerts that are not at rest.", "/rules": "The alert rules in force.", "/notify": "The ways to tell people.",
	"/access": "The tokens.", "/access/accounts": "The accounts.", "/access/sessions": "The browsers that are signed in.", "/audit": "The audit log.",
}

// Rows is one table of the console for callers that have no page.
type Rows struct {
	Name  string // such as access/accounts
	About string // what it lists, as a sentence
	Need  Role
	// Make writes the rows as CSV or JSON by the query that the page would take.
	Make func(query url.Values, csv bool) ([]byte, error)
}

// Tables lists all tables by name.
func (b *Board) Tables() (out []Rows) {
	tables := b.tables()
	for _, path := range slices.Sorted(maps.Keys(tables)) {
		out = append(out, Rows{Name: strings.TrimPrefix(path, "/"), About: abouts[path], Need: b.need(path), Make: func(query url.Values, csv bool) ([]byte, error) {
			query.Del("format")
			t, err := tables[path](&request{path: path, query: query, now: time.Now(), zone: zoneOf(query.Get("tz")), base: b.cfg.Base, who: Visitor{Role: b.need(path)}})
			if err != nil {
				return nil, err
			}
			if csv {
				return t.csv()
			}
			return t.json()
		}})
	}
	return out
}

func (b *Board) agentSessionTable(r *request) (*table, error) {
	t := &table{columns: []string{"agent", "node", "region", "state", "connected", "since", "address", "encoding", "token", "subject", "rtt_ms", "heartbeat_ms", "heard", "sent", "queue_frames", "queue_bytes", "unacked", "channels"}}
	d := b.agentDetail(r, r.query.Get("agent"))
	for i := range d.sessions {
		s := &d.sessions[i]
		address := ""
		if s.Addr.IsValid() {
			address = s.Addr.String()
		}
		t.add(s.Agent, s.Node, s.Region, string(s.State), s.Connected, s.Since, address, s.Encoding, s.Token, s.Subject, s.RTT, s.Heartbeat, s.Heard, s.Sent, s.Queue, s.QueueBytes, s.Unacked, s.Channels)
	}
	return t, nil
}

func (b *Board) regionTable(*request) (*table, error) {
	t := &table{columns: []string{"region", "node", "state", "connections", "share", "messages_per_s", "p95", "cpu", "memory"}}
	now := b.cfg.Page.Now()
	region := ""
	for _, row := range b.regions(&now) {
		node := ""
		if row.node {
			node = row.name
		} else {
			region = row.name
		}
		t.add(region, node, row.state, row.agents, row.share, row.rate, row.p95, row.cpu, row.memory)
	}
	return t, nil
}

func (b *Board) brokerTable(*request) (*table, error) {
	t := &table{columns: []string{"group", "name", "value"}}
	if s := b.cfg.Sources.Broker; s != nil {
		_, word, sentence := s.State()
		t.add("", "State", word)
		t.add("", "What that means", sentence)
		for _, g := range s.Groups() {
			for _, f := range g.Facts {
				t.add(g.Name, f.Name, f.Value)
			}
		}
	}
	return t, nil
}

func (b *Board) findingTable(r *request) (*table, error) {
	t := &table{columns: []string{"group", "check", "title", "result", "seen", "fix"}}
	if s := b.cfg.Sources.Config; s != nil {
		v := &settingsView{}
		if b.examine(r, s, v, examineTime, true); v.fault != "" || v.running {
			return nil, &wire.Error{Code: wire.Overloaded, Message: "doctor: " + cmp.Or(v.fault, "it is still at work"), RetryAfterMS: 2000}
		}
		for _, f := range v.findings {
			t.add(f.Group, f.Check, f.Title, string(f.Result), f.Evidence, f.Fix)
		}
	}
	return t, nil
}

// opened is the entry that a table of an entry is about: origin and seq, or open as
// the page of the log has it.
// Without any it is empty.
func (b *Board) opened(r *request) (*logOpen, error) {
	origin, number := r.query.Get("origin"), r.query.Get("seq")
	if number == "" && r.query.Get("open") == "" {
		return &logOpen{}, nil
	}
	if open := r.query.Get("open"); open != "" {
		if i := strings.LastIndex(open, ":"); i > 0 {
			origin, number = open[:i], open[i+1:]
		}
	}
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil || b.cfg.Sources.Scaling == nil {
		return nil, &wire.Error{Code: wire.BadFrame, Message: "seq: name an entry of the scaling log by origin and seq"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), accessTime)
	defer cancel()
	o, err := b.openEntry(ctx, r, origin, seq)
	if err != nil {
		return nil, &wire.Error{Code: wire.NotFound, Message: "there is no such entry"}
	}
	return o, nil
}

func (b *Board) wantTable(r *request) (*table, error) {
	o, err := b.opened(r)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"signal", "one_instance", "target", "asks_for", "known"}}
	for _, w := range o.wants {
		t.add(w.Signal.String(), finite(w.Value), finite(w.Target), w.Count, w.Known)
	}
	return t, nil
}

func (b *Board) compareTable(r *request) (*table, error) {
	o, err := b.opened(r)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"what", "before", "after", "change"}}
	if o.compare != nil {
		for _, row := range o.compare.rows {
			t.add(row[0], row[1], row[2], row[3])
		}
	}
	return t, nil
}

func (b *Board) whatIfTable(r *request) (*table, error) {
	t := &table{columns: []string{"limit", "now", "same_nodes", "planned_nodes", "nodes", "planned"}}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		w := b.tryWhatIf(r, sc)
		for _, row := range w.rows {
			t.add(row.name, row.now, row.same, row.wanted, w.nodes, w.wanted)
		}
	}
	return t, nil
}

func (b *Board) planTable(r *request) (*table, error) {
	t := &table{columns: []string{"by", "amount", "nodes", "why", "decides"}}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return t, nil
	}
	f := b.tryPlan(r, sc)
	if f.fault != "" {
		return nil, &wire.Error{Code: wire.BadFrame, Message: f.fault}
	}
	if f.plan != nil {
		for _, n := range f.plan.Needs {
			t.add(n.Metric, n.Amount, n.Instances, n.Why, n.Metric == f.plan.Decides)
		}
	}
	return t, nil
}

func (b *Board) notifyTable(*request) (*table, error) {
	t := &table{columns: []string{"channel", "kind", "target", "last_sent", "fault"}}
	if n := b.cfg.Sources.Notify; n != nil {
		for _, c := range n.Channels() {
			t.add(c.Name, c.Kind, c.Target, c.LastSent, c.Fault)
		}
	}
	return t, nil
}

func (b *Board) traceTable(r *request) (*table, error) {
	t := &table{columns: []string{"at", "node", "direction", "kind", "from", "to", "channel", "message_id", "bytes", "priority", "outcome"}}
	if b.cfg.Sources.Traces == nil {
		return t, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	tr := b.cfg.Sources.Traces.Traced(ctx, r.query.Get("agent"))
	for i := range tr.Rows {
		row := &tr.Rows[i]
		t.add(row.At, row.Node, row.Direction, row.Kind, row.From, row.To, row.Channel, row.MessageID, row.Bytes, row.Priority.String(), row.Outcome)
	}
	return t, nil
}
