package dash

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"
	"agentnet/app/roster"
	"agentnet/app/wire"
	"agentnet/web/ui"
)

// listFor is how long a list is shown before the relay is asked again.
const listFor = time.Second

// rowsOnPage is how many rows of a long list a page shows.
const rowsOnPage = 50

// agentsView is the page of agents.
type agentsView struct {
	r            *request
	lead         string
	filter       string
	fault        string // why the filter was not understood
	chips        []ui.Choice
	columns      []column
	rows         []roster.Row
	from, to, of int
	before, next string
	limit        int // frames that fit a queue; 0: not known
	chosen       *agentDetail
	operates     bool
	several      bool             // there are other nodes
	trace        *relay.Trace     // of the agent that is open; nil for those who may not see one
	traceRows    []relay.TraceRow // the newest first
}

// A column of a table that can be sorted.
type column struct {
	name, class string
	path        string // sorts by it; "" cannot be sorted
	sorted      string // ascending, descending or ""
	wide        bool   // takes two cells
}

// agentDetail is the drawer of one agent.
type agentDetail struct {
	row      roster.Row
	sessions []roster.Session
	missing  []string // nodes that did not answer
	close    string
}

// queueFrames is the bound of a session's queue by the relay's default.
const queueFrames = 1024

func (b *Board) agents(r *request) (*view, error) {
	if r.c != nil {
		if ending := wants(r.c); ending != "" {
			t, err := b.agentTable(r)
			if err != nil {
				return nil, err
			}
			return nil, t.send(&b.pack, r.c, "agents", ending)
		}
	}
	v := &agentsView{r: r, filter: r.query.Get("q"), operates: r.who.Role >= Operator, limit: queueFrames}
	page := atoi(r.query.Get("page"), 0, roster.MaxRows/rowsOnPage-1)
	q := roster.Query{Filter: v.filter, Sort: r.query.Get("sort"), Limit: (page + 1) * rowsOnPage}
	if err := roster.Check(v.filter); err != nil {
		v.fault, q.Filter = err.Error(), ""
	}
	all, err := b.findAgents(q)
	if err != nil {
		return nil, err
	}
	v.several = len(b.members()) > 1
	v.lead = agentLead(&all, b.cfg.Page.Now(), v.several)
	v.chips = agentChips(r, &all)
	v.columns = agentColumns(r, v.several)
	v.of = all.Matched
	v.from = min(page*rowsOnPage, max(0, (len(all.Rows)-1)/rowsOnPage*rowsOnPage))
	v.to = min(v.from+rowsOnPage, len(all.Rows))
	v.rows = all.Rows[v.from:v.to]
	if v.from > 0 {
		v.before = r.with("page", strconv.Itoa(v.from/rowsOnPage-1))
	}
	if v.to < v.of && v.to < roster.MaxRows {
		v.next = r.with("page", strconv.Itoa(v.from/rowsOnPage+1))
	}
	if name := r.query.Get("agent"); name != "" {
		v.chosen = b.agentDetail(r, name)
		b.readTrace(v, name)
	}
	parts := []part{{"agents-lead", agentsLead(v)}, {"agents-rows", agentsTable(v)}, {"agent", agentDrawer(v)}}
	if v.trace != nil {
		parts = append(parts, part{"agent-trace", agentTrace(v)})
	}
	return &view{title: "Agents", body: agentsPage(v), every: 2, plain: true, parts: parts}, nil
}

func atoi(text string, low, high int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return low
	}
	return min(max(n, low), high)
}

// findTime is how long a page waits for the lists of other nodes.
const findTime = 3 * time.Second

// findAgents lists agents of all nodes; of this one where nobody knows others.
func (b *Board) findAgents(q roster.Query) (roster.List, error) {
	if a := b.cfg.Sources.Agents; a != nil {
		ctx, cancel := context.WithTimeout(context.Background(), findTime)
		defer cancel()
		return a.Find(ctx, q)
	}
	return b.book.Find(q)
}

// agentDetail is one agent with its sessions, on all nodes.
func (b *Board) agentDetail(r *request, name string) *agentDetail {
	d := &agentDetail{row: roster.Row{Agent: name, State: string(wire.Offline)}, close: r.with("agent", "")}
	if a := b.cfg.Sources.Agents; a != nil {
		ctx, cancel := context.WithTimeout(context.Background(), findTime)
		defer cancel()
		d.sessions, d.missing = a.Sessions(ctx, name)
	} else {
		d.sessions = b.book.Sessions(name)
	}
	d.row = roster.Sum(name, d.sessions)
	return d
}

func agentLead(l *roster.List, now Now, several bool) string {
	where := "this node"
	if several {
		where = "all nodes"
	}
	text := fmt.Sprintf("%s connected to %s, %s slow, %s away. %s messages in and %s out each second on this node.",
		ui.Count(l.Online), where, ui.Count(l.Slow), ui.Count(l.Away), ui.Rate(now.AcceptedPerS), ui.Rate(now.DeliveredPerS))
	if len(l.Missing) > 0 {
		text += " Not answered in time: " + strings.Join(l.Missing[:min(len(l.Missing), 10)], ", ") + "; their agents are missing."
	}
	return text
}

// agentChips are quick filters.
func agentChips(r *request, l *roster.List) (out []ui.Choice) {
	names := []string{"All", "Connected", "Slow", "Queue waits", "Away to return"}
	for i, filter := range roster.Quick() {
		c := ui.Choice{Name: names[i], Path: r.with("q", filter, "page", ""), Current: r.query.Get("q") == filter}
		if i < len(l.Quick) {
			c.Count = ui.Count(l.Quick[i])
		}
		out = append(out, c)
	}
	return out
}

func agentColumns(r *request, several bool) []column {
	all := []column{{name: "State", path: "state"}, {name: "Agent", path: "agent"}}
	if several {
		all = append(all, column{name: "Node", path: "node", class: "p2"})
	}
	return sortable(r, "queue", append(all, column{name: "Up", path: "up", class: "num p2"}, column{name: "RTT", path: "rtt", class: "num p2"},
		column{name: "In/s", path: "in", class: "num p2"}, column{name: "Out/s", path: "out", class: "num"}, column{name: "Queue", path: "queue", wide: true},
		column{name: "Unacked", path: "unacked", class: "num p3"}, column{name: "Channels", path: "channels", class: "num p3"}, column{name: "Wire", class: "p2"}))
}

// sortable turns keys into links: the first press sorts down, the next up.
func sortable(r *request, otherwise string, columns []column) []column {
	by := r.query.Get("sort")
	if by == "" {
		by = otherwise
	}
	for i := range columns {
		c := &columns[i]
		switch c.path {
		case "":
			continue
		case by:
			c.sorted, c.path = "descending", r.with("sort", "-"+c.path, "page", "")
		case strings.TrimPrefix(by, "-"):
			c.sorted, c.path = "ascending", r.with("sort", c.path, "page", "")
		default:
			c.path = r.with("sort", c.path, "page", "")
		}
	}
	return columns
}

// agentState is the word and colour of a state.
func agentState(state string) (kind, word string) {
	switch state {
	case "slow":
		return "warn", "Slow"
	case string(wire.Available):
		return "ok", "Live"
	case string(wire.Busy):
		return "ok", "Busy"
	case string(wire.Away):
		return "none", "Away"
	}
	return "none", "Gone"
}

func queueGauge(a *roster.Row, limit int) ui.Gauge {
	return ui.Gauge{Now: float64(a.Queue), Full: float64(limit), Warn: 0.8 * float64(limit), Label: ui.Plural(a.Queue, "frame", "frames") + " of " + ui.Count(limit) + " in the queue"}
}

func ratesOf(a *roster.Row) (in, out string) {
	if !a.Measured {
		return "–", "–"
	}
	return ui.Rate(a.HeardPerS), ui.Rate(a.SentPerS)
}

func rttWord(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	value, unit := ui.Latency(d)
	return value + " " + unit
}

// agentTable is the list for machines: all rows that match, not one page.
func (b *Board) agentTable(r *request) (*table, error) {
	q := roster.Query{Filter: r.query.Get("q"), Sort: r.query.Get("sort"), Limit: roster.MaxRows}
	if err := roster.Check(q.Filter); err != nil {
		return nil, &wire.Error{Code: wire.BadFrame, Message: "q: " + err.Error()}
	}
	all, err := b.findAgents(q)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"agent", "node", "region", "state", "sessions", "connected", "since", "rtt_ms", "in_per_s", "out_per_s", "heard", "sent", "queue_frames", "queue_bytes", "unacked", "channels", "encoding", "subject"}}
	for i := range all.Rows {
		a := &all.Rows[i]
		t.add(a.Agent, a.Node, a.Region, a.State, a.Sessions, a.Connected, a.Since, a.RTT, math.Round(a.HeardPerS*100)/100, math.Round(a.SentPerS*100)/100, a.Heard, a.Sent, a.Queue, a.Bytes, a.Unacked, a.Channels, a.Encoding, a.Subject)
	}
	return t, nil
}
