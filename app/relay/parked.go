package relay

import (
	"slices"
	"strings"
	"sync"

	"agentnet/app/relay/mailbox"
	"agentnet/app/wire"
)

// A parkedMessage is a message in the mailbox. It leaves it when a session that
// got it acknowledges it, or when its ttl ends.
type parkedMessage struct {
	Parked
	entry   mailbox.Entry[*parkedMessage]
	only    *Session // set when it waits for this session alone; it is in memory only
	order   uint64   // of such a copy: the agent's order when it was made
	untilMS int64    // of such a copy: until when it may be parked should the session end
	mu      sync.Mutex
	holders []*Session // sessions that have it in their replay
	had     []*Session // sessions that got it on another way, at another node
	wanted  []*Session // sessions that it waits for; a new one takes it too
	handed  bool       // some session was given it
	read    bool       // one acknowledged it: only those that it waits for get it
	away    bool       // it is on its way to another node, which parks it there
	gone    bool       // removed from the mailbox
	expired bool       // because its ttl ended
}

// letter is the message as delivery wants it.
func (p *parkedMessage) letter() letter {
	return letter{from: p.From, class: p.Class, payload: p.Payload, headers: p.Headers, receipts: p.Receipts, id: p.MessageID, timeMS: p.TimeMS}
}

// take notes that s, which has a socket, is given the message. ok is false when it
// has it already or must not; first says that no session was given it before.
func (p *parkedMessage) take(s *Session) (first, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.only != nil && p.only != s || slices.Contains(p.holders, s) || slices.Contains(p.had, s) || p.read && !slices.Contains(p.wanted, s) {
		return false, false
	}
	p.holders, p.wanted = append(p.holders, s), without(p.wanted, s)
	first = !p.handed
	p.handed = true
	return first, true
}

// want notes that the message waits for s, which was there when it came.
func (p *parkedMessage) want(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone && p.only == nil && !slices.Contains(p.wanted, s) && !slices.Contains(p.holders, s) && !slices.Contains(p.had, s) {
		p.wanted = append(p.wanted, s)
	}
}

// without is list without s, in memory of its own.
func without(list []*Session, s *Session) []*Session {
	if !slices.Contains(list, s) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(o *Session) bool { return o == s })
}

// hold notes that s keeps the message until it has a socket again. It answers
// false when there is no message to keep any more.
func (p *parkedMessage) hold(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.only != nil && p.only != s {
		return false
	}
	p.holders = append(p.holders, s)
	return true
}

// heldBy says whether s keeps the message in its replay.
func (p *parkedMessage) heldBy(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.holders, s)
}

// miss takes back that s has had the message; false when it is not there any more.
func (p *parkedMessage) miss(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.had = without(p.had, s)
	return !p.gone
}

// pass notes that s has had the message on another way.
func (p *parkedMessage) pass(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.had, p.wanted = append(slices.Clip(p.had), s), without(p.wanted, s)
}

// passed says whether s has had the message on another way.
func (p *parkedMessage) passed(s *Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.had, s)
}

// travel notes that the message is on its way to another node, or that it did not get
// there.
func (p *parkedMessage) travel(away bool) { p.mu.Lock(); p.away = away; p.mu.Unlock() }

// travels says whether the message is on its way to another node.
func (p *parkedMessage) travels() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.away }

// mayTravel says whether the message may go to another node: it is not on its way, and
// nobody has read it.
func (p *parkedMessage) mayTravel() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.away && !p.read }

// untold notes that the sender is to be told of the first delivery.
func (p *parkedMessage) untold() { p.mu.Lock(); p.handed = false; p.mu.Unlock() }

// wasRead says whether a session has acknowledged the message.
func (p *parkedMessage) wasRead() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.read }

// release notes that s, which ended, has the message no longer. lost says that it
// had outlived its ttl and was never given to anybody.
func (p *parkedMessage) release(s *Session) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holders = slices.DeleteFunc(p.holders, func(o *Session) bool { return o == s })
	return p.expired && !p.handed && len(p.holders) == 0
}

// drop says that the message is not to be kept; false when somebody has it.
func (p *parkedMessage) drop() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handed || len(p.holders) > 0 {
		return false
	}
	p.gone = true
	return true
}

// handOut notes that a session was given the message by a replay, and says whether
// it is the first.
func (p *parkedMessage) handOut() (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = !p.handed
	p.handed = true
	return first
}

func newParked(m *letter, to string, expiresMS int64) *parkedMessage {
	data := append([]byte(nil), m.payload.Data...)
	if m.shared { // with a parcel that must not be kept for one message
		m.from = strings.Clone(m.from)
		m.headers = slices.Clone(m.headers)
		for i := range m.headers {
			m.headers[i] = wire.Header{Name: strings.Clone(m.headers[i].Name), Value: strings.Clone(m.headers[i].Value)}
		}
	}
	p := &parkedMessage{Parked: Parked{MessageID: strings.Clone(m.id), From: m.from, To: to, TimeMS: m.timeMS, ExpiresMS: expiresMS,
		Class: m.class, Receipts: m.receipts, Headers: slices.Clone(m.headers), Payload: wire.Payload{Data: data, Binary: m.payload.Binary}}}
	p.file()
	return p
}

// file makes the entry by which the mailbox knows the message.
func (p *parkedMessage) file() {
	size := len(p.Payload.Data) + len(p.From) + len(p.To)
	for _, h := range p.Headers {
		size += len(h.Name) + len(h.Value)
	}
	p.entry = mailbox.Entry[*parkedMessage]{MessageID: p.MessageID, Order: p.MessageID, To: p.To, Class: p.Class, Bytes: size, ExpiresMS: p.ExpiresMS, Value: p}
}
