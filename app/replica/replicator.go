package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A Bus carries parcels between the nodes. It may lose, double and delay them.
// No method waits.
type Bus interface {
	// Post sends a parcel to one node; false when it cannot go.
	Post(node string, parcel []byte) bool
	// Broadcast sends a parcel to all other nodes and returns to how many.
	Broadcast(parcel []byte) int
	// Peers returns the names of the other nodes that are there.
	Peers() []string
}

// A Stream is a ledger under the name that all nodes know it by.
type Stream struct {
	Name   string
	Ledger Ledger
}

// Config says what is replicated over what. Zero values are the defaults.
type Config struct {
	Bus     Bus
	Streams []Stream
	Logger  *slog.Logger // nil discards

	Beat        time.Duration // how often heads are compared; 0 is 1 s
	PatienceFor time.Duration // how long an answer may take before another node is asked; 0 is 1 s
	BatchBytes  int           // entries in one parcel; 0 is 48 KiB
	AnswerBytes int           // entries in one answer, sent in batches; 0 is 256 KiB
	BytesPerS   int           // entries that this node sends, a stream; 0 is 8 MiB
	Inbox       int           // parcels that wait, a stream; 0 is 256
	PruneEvery  time.Duration // 0 is 1 h
}

// ErrGap says that a batch begins above what the ledger has.
var ErrGap = errors.New("entries before this batch are missing")

// A Replicator keeps the ledgers of this node and of all others equal.
type Replicator struct {
	streams map[string]*stream
	log     *slog.Logger

	malformed atomic.Uint64 // parcels that could not be read
	unknown   atomic.Uint64 // parcels of streams that this node does not have
}

// New makes a Replicator. It reads and sends nothing before Run.
func New(cfg Config) (*Replicator, error) {
	if cfg.Bus == nil || len(cfg.Streams) == 0 {
		return nil, errors.New("replicate: a bus and at least one stream are needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v      *time.Duration
		preset time.Duration
	}{{&cfg.Beat, time.Second}, {&cfg.PatienceFor, time.Second}, {&cfg.PruneEvery, time.Hour}} {
		if *d.v <= 0 {
			*d.v = d.preset
		}
	}
	for _, n := range []struct {
		v      *int
		preset int
	}{{&cfg.BatchBytes, 48 << 10}, {&cfg.AnswerBytes, 256 << 10}, {&cfg.BytesPerS, 8 << 20}, {&cfg.Inbox, 256}} {
		if *n.v <= 0 {
			*n.v = n.preset
		}
	}
	r := &Replicator{streams: map[string]*stream{}, log: cfg.Logger}
	for _, s := range cfg.Streams {
		if s.Name == "" || len(s.Name) > maxName || s.Ledger == nil || r.streams[s.Name] != nil {
			return nil, fmt.Errorf("replicate: stream %q needs a ledger and a name of its own of at most %d bytes", s.Name, maxName)
		}
		r.streams[s.Name] = newStream(s, cfg)
	}
	return r, nil
}

// Run replicates until ctx ends.
func (r *Replicator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range r.streams {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Receive takes a parcel that another node has sent, and its memory. It never
// waits: parcels beyond the bound are dropped and asked for again.
func (r *Replicator) Receive(from string, text []byte) {
	p, err := parse(text)
	if err != nil {
		if r.malformed.Add(1) == 1 { // once: a foreign node would fill the log
			r.log.Warn("a parcel of replicated data cannot be read", "node", from, "error", err)
		}
		return
	}
	s := r.streams[p.stream]
	if s == nil {
		r.unknown.Add(1)
		return
	}
	select {
	case s.inbox <- letter{from, p}:
	default:
		s.count.full.Add(1)
	}
}

// Changed tells that something was written to a ledger. It never waits.
func (r *Replicator) Changed() {
	for _, s := range r.streams {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}

// StreamStats are the counters of one stream, since the start.
type StreamStats struct {
	Origins  int  // data directories that ever wrote
	Peers    int  // nodes heard within the last beats
	Equal    bool // all of them have what this node has
	Applied  uint64
	Sent     uint64 // entries, broadcast or as an answer
	Asked    uint64 // questions for what is missing
	Gaps     uint64 // fresh entries that came before what precedes them
	Renewals uint64 // new origins, see Ledger.Renew
	// Parcels and batches that went no further, by reason.
	InboxFull, CannotPost, ApplyFailed, ReadFailed, Throttled uint64
}

// Stats are the counters of a node's replication.
type Stats struct {
	Streams            map[string]StreamStats
	Malformed, Unknown uint64 // parcels
}

// Stats reads all counters.
func (r *Replicator) Stats() Stats {
	st := Stats{Streams: make(map[string]StreamStats, len(r.streams)), Malformed: r.malformed.Load(), Unknown: r.unknown.Load()}
	for name, s := range r.streams {
		st.Streams[name] = s.stats()
	}
	return st
}
