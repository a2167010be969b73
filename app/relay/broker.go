package relay

import (
	"context"
	"time"

	"agentnet/app/wire"
)

// A Broker holds what outlives a channel's recent window and what nodes share:
// the embedded store on one node, a real Redis on many. It is never on the path
// of local delivery: the relay calls it from goroutines of its own, within ctx.
type Broker interface {
	// Open returns where the history of a channel stands, creating it with
	// newEpoch when there is none or when what is stored is not known to be whole
	// (after a crash between snapshots).
	Open(ctx context.Context, channel, newEpoch string) (Position, error)
	// Append stores publications of one channel in order. What is older than keep
	// (count and age) is trimmed. A second Append of an offset is ignored.
	Append(ctx context.Context, channel string, epoch string, keep Keep, pubs []Publication) error
	// Read returns up to limit publications after offset, in order. ok is false
	// when the epoch is another or the first wanted one is gone already.
	Read(ctx context.Context, channel, epoch string, after uint64, limit int) (pubs []Publication, ok bool, err error)
	// Forget drops what is stored of a channel, because publications of it were
	// lost on the way: the next Open begins a new epoch.
	Forget(ctx context.Context, channel string) error
	// Announce tells which agents came to and left node since the last call. What a
	// node announced is forgotten ttl after its last call (which may be empty).
	Announce(ctx context.Context, node string, came, left []string, ttl time.Duration) error
	// Hosts returns the nodes that announced agent and still live.
	Hosts(ctx context.Context, agent string) ([]string, error)
	// Count adds delta to a counter that all nodes share and returns the sum. The
	// counter is forgotten ttl after it was first added to.
	Count(ctx context.Context, name string, delta int64, ttl time.Duration) (int64, error)
	// Close waits for what was accepted, within a few seconds.
	Close() error
}

// Position is the end of a channel's history: the offset of the last publication.
type Position struct {
	Epoch  string
	Offset uint64
}

// Keep says how much history of a channel is stored.
type Keep struct {
	Count int
	Age   time.Duration
}

// A Publication is one message of a channel.
type Publication struct {
	Offset    uint64
	MessageID string
	From      string
	TimeMS    int64
	Class     wire.Class
	Headers   []wire.Header
	Payload   wire.Payload
}
