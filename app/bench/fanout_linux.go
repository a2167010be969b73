package bench

import (
	"fmt"
	"time"
)

const (
	// stallAfter is how long a sender without a rate waits for what it has under
	// way before it takes that for lost and goes on.
	stallAfter = time.Second
	// batchBytes bounds the commands that go out in one message.
	batchBytes = 16 << 10
	// firstID is the id of the first command of the load; those below are used
	// while connecting.
	firstID = 1000
)

// A fanout is publishers and the subscribers of their channels. Publisher i
// writes to channel i modulo the number of channels.
type fanout struct {
	tally
	opts      *Options
	dialect   Dialect
	payload   []byte
	first     int // number of this worker's first subscriber
	subs      int // how many subscribers this worker has
	slow      int
	lead      bool // this worker has the publishers
	published []uint32
	tracks    []track // by subscriber of this worker, then publisher
	live      []int   // subscribers of this worker by channel that are connected
	pubs      []*conn

	running   bool
	pace      pace
	next      int    // publisher that is next
	expected  uint64 // deliveries that the publications so far should cause here
	forgiven  uint64 // of them, those that are no longer waited for
	commandID uint64
}

func newFanout(o *Options, d Dialect, worker, workers int) (*fanout, error) {
	payload, err := newPayload(o.Size)
	if err != nil {
		return nil, err
	}
	f := &fanout{
		tally: tally{name: "fanout"}, opts: o, dialect: d, payload: payload, lead: worker == 0,
		published: make([]uint32, o.Publishers), live: make([]int, o.Channels), commandID: firstID,
	}
	from, to := share(o.Connections, worker, workers)
	f.first, f.subs = from, to-from
	slowFrom, slowTo := share(o.SlowReaders, worker, workers)
	f.slow = slowTo - slowFrom
	f.tracks = make([]track, f.subs*o.Publishers)
	return f, nil
}

// channel is the name of channel number i.
func (f *fanout) channel(i int) string { return fmt.Sprintf("bench/%s/fan/%d", f.opts.Run, i) }

// plans numbers subscribers from 0, publishers from subs, slow readers after them.
func (f *fanout) plans() []plan {
	var ps []plan
	for i := range f.subs {
		ps = append(ps, plan{owner: f, index: i, agent: agentName(f.opts.Run, "sub", f.first+i), node: f.opts.nodeOf(f.first + i),
			channels: []string{f.channel((f.first + i) % f.opts.Channels)}})
	}
	if f.lead {
		f.pubs = make([]*conn, f.opts.Publishers)
		for i := range f.opts.Publishers {
			ps = append(ps, plan{owner: f, index: f.subs + i, agent: agentName(f.opts.Run, "pub", i), node: f.opts.nodeOf(i)})
		}
	}
	for i := range f.slow {
		ps = append(ps, plan{owner: f, index: f.subs + f.opts.Publishers + i, deaf: true,
			agent: agentName(f.opts.Run, "deaf", f.first+i), node: f.opts.nodeOf(f.first + i), channels: []string{f.channel(i % f.opts.Channels)}})
	}
	return ps
}

func (f *fanout) joined(c *conn) {
	switch {
	case c.index < f.subs:
		f.live[f.channelOf(c.index)]++
	case c.index < f.subs+f.opts.Publishers:
		f.pubs[c.index-f.subs] = c
	}
}

// left forgets a publisher until it returns. What a subscriber should get meanwhile is
// still waited for: its session is kept.
func (f *fanout) left(c *conn) {
	if at := c.index - f.subs; at >= 0 && at < len(f.pubs) {
		f.pubs[at] = nil
	}
}

func (f *fanout) returned(c *conn) {
	if at := c.index - f.subs; at >= 0 && at < len(f.pubs) {
		f.pubs[at] = c
	}
}

// channelOf is the channel of this worker's subscriber i.
func (f *fanout) channelOf(i int) int { return (f.first + i) % f.opts.Channels }

func (f *fanout) start(now int64) {
	f.running, f.pace, f.lastCame = f.lead, newPace(f.opts.Rate, now), now
}

func (f *fanout) stop() { f.running = false }

func (f *fanout) frame(c *conn, fr *Frame) {
	if fr.Kind != FrameDelivery {
		f.other(fr)
		return
	}
	s, ok := readStamp(fr.Data)
	if !ok || c.index >= f.subs || int(s.sender) >= f.opts.Publishers || int(s.sender)%f.opts.Channels != f.channelOf(c.index) {
		f.counts.Strange++
		return
	}
	f.arrived(s.due, c.loop.readAt)
	f.tracks[c.index*f.opts.Publishers+int(s.sender)].accept(s.seq, &f.counts)
}

// broken forgets a connection; of what is under way its share will not come.
func (f *fanout) broken(c *conn, err error) {
	f.tally.broken(c, err)
	switch {
	case c.index < f.subs:
		at := f.channelOf(c.index)
		if subs := f.subscribers(); subs > 0 {
			f.forgiven += f.waiting() / uint64(subs)
		}
		f.live[at]--
	case c.index < f.subs+f.opts.Publishers:
		f.pubs[c.index-f.subs] = nil
	}
}

// subscribers is how many of this worker's subscribers are connected.
func (f *fanout) subscribers() (n int) {
	for _, live := range f.live {
		n += live
	}
	return n
}

// waiting is how many deliveries are still to come to this worker.
func (f *fanout) waiting() uint64 {
	if done := f.counts.Delivered + f.forgiven; done < f.expected {
		return f.expected - done
	}
	return 0
}

func (f *fanout) tick(now int64) (next int64) {
	if !f.running {
		return never
	}
	if f.opts.Rate > 0 {
		for f.pace.due() <= now {
			f.publish(f.pace.due())
			f.pace.take()
		}
		f.flush()
		return f.pace.due()
	}
	perMessage := uint64(max(f.subscribers()/f.opts.Channels, 1))
	for f.waiting()+perMessage <= uint64(f.opts.Window)*perMessage && f.subscribers() > 0 && f.publish(now) {
	}
	f.flush()
	if now-f.lastCame > int64(stallAfter) && f.waiting() > 0 {
		f.counts.Stalls++
		f.forgiven += f.waiting()
		f.lastCame = now
	}
	return now + int64(longestWait)
}

// publish puts one message on the way of the publisher whose turn it is. It
// answers false when no publisher is connected.
func (f *fanout) publish(due int64) bool {
	i, c := f.next, f.pubs[f.next]
	for tried := 1; c == nil; tried++ {
		if tried > len(f.pubs) {
			return false
		}
		i = (i + 1) % len(f.pubs)
		c = f.pubs[i]
	}
	f.next = (i + 1) % len(f.pubs)
	channel := i % f.opts.Channels
	f.expected += uint64(f.live[channel])
	stamp{due: due, sender: uint32(i), seq: f.published[i]}.put(f.payload)
	f.published[i]++
	f.counts.Sent++
	var id uint64
	if f.opts.Answers {
		f.commandID++
		id = f.commandID
		c.asked++
	}
	if len(c.cmd)+len(f.payload) > batchBytes {
		c.flush()
	}
	c.cmd = f.dialect.AppendPublish(c.cmd, id, f.channel(channel), f.payload)
	return true
}

func (f *fanout) flush() {
	for _, c := range f.pubs {
		if c != nil {
			c.flush()
		}
	}
}

// missing does not count as come what a stall was forgiven for: it may be late.
func (f *fanout) missing() (n uint64, known bool) {
	return untilNow(f.expected, f.counts.Delivered), f.lead && f.opts.Processes == 1
}

func (f *fanout) sent() map[uint32]uint32 {
	if !f.lead {
		return nil
	}
	sent := make(map[uint32]uint32, len(f.published))
	for i, n := range f.published {
		sent[uint32(i)] = n
	}
	return sent
}

func (f *fanout) finish(sent map[uint32]uint32) {
	for sub := range f.subs {
		for pub := range f.opts.Publishers {
			if pub%f.opts.Channels == f.channelOf(sub) {
				f.tracks[sub*f.opts.Publishers+pub].finish(sent[uint32(pub)], &f.counts)
			}
		}
	}
}
