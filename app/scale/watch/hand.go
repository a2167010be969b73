package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentnet/app/scale"
)

const (
	// actWait bounds one order, with the actuator's own retries.
	actWait = 2 * time.Minute
	// askEvery is how often the control plane is asked which count it holds.
	askEvery = 15 * time.Second
	askWait  = 10 * time.Second
	// countFor is how long an answer of the control plane is believed.
	countFor     = time.Minute
	maxNotices   = 256
	maxSettings  = 64
	notifyWait   = 30 * time.Second
	settingsWait = 10 * time.Second
)

// A waiting order is a decision that is on disk and not carried out yet.
type waiting struct {
	order scale.Order
	seq   uint64
}

// A hand does what may take long: it asks the actuator, tells people, and writes
// settings, so that no tick and no parcel waits for them. Of several orders that
// wait only the last is carried out: it holds the count that is wanted now.
type hand struct {
	s       *Service
	orders  chan waiting // of one
	notices chan scale.Notice
	puts    chan [2]string

	mu    sync.Mutex
	count int // what the control plane was last told
	at    time.Time
	last  scale.Action
	held  uint64 // notices and settings that nobody took in time
}

func newHand(s *Service) *hand {
	return &hand{s: s, orders: make(chan waiting, 1), notices: make(chan scale.Notice, maxNotices), puts: make(chan [2]string, maxSettings)}
}

// order takes an order; one that still waits is replaced.
func (h *hand) order(o scale.Order, seq uint64) {
	for {
		select {
		case h.orders <- waiting{o, seq}:
			return
		default:
		}
		select {
		case <-h.orders:
		default:
		}
	}
}

func (h *hand) notify(n scale.Notice) {
	if h.s.cfg.Notifier == nil {
		return
	}
	select {
	case h.notices <- n:
	default:
		h.miss()
	}
}

func (h *hand) put(name, value string) {
	select {
	case h.puts <- [2]string{name, value}:
	default:
		h.miss()
	}
}

func (h *hand) miss() {
	h.mu.Lock()
	h.held++
	h.mu.Unlock()
}

// requested is the count that the control plane holds, 0 when nobody knows.
func (h *hand) requested() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) > countFor {
		return 0
	}
	return h.count
}

// lastAction is what came of the last order.
func (h *hand) lastAction() scale.Action {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func (h *hand) run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // people are told while an actuator takes its time
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case n := <-h.notices:
				h.tell(ctx, n)
			case p := <-h.puts:
				write, cancel := context.WithTimeout(context.WithoutCancel(ctx), settingsWait)
				if err := h.s.cfg.Store.PutSetting(write, p[0], p[1]); err != nil {
					h.s.log.Error("a setting could not be stored", "setting", p[0], "error", err)
				}
				cancel()
			}
		}
	}()
	defer func() { <-done }()
	every := time.NewTicker(askEvery)
	defer every.Stop()
	h.ask(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case w := <-h.orders:
			h.carryOut(ctx, w)
		case <-every.C:
			h.ask(ctx)
		}
	}
}

func (h *hand) tell(ctx context.Context, n scale.Notice) {
	ctx, cancel := context.WithTimeout(ctx, notifyWait)
	defer cancel()
	if err := h.s.cfg.Notifier.Notify(ctx, n); err != nil {
		h.s.log.Warn("not everybody could be told of an alert", "group", n.Group, "error", err)
	}
}

// ask reads the control plane's count, in the mode act only.
func (h *hand) ask(ctx context.Context) {
	if h.s.cfg.Actuator == nil || h.s.engine.Policy().Mode != scale.Act {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	n, err := h.s.cfg.Actuator.Requested(ctx)
	switch {
	case errors.Is(err, scale.ErrNotTold):
		return
	case err != nil:
		h.s.log.Warn("the control plane does not say which count it holds", "actuator", h.s.cfg.Actuator.Name(), "error", err)
		return
	}
	h.mu.Lock()
	h.count, h.at = n, time.Now()
	h.mu.Unlock()
}

// carryOut writes the action down, acts, and writes the result down.
func (h *hand) carryOut(ctx context.Context, w waiting) {
	name := h.s.cfg.Actuator.Name()
	if _, fence, mine := h.s.lead(); !mine || fence != w.order.Fence {
		return // another leader decides by now
	}
	action, err := scale.ActionEntry(time.Now(), name, w.order, w.seq)
	if err != nil {
		h.s.log.Error("an action could not be written down and is not done", "error", err)
		return
	}
	write, cancel := context.WithTimeout(ctx, writeWait)
	sealed, err := h.s.append(write, action)
	cancel()
	if err != nil {
		h.s.engine.ActuatorFault("the scaling log cannot be written, and nothing is done unlogged")
		h.s.log.Error("an action could not be logged and is not done", "error", err)
		return
	}
	act, cancel := context.WithTimeout(ctx, actWait)
	result, err := h.s.cfg.Actuator.Act(act, w.order)
	cancel()
	if err != nil && result.Fault == "" {
		result.Fault = err.Error()
	}
	if result.Order.ID == "" { // an actuator may turn an order into a dry run, and says so in it
		result.Order = w.order
	}
	result.Actuator = name
	h.s.engine.ActuatorFault(result.Fault)
	h.mu.Lock()
	h.last = result
	if result.Done && !result.Order.DryRun {
		h.count, h.at = w.order.To, time.Now()
	}
	h.mu.Unlock()
	if result.Fault != "" {
		h.s.log.Warn("the actuator failed", "actuator", name, "to", w.order.To, "fault", result.Fault)
	}
	e, err := scale.ResultEntry(time.Now(), result, sealed[0].Seq)
	if err != nil {
		h.s.log.Error("the result of an action could not be written down", "error", err)
		return
	}
	h.s.scribe.write(e)
}

// append writes entries and returns when they are on disk. Nothing is kept for
// later when that fails.
func (s *Service) append(ctx context.Context, entries ...scale.Entry) ([]scale.LogEntry, error) {
	sealed, err := s.cfg.Store.AppendScaleLog(ctx, s.cfg.Node, entries)
	if err != nil {
		return nil, fmt.Errorf("scaling log: %w", err)
	}
	return sealed, nil
}
