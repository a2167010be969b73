package relay

import (
	"sync/atomic"

	"agentnet/app/wire"
)

// Reasons why a message was dropped, as counted in Stats.Dropped.
type dropReason uint8

const (
	dropQueueFull    dropReason = iota // a subscriber's queue was full; it was told by gap
	dropReplayFull                     // the receiver's session kept too much unacked; told by gap on resume
	dropSessionEnded                   // its session ended unresumed
	dropExpired                        // its ttl or deadline ended
	dropNoAsker                        // a reply came for a request that is gone
	dropNoSender                       // a receipt whose sender has no session
	dropHistoryFull                    // the Broker was too slow to store it
	dropPresence                       // a presence event met a busy queue or a loaded relay
	dropMailboxFull                    // refused by the mailbox
	dropShed                           // refused by load shedding
	dropReasons
)

var dropNames = [dropReasons]string{"queue_full", "replay_full", "session_ended", "expired", "no_asker", "no_sender",
	"history_full", "presence_shed", "mailbox_full", "shed"}

// kinds is the number of frame kinds, for arrays indexed by wire.Kind.
const kinds = int(wire.KindPong) + 1

// counters are one goroutine's share of the node's counters.
type counters struct {
	framesIn  [kinds]uint64
	bytesIn   uint64
	framesOut uint64
	bytesOut  uint64
	messages  uint64
	delivered uint64
	live      uint64 // sends answered `delivered`
	parked    uint64
	gaps      uint64
	dropped   [dropReasons]uint64
}

// totals are the node's counters.
type totals struct {
	framesIn  [kinds]atomic.Uint64
	bytesIn   atomic.Uint64
	framesOut atomic.Uint64
	bytesOut  atomic.Uint64
	messages  atomic.Uint64
	delivered atomic.Uint64
	live      atomic.Uint64
	parked    atomic.Uint64
	gaps      atomic.Uint64
	dropped   [dropReasons]atomic.Uint64

	parcelsIn   atomic.Uint64 // from other nodes
	parcelsOdd  atomic.Uint64 // of which could not be read
	parcelsLost atomic.Uint64 // on the way here

	accepted atomic.Uint64
	refused  words
	connects words
	errors   words
	closed   closes
}

// add moves c into the totals and empties it.
func (n *totals) add(c *counters) {
	for i, v := range c.framesIn {
		if v > 0 {
			n.framesIn[i].Add(v)
		}
	}
	for i, v := range c.dropped {
		if v > 0 {
			n.dropped[i].Add(v)
		}
	}
	move := func(to *atomic.Uint64, v uint64) {
		if v > 0 {
			to.Add(v)
		}
	}
	move(&n.bytesIn, c.bytesIn)
	move(&n.framesOut, c.framesOut)
	move(&n.bytesOut, c.bytesOut)
	move(&n.messages, c.messages)
	move(&n.delivered, c.delivered)
	move(&n.live, c.live)
	move(&n.parked, c.parked)
	move(&n.gaps, c.gaps)
	*c = counters{}
}
