package relay

import (
	"strings"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// landSync tells a follower where a channel stands.
func (h *Hub) landSync(t *Turn, node string, b []byte) bool {
	var v parcel.Sync
	if !parcel.Read(b, &v) {
		return false
	}
	c := h.lockChannel(bytesOf(v.Channel))
	if c == nil {
		return true
	}
	v.Channel, v.Epoch = c.name, strings.Clone(v.Epoch)
	node = strings.Clone(node)
	c.whenOpen(t, func(t *Turn) { c.tellState(node, &v) })
	return true
}

// tellState posts what a follower misses of the window. c.mu must be held.
func (c *channel) tellState(node string, v *parcel.Sync) {
	if c.home != "" || c.astray {
		c.hub.fleet.Post(node, parcel.Append(nil, &parcel.State{Number: v.Number, Channel: c.name, NotHome: true}))
		return
	}
	after := c.window.First() - 1
	if v.Epoch == c.epoch && v.After <= c.window.Last() {
		after = max(after, v.After)
	}
	c.postState(node, v.Number, after, false)
}

// postState posts the window's publications after an offset, and where the channel
// stands. c.mu must be held.
func (c *channel) postState(node string, number, after uint64, heir bool) bool {
	st := parcel.State{Number: number, Channel: c.name, Epoch: c.epoch, Last: c.window.Last(), Heir: heir, Holed: c.holed, LastMS: c.lastMS}
	if heir {
		st.Saved = c.window.Last() - uint64(len(c.unsaved))
	}
	size := 0
	for _, p := range c.window.After(after) {
		if size += p.size(); size > pubsBytes && len(st.List) > 0 {
			st.More = true
			if !c.hub.fleet.Post(node, parcel.Append(nil, &st)) {
				return false
			}
			st.List, size = nil, p.size()
		}
		st.List = append(st.List, pubOf(&p))
	}
	st.More = false
	return c.hub.fleet.Post(node, parcel.Append(nil, &st))
}

func pubOf(p *Publication) parcel.Pub {
	return parcel.Pub{Offset: p.Offset, ID: p.MessageID, From: p.From, TimeMS: p.TimeMS, Class: p.Class, Headers: p.Headers, Payload: p.Payload}
}

// publicationOf copies a publication out of a parcel, which is not kept for it.
func publicationOf(v *parcel.Pub) Publication {
	p := Publication{Offset: v.Offset, TimeMS: v.TimeMS, Class: min(v.Class, wire.Low)}
	buf := make([]byte, 0, len(v.ID)+len(v.From)+len(v.Payload.Data))
	buf = append(append(append(buf, v.ID...), v.From...), v.Payload.Data...)
	id, from := len(v.ID), len(v.ID)+len(v.From)
	p.MessageID, p.From = ownString(buf[:id:id]), ownString(buf[id:from:from])
	if v.Payload.Data != nil {
		p.Payload.Data = buf[from:]
	}
	p.Payload.Binary = v.Payload.Binary
	for _, o := range v.Headers {
		p.Headers = append(p.Headers, wire.Header{Name: strings.Clone(o.Name), Value: strings.Clone(o.Value)})
	}
	return p
}

// landState goes on with a channel whose home has answered, or made this node its
// heir.
func (h *Hub) landState(t *Turn, node string, b []byte) bool {
	var v parcel.State
	if !parcel.Read(b, &v) {
		return false
	}
	c := h.lockChannel(bytesOf(v.Channel))
	if c == nil {
		return true
	}
	defer c.mu.Unlock()
	if !v.Heir && (c.asked == 0 || c.asked != v.Number) {
		return true // nobody waits for it any more
	}
	if v.NotHome {
		c.asked = 0
		c.reply(false)
		return true
	}
	c.takeState(t, &v)
	if v.More {
		return true
	}
	c.holed, c.lastMS = v.Holed, max(c.lastMS, v.LastMS)
	answer := c.answer
	if v.Heir {
		c.footAs("")
		c.oweUnsaved(t, v.Saved)
	} else {
		c.footAs(strings.Clone(node))
	}
	c.runDeferred(t)
	if answer != nil {
		answer <- true
	}
	return true
}

// reply tells the goroutine that looks for the home how it went. c.mu must be held.
func (c *channel) reply(ok bool) {
	if c.answer != nil {
		select {
		case c.answer <- ok:
		default:
		}
	}
}

// oweUnsaved queues for the Broker what the former home had not stored. c.mu must be
// held.
func (c *channel) oweUnsaved(t *Turn, saved uint64) {
	if c.rule.Keep.Count == 0 || c.hub.cfg.Broker == nil {
		return
	}
	for _, p := range c.after(saved, 0) {
		c.save(t, p)
	}
}

// takeState brings the window to where the home's is. c.mu must be held.
func (c *channel) takeState(t *Turn, v *parcel.State) {
	first := v.Last + 1
	if len(v.List) > 0 {
		first = v.List[0].Offset
	}
	switch {
	case c.epoch != v.Epoch && !c.settled:
		c.epoch = strings.Clone(v.Epoch)
		c.window.Reset(first - 1)
	case c.epoch != v.Epoch:
		at := max(first-1, min(c.lived(v.Epoch), v.Last))
		c.skipTo(t, strings.Clone(v.Epoch), at)
		c.window.Reset(first - 1)
		c.heard = at
	case first > c.window.Last()+1:
		c.skipTo(t, c.epoch, first-1)
	}
	c.settled = true
	for i := range v.List {
		c.takePub(t, &v.List[i])
	}
}
