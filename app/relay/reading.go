package relay

import (
	"time"

	"agentnet/app/wire"
)

// Stats reads all counters and gauges. It costs little and may be called often.
func (h *Hub) Stats() Stats {
	n := &h.totals
	st := Stats{
		Node: h.cfg.Node, Region: h.cfg.Region, Started: h.started, Now: time.Now(),
		Connections: int(h.links.n.Load()), Sessions: int(h.sessionN.Load()), Resumable: int(h.resumableN.Load()),
		Agents: int(h.onlineN.Load()), Channels: int(h.channelN.Load()), Subscriptions: int(h.subscriptionN.Load()),
		Requests: int(h.requestN.Load()), QueueFrames: h.load.queueFrames.Load(), QueueBytes: h.load.queueBytes.Load(),
		MailboxCount: int64(h.mail.Count()), MailboxBytes: h.mail.Bytes(),
		Level: h.overload().String(), Draining: h.draining.Load(),
		Accepted: n.accepted.Load(), Refused: n.refused.read(), Connects: n.connects.read(), Closed: n.closed.read(), Errors: n.errors.words(),
		FramesIn: make(map[wire.Kind]uint64), BytesIn: n.bytesIn.Load(), FramesOut: n.framesOut.Load(), BytesOut: n.bytesOut.Load(),
		MessagesIn: n.messages.Load(), DeliveredOut: n.delivered.Load(),
		Outcomes: map[wire.Outcome]uint64{wire.Delivered: n.live.Load(), wire.Parked: n.parked.Load()},
		Dropped:  make(map[string]uint64), Gaps: n.gaps.Load(),
		Parcels: n.parcelsIn.Load(), ParcelsOdd: n.parcelsOdd.Load(), ParcelsLost: n.parcelsLost.Load(), Moving: h.movingN(),
		Delivery: h.delivery.read(), Reply: h.reply.read(),
	}
	for k := range n.framesIn {
		if v := n.framesIn[k].Load(); v > 0 {
			st.FramesIn[wire.Kind(k)] = v
		}
	}
	for r := range n.dropped {
		st.Dropped[dropNames[r]] = n.dropped[r].Load()
	}
	return st
}

// words reads the counts by error code.
func (w *words) words() map[wire.Code]uint64 {
	out := make(map[wire.Code]uint64)
	for k, v := range w.read() {
		out[wire.Code(k)] = v
	}
	return out
}
