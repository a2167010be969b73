package dash

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/doctor"
)

// Memory keeps what an admin has put away for good, over restarts. Nil: the first look
// is not shown.
type Memory interface {
	// Seen says whether an admin has put the first look away.
	Seen(ctx context.Context) (bool, error)
	// PutAway keeps that.
	PutAway(ctx context.Context) error
}

// firstLook is what the doctor found when the first admin came: the faults of the
// surroundings, each with its fix, on Overview until an admin puts them away.
type firstLook struct {
	asked chan struct{} // holds one element when somebody is to look

	mu       sync.Mutex
	known    bool // seen was read
	seen     bool
	looked   bool
	findings []doctor.Finding // that are not fine
}

// A firstSight is what Overview shows of the first look: nothing, that the doctor is
// still looking, or what was found.
type firstSight struct {
	looking  bool
	findings []doctor.Finding
}

// titles names what was found in one line, so that the page need not unfold it.
func (f *firstSight) titles() string {
	names := make([]string, len(f.findings))
	for i := range f.findings {
		names[i] = f.findings[i].Title
	}
	return strings.Join(names, ", ")
}

// firstSight is what admins are to be shown now; the first one who comes has the server
// examined, which takes seconds and goes on without them.
func (b *Board) firstSight(r *request) firstSight {
	s := b.cfg.Sources
	if r.who.Role < Admin || s.Memory == nil || s.Config == nil {
		return firstSight{}
	}
	x := &b.first
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.known {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		seen, err := s.Memory.Seen(ctx)
		if err != nil {
			b.cfg.Logger.Warn("whether the first look was put away could not be read", "error", err)
			return firstSight{}
		}
		x.known, x.seen = true, seen
	}
	if x.seen {
		return firstSight{}
	}
	if !x.looked {
		select {
		case x.asked <- struct{}{}:
		default: // somebody looks already
		}
		return firstSight{looking: true}
	}
	return firstSight{findings: slices.Clone(x.findings)}
}

// lookFirst examines the server when the first admin came, once, until ctx ends.
func (b *Board) lookFirst(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-b.first.asked:
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var mu sync.Mutex
	var bad, odd []doctor.Finding
	b.cfg.Sources.Config.Examine(ctx, func(_ int, f doctor.Finding) {
		mu.Lock()
		defer mu.Unlock()
		switch f.Result {
		case doctor.Fail:
			bad = append(bad, f)
		case doctor.Warn:
			odd = append(odd, f)
		}
	})
	mu.Lock()
	found := append(bad, odd...)
	mu.Unlock()
	b.first.mu.Lock()
	b.first.looked, b.first.findings = true, found
	b.first.mu.Unlock()
}

// putAway takes the first look off Overview for good.
func (b *Board) putAway(r *request) error {
	if b.cfg.Sources.Memory != nil {
		ctx, cancel := r.bounded()
		defer cancel()
		if err := b.cfg.Sources.Memory.PutAway(ctx); err != nil {
			return err
		}
	}
	b.first.mu.Lock()
	b.first.known, b.first.seen = true, true
	b.first.mu.Unlock()
	return r.report("/", "Put away. Settings has the whole examination whenever you want it.", nil)
}
