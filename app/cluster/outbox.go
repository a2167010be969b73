package cluster

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// batchBytes is how much one PUBLISH carries when more is waiting.
	batchBytes = 256 << 10
	// outBytes and outRecords bound what waits for one node. Records of this
	// package may take as much again, so that a full queue does not break routing.
	outBytes   = 16 << 20
	outRecords = 1 << 18
	// flights is how many batches for one node are on their way to Redis at once.
	flights = 2
	// overtakes is how many batches may be taken while an earlier one is still on
	// its way. The receiver holds them until that one comes.
	overtakes = 8
	// window bounds what a node was sent and has not taken: Redis cuts a subscriber
	// off that lets 32 MiB wait, or 8 MiB for a minute.
	window = 8 << 20
	// ackEvery is after how many bytes the receiver says what it took, when nothing
	// else goes back.
	ackEvery = 1 << 20
	// retryFirst and retryMost bound the wait before a batch is sent again.
	retryFirst = 10 * time.Millisecond
	retryMost  = 250 * time.Millisecond
)

// A Reason says why a parcel did not go, or a batch was not taken.
type Reason string

// The reasons.
const (
	ReasonUnknown  Reason = "unknown_node" // no such member, or it does not route yet
	ReasonFull     Reason = "queue_full"   // too much waits for that node
	ReasonCut      Reason = "cut"          // the way there is cut
	ReasonTooLarge Reason = "too_large"    // above 8 MiB
	ReasonLeft     Reason = "left"         // the node went while it waited
	ReasonBehind   Reason = "inbox_full"   // this node's own handlers are too slow
	ReasonStale    Reason = "stale"        // for another life of this node, or from one
	ReasonStranger Reason = "stranger"     // from a node that does not route yet
	ReasonBad      Reason = "malformed"
	ReasonUnheard  Reason = "no_handler"
)

// reasons lists them all, for counters.
var reasons = [...]Reason{ReasonUnknown, ReasonFull, ReasonCut, ReasonTooLarge, ReasonLeft, ReasonBehind, ReasonStale, ReasonStranger, ReasonBad, ReasonUnheard}

// A tally counts by reason.
type tally [len(reasons)]atomic.Uint64

func (t *tally) add(r Reason, n uint64) {
	for i := range reasons {
		if reasons[i] == r {
			t[i].Add(n)
			return
		}
	}
}

func (t *tally) read() map[Reason]uint64 {
	out := make(map[Reason]uint64, len(reasons))
	for i := range reasons {
		out[reasons[i]] = t[i].Load()
	}
	return out
}

// A flight is a batch that a sender took and Redis has not taken yet.
type flight struct {
	first     uint64 // number of its first record
	overtaken int    // by so many batches that were taken after it
	again     bool   // it has to be published again
}

// An outbox is what waits for one node, already in the form in which it goes.
// Parcels are copied into the batch that is being filled; whoever finds nothing
// under way sends it at once, and what comes meanwhile goes together.
type outbox struct {
	wake chan struct{} // one for each sender that sleeps
	free sync.Pool     // of *[]byte, used batches

	mu      sync.Mutex
	open    bool
	link    *link  // where the node is
	gen     uint32 // grows when it is opened; batches of an older one are dropped
	header  []byte
	next    uint64 // number of the next record
	filling []byte // header and records; empty when there are none
	count   uint32 // records in filling
	waiting [][]byte
	bytes   int
	records int
	asleep  int // senders
	under   []flight
	sent    uint64 // bytes that were handed to senders
	acked   uint64 // of these, taken by the node
	taken   uint64 // of its stream by us, for the header
}

// reset opens the outbox for a new stream with this header over this link, or closes
// it when those are nil. What waits is dropped; it returns how many records that were.
func (o *outbox) reset(to *link, header []byte) (dropped int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	dropped = o.records
	o.gen++
	o.open, o.link, o.header, o.next = header != nil, to, header, 1
	o.filling, o.count, o.waiting, o.bytes, o.records = nil, 0, nil, 0, 0
	o.sent, o.acked, o.taken = 0, 0, 0
	o.under = o.under[:0]
	return dropped
}

// push adds one record, or says why it cannot. It does not keep parcel.
func (o *outbox) push(t Topic, parcel []byte) (refused Reason) {
	limit := 1
	if t >= topicHello {
		limit = 2
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.open:
		return ReasonUnknown
	case t < topicHello && o.link.breaker.tripped.Load():
		return ReasonCut
	case len(parcel) > maxParcel:
		return ReasonTooLarge
	case o.bytes+len(parcel) > limit*outBytes || o.records >= limit*outRecords:
		return ReasonFull
	}
	if len(o.filling) > 0 && len(o.filling)+len(parcel) > batchBytes {
		o.closeBatch()
	}
	if len(o.filling) == 0 {
		o.beginBatch()
	}
	before := len(o.filling)
	o.filling = appendRecord(o.filling, t, parcel)
	o.bytes += len(o.filling) - before
	o.count++
	o.records++
	o.next++
	o.rouse()
	return ""
}

func (o *outbox) beginBatch() {
	if b, _ := o.free.Get().(*[]byte); b != nil {
		o.filling = (*b)[:0]
	}
	o.filling = append(o.filling, o.header...)
	binary.LittleEndian.PutUint64(o.filling[atNumber:], o.next)
	o.bytes += len(o.header)
}

func (o *outbox) closeBatch() {
	binary.LittleEndian.PutUint32(o.filling[atCount:], o.count)
	o.waiting = append(o.waiting, o.filling)
	o.filling, o.count = nil, 0
}

// rouse wakes a sender that sleeps. o.mu must be held.
func (o *outbox) rouse() {
	if o.asleep > 0 && o.clear() {
		o.asleep--
		o.wake <- struct{}{} // has room for all of them
	}
}

// take returns the next batch and where it goes. Without one (nil) the caller counts as asleep and has to
// wait for wake.
func (o *outbox) take() (b []byte, to *link, gen uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 && len(o.filling) > 0 {
		o.closeBatch()
	}
	if len(o.waiting) == 0 || !o.clear() {
		o.asleep++
		return nil, nil, 0
	}
	b = o.waiting[0]
	o.waiting[0] = nil
	o.waiting = o.waiting[1:]
	o.records -= int(binary.LittleEndian.Uint32(b[atCount:]))
	o.bytes -= len(b)
	binary.LittleEndian.PutUint64(b[atSent:], o.sent)
	binary.LittleEndian.PutUint64(b[atAck:], o.taken)
	o.sent += uint64(len(b))
	for i := range o.under {
		o.under[i].overtaken++
	}
	o.under = append(o.under, flight{first: firstOf(b)})
	binary.LittleEndian.PutUint64(b[atOldest:], o.under[0].first)
	return b, o.link, o.gen
}

func firstOf(b []byte) uint64 { return binary.LittleEndian.Uint64(b[atNumber:]) }

// clear reports whether a batch may be taken: the node keeps up, and no earlier batch
// is left too far behind. While one is sent again nothing goes at all, because what
// overtakes it only waits at the receiver. o.mu must be held.
func (o *outbox) clear() bool {
	for i := range o.under {
		if o.under[i].again || o.under[i].overtaken >= overtakes {
			return false
		}
	}
	return o.sent-o.acked < window
}

// again notes that a batch of gen has to be published again. It reports false when
// nobody wants it any more.
func (o *outbox) again(b []byte, gen uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open || o.gen != gen {
		return false
	}
	for i := range o.under {
		if o.under[i].first == firstOf(b) {
			o.under[i].again = true
		}
	}
	return true
}

// landed notes that Redis has taken a batch of gen.
func (o *outbox) landed(b []byte, gen uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gen != gen {
		return
	}
	was := o.clear()
	o.under = slices.DeleteFunc(o.under, func(f flight) bool { return f.first == firstOf(b) })
	if !was && (len(o.waiting) > 0 || len(o.filling) > 0) {
		o.rouse()
	}
}

// ready reports whether take would return a batch.
func (o *outbox) ready() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return (len(o.waiting) > 0 || len(o.filling) > 0) && o.clear()
}

// ack notes what the node says that it took.
func (o *outbox) ack(bytes uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if bytes > o.acked && bytes <= o.sent {
		o.acked = bytes
		if len(o.waiting) > 0 || len(o.filling) > 0 {
			o.rouse()
		}
	}
}

// took notes how much of the node's stream was taken, which the next batch says.
func (o *outbox) took(bytes uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken = bytes
}

// recycle takes a batch back that nobody reads any more.
func (o *outbox) recycle(b []byte) {
	if cap(b) <= 2*batchBytes {
		o.free.Put(&b)
	}
}

// busy reports whether something waits or is under way.
func (o *outbox) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open && (o.records > 0 || o.asleep < flights)
}

// backlog is what waits.
func (o *outbox) backlog() (records, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.records, o.bytes
}

// send is one of the senders of a peer.
func (p *peer) send(ctx context.Context) {
	for {
		if p.out.ready() {
			p.node.tide.wait(ctx) // what comes meanwhile goes along
		}
		if b, to, gen := p.out.take(); b != nil {
			p.node.tide.spend()
			p.carry(ctx, to, b, gen)
			continue
		}
		select {
		case <-p.out.wake:
		case <-ctx.Done():
			return
		}
	}
}

// carry publishes one batch, again and again until it was, or nobody wants it any
// more. The receiver tells copies apart by their number.
func (p *peer) carry(ctx context.Context, to *link, b []byte, gen uint32) {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		receivers, err := to.publish(ctx, p.channel, b)
		if err == nil && receivers != 0 {
			p.node.count.batchesOut.Add(1)
			p.node.count.bytesOut.Add(uint64(len(b)))
			p.out.landed(b, gen)
			p.out.recycle(b)
			return
		}
		if !p.out.again(b, gen) {
			p.node.count.refused.add(ReasonLeft, uint64(binary.LittleEndian.Uint32(b[atCount:])))
			return
		}
		p.node.count.retries.Add(1)
		if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
			return
		}
	}
}

// sleep waits for d, or reports false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
