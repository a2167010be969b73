package relay

import (
	"time"

	"agentnet/app/wire"
)

// Stats is one reading of all counters and gauges of a node. Counters only grow
// while the process lives.
type Stats struct {
	Node, Region string
	Started      time.Time
	Now          time.Time

	// Gauges.
	Connections   int // sockets, with those not yet authenticated
	Sessions      int // sessions, with those whose socket is gone and that can resume
	Resumable     int // of these, those whose socket is gone
	Agents        int // agents with at least one connected session
	Channels      int
	Subscriptions int
	Requests      int   // waiting for a reply
	QueueFrames   int64 // waiting in all sessions' queues
	QueueBytes    int64 // and their bytes
	MailboxCount  int64
	MailboxBytes  int64
	Level         string // overload level: normal, elevated, degraded, critical
	Draining      bool

	// Counters.
	Accepted     uint64                    // connections
	Refused      map[string]uint64         // connections refused before the upgrade, by reason
	Connects     map[string]uint64         // connect frames by result: opened, resumed, and the error codes
	Closed       map[wire.CloseCode]uint64 // by the close code that we sent; 0: the peer or the network ended it
	FramesIn     map[wire.Kind]uint64
	BytesIn      uint64
	FramesOut    uint64
	BytesOut     uint64
	MessagesIn   uint64                  // accepted send, request, reply, publish
	DeliveredOut uint64                  // messages, requests and replies handed to sessions
	Outcomes     map[wire.Outcome]uint64 // of sends
	Errors       map[wire.Code]uint64    // refused commands
	Dropped      map[string]uint64       // messages dropped, by reason
	Gaps         uint64

	// Of other nodes; all 0 on a lone node. ParcelsOdd could not be read, ParcelsLost
	// were lost on the way here, Moving are sessions that are being handed over.
	Parcels, ParcelsOdd, ParcelsLost uint64
	Moving                           int

	// Delivery is the time from the arrival of a message to its writing to a
	// local receiver; Reply from a request to its first reply.
	Delivery, Reply Histogram
}

// A Histogram counts durations in buckets whose bounds grow by the factor
// 2^(1/4): bucket i holds durations up to Bound(i). It can be added to another
// bucket by bucket.
type Histogram struct {
	Counts [HistogramBuckets]uint64
	Sum    time.Duration
}
