package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentnet/app/scale"
)

// Receive takes a parcel that another node has shared. It never waits.
func (s *Service) Receive(from string, parcel []byte) {
	if len(parcel) == 0 || len(parcel) > maxParcel {
		return
	}
	var err error
	switch body := parcel[1:]; parcel[0] {
	case parcelSample:
		err = s.takeSample(from, body)
	case parcelKnowledge:
		err = s.adopt(from, body)
	case parcelEntries:
		err = s.takeEntries(body)
	case parcelMissing:
		err = s.takeMissing(from, body)
	case parcelAsk:
		err = s.takeAsk(from, body)
	case parcelAnswer:
		err = s.asks.answer(body)
	}
	if err != nil {
		s.log.Warn("a parcel of another node could not be read", "node", from, "kind", parcel[0], "error", err)
	}
}

func (s *Service) takeSample(from string, body []byte) error {
	sample, err := readSample(body)
	if err != nil {
		return err
	}
	if sample.Node != from {
		return fmt.Errorf("%w: it names %.64q", errParcel, sample.Node)
	}
	// What counts is when it came: the clocks of nodes differ.
	sample.At = time.Now().UTC().Round(0)
	s.mu.Lock()
	s.view.Observe(sample)
	s.mu.Unlock()
	return nil
}

// carried are sealed entries of one origin on their way.
type carried struct {
	Origin  string        `json:"origin"`
	Entries []scale.Entry `json:"entries"`
}

// missing asks an origin for what follows an entry.
type missing struct {
	Origin string `json:"origin"`
	After  uint64 `json:"after"`
}

// maxCarried bounds the entries of one parcel.
const maxCarried = 100

func (s *Service) shareEntries(sealed []scale.Entry) {
	if s.cfg.Others == nil {
		return
	}
	for len(sealed) > 0 {
		n := min(len(sealed), maxCarried)
		if raw := s.carry(sealed[:n]); raw != nil {
			s.share(raw)
		}
		sealed = sealed[n:]
	}
}

func (s *Service) carry(entries []scale.Entry) []byte {
	raw, err := json.Marshal(carried{Origin: s.cfg.Node, Entries: entries})
	if err != nil {
		s.log.Error("entries of the scaling log cannot be encoded for other nodes", "error", err)
		return nil
	}
	return append([]byte{parcelEntries}, raw...)
}

func (s *Service) takeEntries(body []byte) error {
	var c carried
	if err := json.Unmarshal(body, &c); err != nil {
		return err
	}
	if c.Origin == s.cfg.Node || c.Origin == "" || len(c.Origin) > maxName || len(c.Entries) == 0 {
		return nil
	}
	select {
	case s.imports <- c:
	default: // the head that its origin shares again will bring them
	}
	return nil
}

func (s *Service) takeMissing(from string, body []byte) error {
	var m missing
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	if m.Origin != s.cfg.Node {
		return nil
	}
	select {
	case s.wanted <- want{from, m.After}:
	default:
	}
	return nil
}

// want is a node that asks for entries.
type want struct {
	node  string
	after uint64
}

// shareHeadEvery is how often a node shares the last entry of its log, so that the
// others notice what they missed.
const shareHeadEvery = 15 * time.Second

// exchange keeps the logs of all nodes on every node, until ctx ends.
func (s *Service) exchange(ctx context.Context) error {
	every := time.NewTicker(shareHeadEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-s.imports:
			s.importEntries(ctx, c)
		case w := <-s.wanted:
			s.sendEntries(ctx, w)
		case <-every.C:
			s.shareHead(ctx)
		}
	}
}

func (s *Service) importEntries(ctx context.Context, c carried) {
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	if err := s.cfg.Store.ImportScaleLog(ctx, c.Origin, c.Entries); err == nil {
		return
	}
	// There is a gap, or the logs differ: ask for what follows the last good entry.
	page, err := s.cfg.Store.ScaleLogPage(ctx, scale.LogFilter{Origin: c.Origin, Limit: 1})
	if err != nil {
		s.log.Warn("the log of another node cannot be taken over", "node", c.Origin, "error", err)
		return
	}
	m := missing{Origin: c.Origin}
	if len(page) > 0 {
		m.After = page[0].Seq
	}
	if m.After+1 >= c.Entries[0].Seq {
		s.log.Warn("another node's log does not follow what is kept of it here; agentnet log verify tells more", "node", c.Origin, "after", m.After)
		return
	}
	if raw, err := json.Marshal(m); err == nil && s.cfg.Others != nil {
		s.cfg.Others.Tell(c.Origin, append([]byte{parcelMissing}, raw...))
	}
}

func (s *Service) sendEntries(ctx context.Context, w want) {
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	entries, err := s.cfg.Store.ScaleLogEntries(ctx, s.cfg.Node, w.after, maxCarried)
	if err != nil || len(entries) == 0 || s.cfg.Others == nil {
		return
	}
	if raw := s.carry(entries); raw != nil {
		s.cfg.Others.Tell(w.node, raw)
	}
	if len(entries) == maxCarried {
		select { // the next page, behind what others want
		case s.wanted <- want{w.node, entries[len(entries)-1].Seq}:
		default:
		}
	}
}

func (s *Service) shareHead(ctx context.Context) {
	if s.cfg.Others == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	page, err := s.cfg.Store.ScaleLogPage(ctx, scale.LogFilter{Origin: s.cfg.Node, Limit: 1})
	if err != nil || len(page) == 0 {
		return
	}
	if raw := s.carry([]scale.Entry{page[0].Entry}); raw != nil {
		s.share(raw)
	}
}

// asks are the commands that wait for the leader's answer.
type asks struct {
	mu   sync.Mutex
	next uint64
	open map[uint64]chan reply
}

type ask struct {
	ID      uint64  `json:"id"`
	Command Command `json:"command"`
}

type reply struct {
	ID    uint64      `json:"id"`
	Entry scale.Entry `json:"entry"`
	Kind  FaultKind   `json:"kind,omitempty"`
	Text  string      `json:"text,omitempty"`
}

const (
	maxAsks = 256
	askTime = 5 * time.Second
)

func (a *asks) init() { a.open = make(map[uint64]chan reply) }

func (a *asks) begin() (uint64, chan reply, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= maxAsks {
		return 0, nil, false
	}
	a.next++
	ch := make(chan reply, 1)
	a.open[a.next] = ch
	return a.next, ch, true
}

func (a *asks) end(id uint64) {
	a.mu.Lock()
	delete(a.open, id)
	a.mu.Unlock()
}

func (a *asks) answer(body []byte) error {
	var r reply
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	a.mu.Lock()
	ch := a.open[r.ID]
	delete(a.open, r.ID)
	a.mu.Unlock()
	if ch != nil {
		ch <- r
	}
	return nil
}

// askLeader has a command carried out by the node that leads.
func (s *Service) askLeader(ctx context.Context, leader string, c Command) (scale.Entry, error) {
	id, ch, ok := s.asks.begin()
	if !ok {
		return scale.Entry{}, fault(FaultUnavailable, "too many commands wait for the leader; try again")
	}
	defer s.asks.end(id)
	raw, err := json.Marshal(ask{id, c})
	if err != nil {
		return scale.Entry{}, fmt.Errorf("encode a command: %w", err)
	}
	if !s.cfg.Others.Tell(leader, append([]byte{parcelAsk}, raw...)) {
		return scale.Entry{}, fault(FaultUnavailable, "the leader %s cannot be reached; try again", leader)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	select {
	case r := <-ch:
		if r.Kind != "" {
			return r.Entry, fault(r.Kind, "%s", r.Text)
		}
		return r.Entry, nil
	case <-ctx.Done():
		return scale.Entry{}, fault(FaultUnavailable, "the leader %s did not answer in time; it may have been done", leader)
	}
}

// takeAsk carries a command out for another node, off the path of its parcels.
func (s *Service) takeAsk(from string, body []byte) error {
	var a ask
	if err := json.Unmarshal(body, &a); err != nil {
		return err
	}
	select {
	case s.commands <- asked{from, a}:
	default: // it gets no answer, and its asker tries again
	}
	return nil
}

type asked struct {
	node string
	ask  ask
}

// serve answers other nodes' commands until ctx ends.
func (s *Service) serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-s.commands:
			r := reply{ID: a.ask.ID}
			work, cancel := context.WithTimeout(ctx, askTime)
			entry, err := s.execute(work, a.ask.Command)
			cancel()
			r.Entry = entry
			if f, ok := errors.AsType[*Fault](err); ok {
				r.Kind, r.Text = f.Kind, f.Text
			} else if err != nil {
				r.Kind, r.Text = FaultUnavailable, err.Error()
			}
			if raw, err := json.Marshal(r); err == nil {
				s.cfg.Others.Tell(a.node, append([]byte{parcelAnswer}, raw...))
			}
		}
	}
}
