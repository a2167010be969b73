package embedded

import (
	"sync/atomic"
	"time"
)

// A clock makes time pass for the store, whose keys do not expire by themselves:
// once a second all times to live are shortened by what has passed. That looks at
// every key with the store locked, so that the pause between sweeps grows with
// what a sweep takes and stays 100 times as long: sweeping costs 1% at most.
type clock struct {
	wall  func() time.Time // Config.Now, nil: time.Now
	last  atomic.Pointer[time.Time]
	sweep atomic.Int64 // ns that the last one took
}

const (
	sweepEvery = time.Second
	sweepShare = 100
)

func (c *clock) start(wall func() time.Time) {
	c.wall = wall
	now := c.now()
	c.last.Store(&now)
}

func (c *clock) now() time.Time {
	if c.wall != nil {
		return c.wall()
	}
	return time.Now() // with the monotonic part, so that a stepped wall clock expires nothing
}

// behind is how far the store's times to live lag: what is set now is shortened at
// the next sweep by all that passed since the last one, so that this much has to
// be added.
func (c *clock) behind() time.Duration {
	return max(c.now().Sub(*c.last.Load()), 0)
}

// tick sweeps until the server stops.
func (s *Server) tick() {
	wait := time.NewTimer(sweepEvery)
	defer wait.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-wait.C:
		}
		wait.Reset(max(sweepEvery, sweepShare*s.passTime()))
	}
}

// passTime shortens all times to live by what has passed, and returns what that took.
func (s *Server) passTime() time.Duration {
	s.gate.Lock() // so that no command computes a time to live in the middle of it
	begin := time.Now()
	now := s.clock.now()
	passed := max(now.Sub(*s.clock.last.Load()), 0)
	if s.clock.wall != nil {
		s.redis.SetTime(now)
	}
	s.redis.FastForward(passed)
	s.clock.last.Store(&now)
	s.gate.Unlock()
	took := time.Since(begin)
	s.clock.sweep.Store(int64(took))
	return took
}
