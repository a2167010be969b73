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
	ID    uint64         `json:"id"`
	Entry scale.LogEntry `json:"entry"`
	Kind  FaultKind      `json:"kind,omitempty"`
	Text  string         `json:"text,omitempty"`
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
func (s *Service) askLeader(ctx context.Context, leader string, c Command) (scale.LogEntry, error) {
	id, ch, ok := s.asks.begin()
	if !ok {
		return scale.LogEntry{}, fault(FaultUnavailable, "too many commands wait for the leader; try again")
	}
	defer s.asks.end(id)
	raw, err := json.Marshal(ask{id, c})
	if err != nil {
		return scale.LogEntry{}, fmt.Errorf("encode a command: %w", err)
	}
	if !s.cfg.Others.Tell(leader, append([]byte{parcelAsk}, raw...)) {
		return scale.LogEntry{}, fault(FaultUnavailable, "the leader %s cannot be reached; try again", leader)
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
		return scale.LogEntry{}, fault(FaultUnavailable, "the leader %s did not answer in time; it may have been done", leader)
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
