package relay

import (
	"strings"
	"sync"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

const (
	// receiptTime is how long a message's receiver may speak of it at least.
	receiptTime = 10 * time.Minute
	// receiptsPerShard bounds how many messages are waited for, 524,288 in all.
	receiptsPerShard = 8192
)

type receiptShard struct {
	mu sync.Mutex
	m  map[string]*receiptWait
}

// A receiptWait is a message whose sender wants to hear of it.
type receiptWait struct {
	from, to  string
	expiresMS int64
	origin    bool // the message was accepted by this node
}

// expectReceipt notes that m's sender wants receipts.
func (h *Hub) expectReceipt(m *letter) {
	h.await(strings.Clone(m.id), m.from, string(m.to), m.timeMS+max(m.ttl, receiptTime).Milliseconds(), true)
}

func (h *Hub) await(id, from, to string, expiresMS int64, origin bool) {
	sh := &h.receipts[h.shardOf(id)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.m) >= receiptsPerShard {
		for old := range sh.m { // any: the map is at its bound
			delete(sh.m, old)
			break
		}
	}
	if old := sh.m[id]; old != nil && old.origin {
		return
	}
	sh.m[id] = &receiptWait{from: from, to: to, expiresMS: expiresMS, origin: origin}
}

// unawait forgets a message that was refused after all.
func (h *Hub) unawait(id string) {
	sh := &h.receipts[h.shardOf(id)]
	sh.mu.Lock()
	delete(sh.m, id)
	sh.mu.Unlock()
}

// receipt passes on what a receiver says of a message.
func (s *Session) receipt(t *Turn, l *link, c *wire.Command) {
	if wait := s.agent.spend(t.clock(), len(c.Note)); wait > 0 {
		l.strike(t)
		l.fail(t, c.ID, "", *overRate(wait))
		return
	}
	by := &caller{link: l, session: s, id: c.ID}
	r := &wire.Receipt{MessageID: string(c.MessageID), From: s.agent.name, State: c.State, Note: string(c.Note), TimeMS: t.wallMS()}
	if w := s.hub.awaited(r.MessageID, r.From, r.State, false); w != nil {
		s.hub.tellSender(t, w.from, r)
		return
	}
	if s.hub.fleet == nil || !s.hub.seekSender(t, by, r) {
		by.fail(t, errNoReceipt)
	}
}

var errNoReceipt = wire.Error{Code: wire.NotFound, Message: "receipt: nobody waits for a receipt of that message from this agent"}

// awaited finds the message that an agent speaks of; nil when nobody waits for that.
func (h *Hub) awaited(id, from string, state wire.ReceiptState, origin bool) *receiptWait {
	sh := &h.receipts[h.shardOf(id)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	w := sh.m[id]
	if w == nil || w.to != from || origin && !w.origin {
		return nil
	}
	if state == wire.ReceiptDone || state == wire.ReceiptRefused {
		delete(sh.m, id)
	}
	return w
}

// seekSender asks the other nodes for the one that accepted a message which its
// receiver speaks of: the receiver moved here since it came. False: there is none.
func (h *Hub) seekSender(t *Turn, by *caller, r *wire.Receipt) bool {
	nodes := h.fleet.Nodes(nil)
	if len(nodes) == 0 {
		return false
	}
	number := h.crossLast.Add(1)
	p := parcel.Append(nil, &parcel.Receipt{Number: number, ID: r.MessageID, From: r.From, State: r.State, Note: r.Note, TimeMS: r.TimeMS, Seek: true})
	h.errand(t, nodes, number, p, func(t *Turn, o *parcel.Outcome) {
		if o.Result != parcel.Done {
			by.fail(t, errNoReceipt)
		}
	})
	return true
}

// tellSender delivers a receipt to all sessions of the agent that sent the
// message. No lock may be held but link.mu.
func (h *Hub) tellSender(t *Turn, to string, r *wire.Receipt) {
	told := h.tellHere(t, to, r)
	if h.fleet != nil {
		if hosts := h.hosts(nil, to); len(hosts) > 0 {
			h.postReceipt(t, hosts, to, r)
			return
		}
	}
	if !told {
		t.count.dropped[dropNoSender]++
	}
}

// postReceipt posts a receipt until the nodes have it.
func (h *Hub) postReceipt(t *Turn, hosts []Host, to string, r *wire.Receipt) {
	nodes := make([]string, len(hosts))
	for i := range hosts {
		nodes[i] = hosts[i].Node
	}
	number := h.crossLast.Add(1)
	p := parcel.Append(nil, &parcel.Receipt{Number: number, To: to, ID: r.MessageID, From: r.From, State: r.State, Note: r.Note, TimeMS: r.TimeMS})
	h.errand(t, nodes, number, p, nil)
}

// tellHere is tellSender for the sessions of this node. It answers false when there
// are none.
func (h *Hub) tellHere(t *Turn, to string, r *wire.Receipt) bool {
	a := h.agent(bytesOf(to))
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		s.mu.Lock()
		v := *r
		s.keepOwn(t, wire.Normal, func(dst []byte, enc wire.Encoding, seq uint64) []byte {
			v.Seq = seq
			return wire.AppendReceipt(dst, enc, &v)
		})
		s.mu.Unlock()
	}
	return len(a.sessions) > 0
}

// expireReceipts sweeps one part of the directory.
func (h *Hub) expireReceipts(t *Turn, round int) {
	now := t.wallMS()
	sh := &h.receipts[round%shards]
	sh.mu.Lock()
	for id, w := range sh.m {
		if w.expiresMS <= now {
			delete(sh.m, id)
		}
	}
	sh.mu.Unlock()
}
