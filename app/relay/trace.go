package relay

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/wire"
)

const (
	// MaxTrace is the longest time that an agent's envelopes are noted in one go.
	MaxTrace = 15 * time.Minute
	// maxTraces bounds the agents that are traced at one time, or were lately.
	maxTraces = 8
	// traceRows bounds the envelopes of one trace; the oldest go first.
	traceRows = 500
	// traceKept is how long the rows of a trace that ended can be read.
	traceKept = 10 * time.Minute
)

// A TraceRow is the envelope of one message: what the relay needs to carry it, never
// its payload, headers, key or method.
type TraceRow struct {
	Number    uint64     `json:"number" doc:"Of the rows of its node, from 1."`
	At        time.Time  `json:"at"`
	Node      string     `json:"node,omitempty" doc:"The node that noted it."`
	Direction string     `json:"direction" enum:"sent,received" doc:"As the agent sees it."`
	Kind      string     `json:"kind" doc:"send, publish, request, reply or receipt; message for what came from send or publish."`
	From      string     `json:"from,omitempty"`
	To        string     `json:"to,omitempty"`
	Channel   string     `json:"channel,omitempty"`
	MessageID string     `json:"message_id,omitempty"`
	Bytes     int        `json:"bytes" doc:"Of the payload."`
	Priority  wire.Class `json:"priority" enum:"bulk,normal,critical"`
	Outcome   string     `json:"outcome,omitempty" doc:"delivered, parked, published, queued, kept (for a session that is away), or the code of a refusal; \"asked over HTTP\" where the caller there was told; absent while it is open, or when nobody asked."`

	session *Session // of a command that has no answer yet
	id      uint64
}

// A Trace is what was noted of one agent.
type Trace struct {
	Agent   string     `json:"agent"`
	By      string     `json:"by,omitempty" doc:"Who asked for it."`
	Running bool       `json:"running"`
	Started time.Time  `json:"started,omitzero"`
	Ends    time.Time  `json:"ends,omitzero" doc:"When it ends by itself, or ended."`
	Seen    uint64     `json:"seen" doc:"Messages that were noted, with those that made room for newer ones."`
	Rows    []TraceRow `json:"rows" doc:"The oldest first; at most 500 of each node."`
	Missing []string   `json:"missing,omitempty" doc:"Nodes that did not answer."`
}

// A trace notes the envelopes of one agent. Its lock is a leaf: nothing is locked
// while it is held, and it may be taken under every other lock of the message path.
type trace struct {
	agent, by     string
	started, ends time.Time

	mu      sync.Mutex
	stopped bool
	seen    uint64
	rows    []TraceRow // a ring: row n is at (n-1) % traceRows
	timer   *time.Timer
}

// tracing is the traces of a hub. Nobody is traced most of the time: on is nil then,
// and one load of it is all that a message costs.
type tracing struct {
	on atomic.Pointer[map[string]*trace] // those that run; never changed, only replaced

	mu  sync.Mutex
	all map[string]*trace // with those that ended lately
}

// Trace notes, from now on and at most for so long, the envelopes of the messages
// that an agent sends and gets on this node. A trace that runs goes on, with the new
// end.
func (h *Hub) Trace(agent, by string, length time.Duration) (Trace, error) {
	if agent == "" || len(agent) > 1024 {
		return Trace{}, &wire.Error{Code: wire.BadFrame, Message: "agent: name one"}
	}
	if length < time.Second || length > MaxTrace {
		return Trace{}, &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("seconds: say how long, 1 to %d", int(MaxTrace.Seconds()))}
	}
	g := &h.tracing
	g.mu.Lock()
	defer g.mu.Unlock()
	tr := g.all[agent]
	if tr != nil && tr.running() {
		tr.mu.Lock()
		tr.ends = time.Now().Add(length)
		tr.timer.Reset(length)
		tr.mu.Unlock()
		return tr.read(0), nil
	}
	if tr == nil && len(g.all) >= maxTraces {
		g.forgetOldest()
	}
	if tr == nil && len(g.all) >= maxTraces {
		return Trace{}, &wire.Error{Code: wire.Overloaded, Message: fmt.Sprintf("%d agents are traced on this node, which is the limit: end one first", maxTraces), RetryAfterMS: 10_000}
	}
	now := time.Now()
	tr = &trace{agent: strings.Clone(agent), by: strings.Clone(by), started: now, ends: now.Add(length)}
	tr.timer = time.AfterFunc(length, func() { h.endTrace(tr) })
	if g.all == nil {
		g.all = make(map[string]*trace)
	}
	g.all[tr.agent] = tr
	g.publish()
	return tr.read(0), nil
}

// forgetOldest makes room by dropping the trace that ended first. g.mu must be held.
func (g *tracing) forgetOldest() {
	var oldest *trace
	for _, tr := range g.all {
		if !tr.running() && (oldest == nil || tr.ends.Before(oldest.ends)) {
			oldest = tr
		}
	}
	if oldest != nil {
		delete(g.all, oldest.agent)
	}
}

// publish shows the message path who is traced. g.mu must be held.
func (g *tracing) publish() {
	on := maps.Clone(g.all)
	maps.DeleteFunc(on, func(_ string, tr *trace) bool { return !tr.running() })
	if len(on) == 0 {
		g.on.Store(nil)
		return
	}
	g.on.Store(&on)
}

// endTrace stops a trace; its rows stay for a while.
func (h *Hub) endTrace(tr *trace) {
	g := &h.tracing
	g.mu.Lock()
	defer g.mu.Unlock()
	tr.mu.Lock()
	if tr.stopped {
		tr.mu.Unlock()
		return
	}
	tr.stopped = true
	if now := time.Now(); now.Before(tr.ends) {
		tr.ends = now
	}
	for i := range tr.rows {
		tr.rows[i].session = nil
	}
	tr.timer.Stop()
	tr.timer = time.AfterFunc(traceKept, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.all[tr.agent] == tr {
			delete(g.all, tr.agent)
		}
	})
	tr.mu.Unlock()
	g.publish()
}

// EndTrace stops the trace of an agent before its time; false when none runs here.
func (h *Hub) EndTrace(agent string) bool {
	h.tracing.mu.Lock()
	tr := h.tracing.all[agent]
	h.tracing.mu.Unlock()
	if tr == nil || !tr.running() {
		return false
	}
	h.endTrace(tr)
	return true
}

// Traced reads what was noted of an agent after the row of a number. A trace that
// never was, or is forgotten, is one that does not run and has no rows.
func (h *Hub) Traced(agent string, after uint64) Trace {
	h.tracing.mu.Lock()
	tr := h.tracing.all[agent]
	h.tracing.mu.Unlock()
	if tr == nil {
		return Trace{Agent: agent, Rows: []TraceRow{}}
	}
	return tr.read(after)
}

func (tr *trace) running() bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return !tr.stopped
}

func (tr *trace) read(after uint64) Trace {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	out := Trace{Agent: tr.agent, By: tr.by, Running: !tr.stopped, Started: tr.started, Ends: tr.ends, Seen: tr.seen, Rows: []TraceRow{}}
	first := uint64(0)
	if tr.seen > traceRows {
		first = tr.seen - traceRows
	}
	for n := max(first, after); n < tr.seen; n++ {
		row := tr.rows[n%traceRows]
		row.session = nil
		out.Rows = append(out.Rows, row)
	}
	return out
}

// note keeps a row.
func (tr *trace) note(row TraceRow) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.stopped {
		return
	}
	tr.seen++
	row.Number = tr.seen
	if len(tr.rows) < traceRows {
		tr.rows = append(tr.rows, row)
		return
	}
	tr.rows[(tr.seen-1)%traceRows] = row
}

// traceOf is the trace that runs for an agent; nil for nearly all.
func (h *Hub) traceOf(agent string) *trace {
	on := h.tracing.on.Load()
	if on == nil {
		return nil
	}
	return (*on)[agent]
}

// traceCommand notes a message that an agent sends. s is nil for one that came over
// HTTP.
func (h *Hub) traceCommand(t *Turn, from string, s *Session, c *wire.Command) {
	tr := h.traceOf(from)
	if tr == nil {
		return
	}
	switch c.Kind {
	case wire.KindSend, wire.KindPublish, wire.KindRequest, wire.KindReply, wire.KindReceipt:
	default:
		return
	}
	row := TraceRow{At: time.UnixMilli(t.wallMS()).UTC(), Direction: "sent", Kind: c.Kind.String(), From: from, To: string(c.To), Channel: string(c.Channel),
		MessageID: string(c.MessageID), Bytes: len(c.Payload.Data), Priority: c.Class, session: s, id: c.ID}
	if s == nil {
		row.Outcome = "asked over HTTP"
	}
	tr.note(row)
}

// traceOutcome notes what became of a command of a session.
func (h *Hub) traceOutcome(s *Session, id uint64, ok *wire.OK, e *wire.Error) {
	if s == nil || id == 0 {
		return
	}
	tr := h.traceOf(s.agent.name)
	if tr == nil {
		return
	}
	outcome, message := "", ""
	switch {
	case e != nil:
		outcome = string(e.Code)
	case ok.For == wire.KindPublish:
		outcome = "published"
	default:
		outcome, message = string(ok.Outcome), ok.MessageID
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for i := len(tr.rows) - 1; i >= 0; i-- {
		if row := &tr.rows[i]; row.session == s && row.id == id {
			row.Outcome, row.session = outcome, nil
			if message != "" {
				row.MessageID = strings.Clone(message)
			}
			return
		}
	}
}

// traceFrame notes a direct frame that a session was just given. s.mu must be held.
func (s *Session) traceFrame(t *Turn, class wire.Class, sealed []byte) {
	tr := s.hub.traceOf(s.agent.name)
	if tr == nil {
		return
	}
	var e wire.Event
	if _, err := e.Read(s.enc, wire.Body(sealed)); err != nil {
		return // a frame of our own: its reader is newer or older than its writer
	}
	row := TraceRow{At: time.UnixMilli(t.wallMS()).UTC(), Direction: "received", Kind: e.Kind.String(), To: s.agent.name, Priority: class, Outcome: s.fate()}
	switch e.Kind {
	case wire.KindMessage:
		row.From, row.MessageID, row.Bytes = e.Message.From, e.Message.MessageID, len(e.Message.Payload.Data)
	case wire.KindRequest:
		row.From, row.Bytes = e.Request.From, len(e.Request.Payload.Data)
	case wire.KindReply:
		row.From, row.Bytes = e.Reply.From, len(e.Reply.Payload.Data)
	case wire.KindReceipt:
		row.From, row.MessageID = e.Receipt.From, e.Receipt.MessageID
	default:
		return
	}
	row.From, row.MessageID = strings.Clone(row.From), strings.Clone(row.MessageID)
	tr.note(row)
}

// fate says what becomes of a frame that s is given now. s.mu must be held.
func (s *Session) fate() string {
	switch {
	case !s.live():
		return "kept"
	case s.full:
		return "queued"
	}
	return string(wire.Delivered)
}

// tracePublications notes what a subscriber was just given. Session.mu must be held.
func (sub *subscription) tracePublications(t *Turn, batch []Publication) {
	s := sub.s
	tr := s.hub.traceOf(s.agent.name)
	if tr == nil {
		return
	}
	for i := range batch[max(0, len(batch)-traceRows):] {
		p := &batch[max(0, len(batch)-traceRows)+i]
		tr.note(TraceRow{At: time.UnixMilli(t.wallMS()).UTC(), Direction: "received", Kind: wire.KindMessage.String(), From: p.From, Channel: sub.ch.name,
			MessageID: p.MessageID, Bytes: len(p.Payload.Data), Priority: p.Class, Outcome: s.fate()})
	}
}

// MergeTraces makes one trace of those of several nodes: rows by time.
func MergeTraces(agent string, all ...Trace) Trace {
	out := Trace{Agent: agent, Rows: []TraceRow{}}
	for _, tr := range all {
		out.Running = out.Running || tr.Running
		if !tr.Started.IsZero() && (out.Started.IsZero() || tr.Started.Before(out.Started)) {
			out.Started, out.By = tr.Started, tr.By
		}
		if tr.Ends.After(out.Ends) {
			out.Ends = tr.Ends
		}
		out.Seen += tr.Seen
		out.Rows = append(out.Rows, tr.Rows...)
	}
	slices.SortStableFunc(out.Rows, func(a, b TraceRow) int { return a.At.Compare(b.At) })
	return out
}
