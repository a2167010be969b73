package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/wire"
)

// A Bus carries parcels to other nodes. Post never waits; true promises nothing.
type Bus interface {
	Post(node string, parcel []byte) bool
}

// A Handler answers questions of one kind. from is the node that asks. Its answer is
// encoded as JSON; an error that is a *wire.Error reaches the asker as it is.
type Handler func(ctx context.Context, from string, body json.RawMessage) (any, error)

const (
	// maxOpen bounds the questions of this node that wait for their answers.
	maxOpen = 256
	// maxWaiting bounds the questions of other nodes that wait for a worker.
	maxWaiting = 64
	// workers bounds those that are answered at one time.
	workers = 4
	// MaxParcel bounds one question or answer, in bytes.
	MaxParcel = 4 << 20
	// Patience is how long an answer is waited for, and how long a handler may take.
	Patience = 5 * time.Second
)

// A Desk asks other nodes and answers theirs. Its methods may be called concurrently.
type Desk struct {
	bus      Bus
	log      *slog.Logger
	handlers map[string]Handler // fixed before Run
	waiting  chan question
	dropped  atomic.Uint64

	mu   sync.Mutex
	next uint64
	open map[uint64]wait
}

// A wait is one question whose answer is awaited; only the node that was asked may
// answer it.
type wait struct {
	node string
	ch   chan parcel
}

// A parcel is a question (Kind is set) or an answer.
type parcel struct {
	ID    uint64          `json:"id"`
	Kind  string          `json:"kind,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error *wire.Error     `json:"error,omitempty"`
}

type question struct {
	from string
	p    parcel
}

// New makes a desk on a bus. handlers are what it answers, by kind.
func New(bus Bus, handlers map[string]Handler, log *slog.Logger) *Desk {
	return &Desk{bus: bus, log: log, handlers: handlers, waiting: make(chan question, maxWaiting), open: make(map[uint64]wait)}
}

// Ask puts a question to a node and reads its answer into a value, which may be nil.
// Errors are *wire.Error: those of the node that was asked, or unavailable and
// timeout.
func (d *Desk) Ask(ctx context.Context, node, kind string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode a question %q: %w", kind, err)
	}
	id, ch, err := d.begin(node)
	if err != nil {
		return err
	}
	defer d.end(id)
	text, err := json.Marshal(parcel{ID: id, Kind: kind, Body: raw})
	if err != nil {
		return fmt.Errorf("encode a question %q: %w", kind, err)
	}
	if len(text) > MaxParcel || !d.bus.Post(node, text) {
		return &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("node %.64q cannot be reached from here; try again, or ask it itself", node)}
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	select {
	case p := <-ch:
		if p.Error != nil {
			return p.Error
		}
		if into == nil {
			return nil
		}
		if err := json.Unmarshal(p.Body, into); err != nil {
			return fmt.Errorf("answer of node %s to %q: %w", node, kind, err)
		}
		return nil
	case <-ctx.Done():
		return &wire.Error{Code: wire.Timeout, Message: fmt.Sprintf("node %.64q did not answer in time; it may have been done all the same", node)}
	}
}

func (d *Desk) begin(node string) (uint64, chan parcel, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.open) >= maxOpen {
		return 0, nil, &wire.Error{Code: wire.Overloaded, Message: "too many questions wait for other nodes; try again", RetryAfterMS: 1000}
	}
	d.next++
	ch := make(chan parcel, 1)
	d.open[d.next] = wait{node, ch}
	return d.next, ch, nil
}

func (d *Desk) end(id uint64) {
	d.mu.Lock()
	delete(d.open, id)
	d.mu.Unlock()
}

// Receive takes a parcel of another node. It never waits.
func (d *Desk) Receive(from string, raw []byte) {
	if len(raw) > MaxParcel {
		d.dropped.Add(1)
		return
	}
	var p parcel
	if err := json.Unmarshal(raw, &p); err != nil {
		d.dropped.Add(1)
		d.log.Warn("a question or answer of another node cannot be read", "node", from, "error", err)
		return
	}
	if p.Kind == "" {
		d.mu.Lock()
		w, there := d.open[p.ID]
		if there = there && w.node == from; there {
			delete(d.open, p.ID)
		}
		d.mu.Unlock()
		if there {
			w.ch <- p
		}
		return
	}
	select {
	case d.waiting <- question{from, p}:
	default: // its asker hears nothing and says so
		d.dropped.Add(1)
	}
}

// Dropped counts the parcels that were not handled: unreadable, too large, or more
// than wait at one time.
func (d *Desk) Dropped() uint64 { return d.dropped.Load() }

// Run answers questions until ctx ends.
func (d *Desk) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case q := <-d.waiting:
					d.reply(ctx, q)
				}
			}
		})
	}
	all.Wait()
	return nil
}

// reply answers one question.
func (d *Desk) reply(ctx context.Context, q question) {
	out := parcel{ID: q.p.ID}
	value, err := d.answer(ctx, q)
	if err == nil {
		if out.Body, err = json.Marshal(value); err == nil && len(out.Body) > MaxParcel-1024 {
			err = &wire.Error{Code: wire.TooLarge, Message: "the answer is too long to go to another node: ask for less"}
		}
	}
	if err != nil {
		out.Body = nil
		var known *wire.Error
		if !errors.As(err, &known) {
			d.log.Error("a question of another node failed", "node", q.from, "kind", q.p.Kind, "error", err)
			known = &wire.Error{Code: wire.Internal, Message: "the node that was asked could not do it; its log has the reason"}
		}
		out.Error = known
	}
	raw, err := json.Marshal(out)
	if err != nil || !d.bus.Post(q.from, raw) {
		d.dropped.Add(1)
	}
}

// answer has the handler answer; a panic in it stays here.
func (d *Desk) answer(ctx context.Context, q question) (value any, err error) {
	h := d.handlers[q.p.Kind]
	if h == nil {
		return nil, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("the node does not know the question %.40q: it runs another version", q.p.Kind)}
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic of type %T", v)
			d.log.Error("panic while a question was answered", "kind", q.p.Kind, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	return h(ctx, q.from, q.p.Body)
}
