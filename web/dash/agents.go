package dash

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
	"agentnet/web/ui"
)

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
	rows         []agentRow
	from, to, of int
	before, next string
	limit        int // frames that fit a queue; 0: not known
	chosen       *agentDetail
	operates     bool
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
	row      agentRow
	sessions []relay.SessionInfo
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
	all := b.roster()
	v := &agentsView{r: r, filter: r.query.Get("q"), operates: r.who.Role >= Operator, limit: queueFrames}
	found, err := filterAgents(all.rows, v.filter)
	if err != nil {
		v.fault = err.Error()
	}
	v.lead = agentLead(all.rows, b.cfg.Page.Now())
	v.chips = agentChips(r, all.rows)
	sortAgents(found, r.query.Get("sort"))
	v.columns = agentColumns(r)
	v.of = len(found)
	page := atoi(r.query.Get("page"), 0, 10_000)
	v.from = min(page*rowsOnPage, max(0, (v.of-1)/rowsOnPage*rowsOnPage))
	v.to = min(v.from+rowsOnPage, v.of)
	v.rows = found[v.from:v.to]
	if v.from > 0 {
		v.before = r.with("page", strconv.Itoa(v.from/rowsOnPage-1))
	}
	if v.to < v.of {
		v.next = r.with("page", strconv.Itoa(v.from/rowsOnPage+1))
	}
	if name := r.query.Get("agent"); name != "" {
		v.chosen = b.agentDetail(r, all, name)
	}
	return &view{title: "Agents", body: agentsPage(v), every: 2, plain: true,
		parts: []part{{"agents-lead", agentsLead(v)}, {"agents-rows", agentsTable(v)}, {"agent", agentDrawer(v)}}}, nil
}

func atoi(text string, low, high int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return low
	}
	return min(max(n, low), high)
}

func (b *Board) agentDetail(r *request, all *roster, name string) *agentDetail {
	i, ok := slices.BinarySearchFunc(all.rows, name, func(a agentRow, name string) int { return cmp.Compare(a.name, name) })
	if !ok {
		return &agentDetail{row: agentRow{name: name, state: string(wire.Offline)}, close: r.with("agent", "")}
	}
	return &agentDetail{row: all.rows[i], close: r.with("agent", ""), sessions: b.cfg.Relay.Census(true, func(agent string) bool { return agent == name })}
}

func agentLead(rows []agentRow, now Now) string {
	online, away, slow := 0, 0, 0
	for i := range rows {
		switch rows[i].state {
		case "slow":
			slow++
			online++
		case string(wire.Offline):
		case string(wire.Away):
			away++
			online++
		default:
			online++
		}
	}
	return fmt.Sprintf("%s connected to this node, %s slow, %s away. %s messages in and %s out each second.",
		ui.Count(online), ui.Count(slow), ui.Count(away), ui.Rate(now.AcceptedPerS), ui.Rate(now.DeliveredPerS))
}

// agentChips are quick filters.
func agentChips(r *request, rows []agentRow) (out []ui.Choice) {
	for _, c := range []struct{ name, filter string }{{"All", ""}, {"Connected", "!state:offline"}, {"Slow", "state:slow"}, {"Queue waits", "queue>0"}, {"Away to return", "state:offline"}} {
		found, _ := filterAgents(rows, c.filter) // ours: they can be read
		out = append(out, ui.Choice{Name: c.name, Path: r.with("q", c.filter, "page", ""), Current: r.query.Get("q") == c.filter, Count: ui.Count(len(found))})
	}
	return out
}

// A term is one word of a filter.
type term struct {
	not      bool
	key, op  string
	text     string
	number   float64
	isNumber bool
}

// parseFilter reads words such as queue>50 state:slow !ci/ bob.
func parseFilter(text string) (terms []term, err error) {
	if len(text) > 200 {
		return nil, errors.New("the filter is longer than 200 letters")
	}
	for _, word := range strings.Fields(text) {
		t := term{}
		if t.not = strings.HasPrefix(word, "!"); t.not {
			word = word[1:]
		}
		if i := strings.IndexAny(word, ":<>"); i > 0 {
			t.key, t.op, t.text = word[:i], word[i:i+1], word[i+1:]
			if t.op == ":" && t.text != "" && (t.text[0] == '<' || t.text[0] == '>') {
				t.op, t.text = t.text[:1], t.text[1:]
			}
			t.number, err = strconv.ParseFloat(t.text, 64)
			t.isNumber = err == nil && !math.IsNaN(t.number)
			if t.op != ":" && !t.isNumber {
				return nil, fmt.Errorf("%.40q: what follows %s is no number", word, t.op)
			}
		} else {
			t.text = word
		}
		terms = append(terms, t)
	}
	return terms, nil
}

// filterAgents keeps the rows that match all words. On an error it keeps all.
func filterAgents(rows []agentRow, filter string) ([]agentRow, error) {
	terms, err := parseFilter(filter)
	for i := range terms {
		if err == nil && terms[i].key != "" && !slices.Contains(agentKeys, terms[i].key) {
			err = fmt.Errorf("%.40q is none of %s", terms[i].key, strings.Join(agentKeys, ", "))
		}
	}
	if err != nil {
		return slices.Clone(rows), err
	}
	var out []agentRow
next:
	for i := range rows {
		for k := range terms {
			if terms[k].matches(&rows[i]) == terms[k].not {
				continue next
			}
		}
		out = append(out, rows[i])
	}
	return out, nil
}

var agentKeys = []string{"state", "wire", "subject", "queue", "rtt", "in", "out", "channels", "sessions", "unacked"}

func (t *term) matches(a *agentRow) bool {
	number := func(v float64) bool {
		switch t.op {
		case "<":
			return v < t.number
		case ">":
			return v > t.number
		}
		return t.isNumber && v == t.number
	}
	switch t.key {
	case "":
		return strings.Contains(a.name, t.text)
	case "state":
		return a.state == t.text
	case "wire":
		return a.encoding == t.text
	case "subject":
		return strings.Contains(a.subject, t.text)
	case "queue":
		return number(float64(a.queue))
	case "rtt":
		return number(float64(a.rtt.Milliseconds()))
	case "in":
		return number(a.hearPerS)
	case "out":
		return number(a.sentPerS)
	case "channels":
		return number(float64(a.channels))
	case "sessions":
		return number(float64(a.sessions))
	case "unacked":
		return number(float64(a.unacked))
	}
	return false
}

// agentSorts are what the list can be sorted by, the largest first.
var agentSorts = map[string]func(a, b *agentRow) int{
	"agent":    func(a, b *agentRow) int { return cmp.Compare(b.name, a.name) },
	"state":    func(a, b *agentRow) int { return cmp.Compare(b.state, a.state) },
	"up":       func(a, b *agentRow) int { return b.since.Compare(a.since) },
	"rtt":      func(a, b *agentRow) int { return cmp.Compare(a.rtt, b.rtt) },
	"in":       func(a, b *agentRow) int { return cmp.Compare(a.hearPerS, b.hearPerS) },
	"out":      func(a, b *agentRow) int { return cmp.Compare(a.sentPerS, b.sentPerS) },
	"queue":    func(a, b *agentRow) int { return cmp.Compare(a.queue, b.queue) },
	"unacked":  func(a, b *agentRow) int { return cmp.Compare(a.unacked, b.unacked) },
	"channels": func(a, b *agentRow) int { return cmp.Compare(a.channels, b.channels) },
}

func sortAgents(rows []agentRow, by string) {
	up := strings.HasPrefix(by, "-")
	compare, ok := agentSorts[strings.TrimPrefix(by, "-")]
	if !ok {
		compare = agentSorts["queue"]
	}
	slices.SortStableFunc(rows, func(a, b agentRow) int {
		if up {
			return compare(&a, &b)
		}
		return compare(&b, &a)
	})
}

func agentColumns(r *request) []column {
	return sortable(r, "queue", []column{{name: "State", path: "state"}, {name: "Agent", path: "agent"}, {name: "Up", path: "up", class: "num p2"}, {name: "RTT", path: "rtt", class: "num p2"},
		{name: "In/s", path: "in", class: "num p2"}, {name: "Out/s", path: "out", class: "num"}, {name: "Queue", path: "queue", wide: true},
		{name: "Unacked", path: "unacked", class: "num p3"}, {name: "Channels", path: "channels", class: "num p3"}, {name: "Wire", class: "p2"}})
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

func (a *agentRow) gauge(limit int) ui.Gauge {
	return ui.Gauge{Now: float64(a.queue), Full: float64(limit), Warn: 0.8 * float64(limit), Label: ui.Plural(a.queue, "frame", "frames") + " of " + ui.Count(limit) + " in the queue"}
}

func (a *agentRow) rates() (in, out string) {
	if !a.measured {
		return "–", "–"
	}
	return ui.Rate(a.hearPerS), ui.Rate(a.sentPerS)
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
	found, err := filterAgents(b.roster().rows, r.query.Get("q"))
	if err != nil {
		return nil, &wire.Error{Code: wire.BadFrame, Message: "q: " + err.Error()}
	}
	sortAgents(found, r.query.Get("sort"))
	t := &table{columns: []string{"agent", "state", "sessions", "connected", "since", "rtt_ms", "in_per_s", "out_per_s", "heard", "sent", "queue_frames", "queue_bytes", "unacked", "channels", "encoding", "subject"}}
	for i := range found {
		a := &found[i]
		t.add(a.name, a.state, a.sessions, a.online, a.since, a.rtt, math.Round(a.hearPerS*100)/100, math.Round(a.sentPerS*100)/100, a.heard, a.sent, a.queue, a.bytes, a.unacked, a.channels, a.encoding, a.subject)
	}
	return t, nil
}
