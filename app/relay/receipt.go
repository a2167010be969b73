package relay

import (
	"strings"
	"sync"
	"time"

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
}

// expectReceipt notes that m's sender wants receipts.
func (h *Hub) expectReceipt(m *letter) {
	h.await(strings.Clone(m.id), m.from, string(m.to), m.timeMS+max(m.ttl, receiptTime).Milliseconds())
}

func (h *Hub) await(id, from, to string, expiresMS int64) {
	sh := &h.receipts[h.shardOf(id)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.m) >= receiptsPerShard {
		for old := range sh.m { // any: the map is at its bound
			delete(sh.m, old)
			break
		}
	}
	sh.m[id] = &receiptWait{from: from, to: to, expiresMS: expiresMS}
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
	sh := &s.hub.receipts[s.hub.shardOfBytes(c.MessageID)]
	sh.mu.Lock()
	w := sh.m[string(c.MessageID)]
	mine := w != nil && w.to == s.agent.name
	if mine && (c.State == wire.ReceiptDone || c.State == wire.ReceiptRefused) {
		delete(sh.m, string(c.MessageID))
	}
	sh.mu.Unlock()
	if !mine {
		l.fail(t, c.ID, "", wire.Error{Code: wire.NotFound, Message: "receipt: nobody waits for a receipt of that message from this agent"})
		return
	}
	s.hub.tellSender(t, w.from, &wire.Receipt{MessageID: string(c.MessageID), From: s.agent.name, State: c.State, Note: string(c.Note), TimeMS: t.wallMS()})
}

// tellSender delivers a receipt to all sessions of the agent that sent the
// message. No lock may be held.
func (h *Hub) tellSender(t *Turn, to string, r *wire.Receipt) {
	a := h.agent([]byte(to))
	if a == nil {
		t.count.dropped[dropNoSender]++
		return
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
