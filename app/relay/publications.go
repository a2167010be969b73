package relay

import (
	"strings"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// postPub sends a publication to the channel's home. c.mu must be held.
func (c *channel) postPub(t *Turn, p *Publication, by *caller, once *dedupEntry) {
	h := c.hub
	x := h.newCrossing(c.name)
	x.by, x.once, x.ch = *by.keep(), once, c
	v := parcel.Publish{Number: x.number, Channel: c.name, Pub: pubOf(p)}
	sealed := parcel.Append(make([]byte, 0, 128+len(p.Payload.Data)), &v)
	x.hosts = append(x.hosts, c.home)
	e := &errCrossings
	if h.file(t, x, crossTime) {
		c.out++
		if h.fleet.Post(c.home, sealed) {
			t.count.messages++
			return
		}
		node := c.home
		t.conclude(func(t *Turn) {
			h.arrived(t, x.number, node, &parcel.Outcome{Result: parcel.Failed, Err: &errNoHome})
		})
		return
	}
	h.undo(t, once, e)
	by.fail(t, *e)
}

var (
	errNoHome   = wire.Error{Code: wire.Unavailable, Message: "the node that orders this channel cannot be reached now", RetryAfterMS: 1000}
	errUnsaid   = wire.Error{Code: wire.Unavailable, Message: "the node that orders this channel did not answer in time; whether the message was published is not known"}
	errHomeLeft = wire.Error{Code: wire.Unavailable, Message: "the node that ordered this channel is gone; whether the message was published is not known"}
)

// published answers a publication that the home has accepted, or never will.
func (h *Hub) published(t *Turn, x *crossing) {
	x.ch.mu.Lock()
	x.ch.out--
	x.ch.mu.Unlock()
	if x.offset == 0 {
		e := errUnsaid
		switch x.err {
		case nil, &errUnknown:
		case &errLeft:
			e = errHomeLeft
		default:
			e = *x.err
		}
		h.undo(t, x.once, &e)
		x.by.fail(t, e)
		return
	}
	ok := wire.OK{For: wire.KindPublish, Epoch: x.epoch, Offset: x.offset}
	h.settle(t, x.once, &ok)
	x.by.ok(t, &ok)
}

// landPublish accepts a publication for another node.
func (h *Hub) landPublish(t *Turn, node string, b []byte) bool {
	var v parcel.Publish
	if !parcel.Read(b, &v) {
		return false
	}
	if v.Origin == "" {
		v.Origin = strings.Clone(node)
	}
	by := &caller{node: strings.Clone(v.Origin), id: v.Number}
	c := h.lockChannel(bytesOf(v.Channel))
	if c == nil {
		by.fail(t, errChannels)
		return true
	}
	p := publicationOf(&v.Pub)
	hops := v.Hops
	if !c.whenOpen(t, func(t *Turn) { c.acceptFor(t, p, by, hops) }) {
		by.fail(t, errOpening)
	}
	return true
}

// acceptFor accepts a publication of another node, or hands it on to the home that
// the channel has now. c.mu must be held.
func (c *channel) acceptFor(t *Turn, p Publication, by *caller, hops uint8) {
	if c.home == "" || c.astray {
		c.accept(t, p, by, nil)
		return
	}
	v := parcel.Publish{Number: by.id, Channel: c.name, Origin: by.node, Hops: hops + 1, Pub: pubOf(&p)}
	if hops >= publishHops || c.home == by.node || !c.hub.fleet.Post(c.home, parcel.Append(nil, &v)) {
		by.fail(t, errNoHome)
	}
}

// postPubs sends what a pass delivers to the other nodes with subscribers.
func (c *channel) postPubs(t *Turn, epoch string, batch []Publication) {
	t.nodes = c.hub.fleet.Interested(t.nodes[:0], c.name)
	if len(t.nodes) == 0 {
		return
	}
	for len(batch) > 0 {
		v, size, n := parcel.Pubs{Channel: c.name, Epoch: epoch, List: t.pubs[:0]}, 0, 0
		for n < len(batch) && (n == 0 || size+batch[n].size() <= pubsBytes) {
			size += batch[n].size()
			v.List = append(v.List, pubOf(&batch[n]))
			n++
		}
		sealed := parcel.Append(make([]byte, 0, size+64), &v)
		for _, node := range t.nodes {
			c.hub.fleet.Post(node, sealed) // one that cannot go is noticed by the next, or by the node's own Lost
		}
		clear(v.List)
		t.pubs = v.List[:0]
		batch = batch[n:]
	}
}
