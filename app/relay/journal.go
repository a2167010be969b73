package relay

import "agentnet/app/wire"

// A Parked message waits for an agent that is away. It is all that the Journal
// keeps, and all of it is needed to deliver after a restart.
type Parked struct {
	MessageID string // ULID, unique
	From, To  string
	TimeMS    int64 // accepted, wall clock
	ExpiresMS int64 // wall clock
	Class     wire.Class
	Receipts  bool
	Headers   []wire.Header
	Payload   wire.Payload
}

// A Journal keeps parked messages over a crash and a power cut. Its methods may
// be called concurrently and none waits for the disk, except Load and Close.
type Journal interface {
	// Put stores p. done is called once, from another goroutine, when p is on
	// stable storage (fsync) or cannot be: many Puts share one fsync. The Journal
	// is bounded: when it is full or cannot keep up, done gets an error.
	Put(p *Parked, done func(error))
	// Delete forgets a message that was delivered or has expired. A crash may
	// undo it; the message is then delivered again.
	Delete(messageID string)
	// Load calls fn for all messages that were stored and not deleted, in the
	// order of Put. It is called once, before the first Put.
	Load(fn func(*Parked) error) error
	Close() error
}
