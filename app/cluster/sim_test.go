package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// A simRedis is a Redis in virtual time: keys that expire, channels, and nothing
// that is kept. Each node reaches it by a simMedium of its own.
type simRedis struct {
	mu   sync.Mutex
	keys map[string]simKey
	subs map[string]map[*simSub]struct{}
	down bool
}

type simKey struct {
	value string
	until time.Time // zero: for ever
}

type simSub struct {
	queue chan simBatch
	ended chan struct{}
	once  sync.Once
}

type simBatch struct {
	at time.Time
	b  []byte
}

func (s *simSub) end() { s.once.Do(func() { close(s.ended) }) }

var errSim = errors.New("simulated fault")

func newSimRedis() *simRedis {
	return &simRedis{keys: map[string]simKey{}, subs: map[string]map[*simSub]struct{}{}}
}

// setDown takes Redis away or brings it back; wipe forgets its keys.
func (r *simRedis) setDown(down, wipe bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
	if wipe {
		clear(r.keys)
	}
	if down {
		for _, subs := range r.subs {
			for s := range subs {
				s.end()
			}
		}
	}
}

// A simMedium is the way of one node to a simRedis, with faults of its own.
type simMedium struct {
	redis *simRedis

	mu      sync.Mutex
	rng     *rand.Rand
	broken  bool    // nothing goes
	loss    float64 // of batches, after Redis has taken them
	double  float64 // of batches that are published twice
	latency time.Duration
	sub     []*simSub
	unheard func([]byte) bool // this batch finds nobody now; nil: all are heard
}

func (m *simMedium) set(change func(*simMedium)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
	if m.broken {
		for _, s := range m.sub {
			s.end()
		}
		m.sub = nil
	}
}

// way waits as long as a command takes and says whether it goes through.
func (m *simMedium) way(ctx context.Context) error {
	m.mu.Lock()
	wait, broken := time.Duration(0), m.broken
	if m.latency > 0 {
		wait = m.latency/2 + time.Duration(m.rng.Int64N(int64(m.latency)))
	}
	m.mu.Unlock()
	if wait > 0 && !sleep(ctx, wait) {
		return ctx.Err()
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	if broken || m.redis.down {
		return errSim
	}
	return ctx.Err()
}

func (m *simMedium) connect(ctx context.Context) error { return m.way(ctx) }
func (m *simMedium) shortcoming() string               { return "" }

func (m *simMedium) publish(ctx context.Context, channel string, batch []byte) (int64, error) {
	if err := m.way(ctx); err != nil {
		return 0, err
	}
	m.mu.Lock()
	lost, times := m.rng.Float64() < m.loss, 1
	if m.rng.Float64() < m.double {
		times = 2
	}
	unheard := m.unheard != nil && m.unheard(batch)
	m.mu.Unlock()
	if unheard {
		return 0, nil
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	n := int64(0)
	for s := range m.redis.subs[channel] {
		n++
		for range times {
			if lost {
				continue
			}
			select {
			case s.queue <- simBatch{time.Now(), append([]byte(nil), batch...)}:
			default:
				s.end() // as Redis does with those that do not read
			}
		}
	}
	return n, nil
}

func (m *simMedium) listen(ctx context.Context, channel string, heard func(), each func([]byte)) error {
	if err := m.way(ctx); err != nil {
		return err
	}
	s := &simSub{queue: make(chan simBatch, 10_000), ended: make(chan struct{})}
	m.mu.Lock()
	m.sub = append(m.sub, s)
	m.mu.Unlock()
	m.redis.mu.Lock()
	if m.redis.subs[channel] == nil {
		m.redis.subs[channel] = map[*simSub]struct{}{}
	}
	m.redis.subs[channel][s] = struct{}{}
	m.redis.mu.Unlock()
	defer func() {
		m.redis.mu.Lock()
		defer m.redis.mu.Unlock()
		delete(m.redis.subs[channel], s)
	}()
	heard()
	for {
		select {
		case b := <-s.queue:
			m.mu.Lock()
			late := m.latency
			m.mu.Unlock()
			if wait := time.Until(b.at.Add(late)); wait > 0 && !sleep(ctx, wait) {
				return ctx.Err()
			}
			each(b.b)
		case <-s.ended:
			return errSim
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// key returns what lives under a key. m.redis.mu must be held.
func (m *simMedium) key(key string) (simKey, bool) {
	k, ok := m.redis.keys[key]
	if ok && !k.until.IsZero() && time.Now().After(k.until) {
		delete(m.redis.keys, key)
		return simKey{}, false
	}
	return k, ok
}

func (m *simMedium) get(ctx context.Context, key string) (string, error) {
	if err := m.way(ctx); err != nil {
		return "", err
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	k, _ := m.key(key)
	return k.value, nil
}

func (m *simMedium) put(ctx context.Context, key, value string, ttl time.Duration, counter string) (bool, uint64, error) {
	if err := m.way(ctx); err != nil {
		return false, 0, err
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	if _, ok := m.key(key); ok {
		return false, 0, nil
	}
	m.redis.keys[key] = simKey{value, time.Now().Add(ttl)}
	k, _ := m.key(counter)
	n := uint64(0)
	for _, d := range k.value {
		n = n*10 + uint64(d-'0')
	}
	return true, n, nil
}

func (m *simMedium) expire(ctx context.Context, key string, ttl time.Duration) error {
	if err := m.way(ctx); err != nil {
		return err
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	if k, ok := m.key(key); ok {
		k.until = time.Now().Add(ttl)
		m.redis.keys[key] = k
	}
	return nil
}

func (m *simMedium) add(ctx context.Context, key string, delta uint64) (uint64, error) {
	if err := m.way(ctx); err != nil {
		return 0, err
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	k, _ := m.key(key)
	n := delta
	if k.value != "" {
		old := uint64(0)
		for _, d := range k.value {
			old = old*10 + uint64(d-'0')
		}
		n += old
	}
	m.redis.keys[key] = simKey{value: decimal(n)}
	return n, nil
}

func decimal(n uint64) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return decimal(n/10) + string(rune('0'+n%10))
}

func (m *simMedium) del(ctx context.Context, key string) error {
	if err := m.way(ctx); err != nil {
		return err
	}
	m.redis.mu.Lock()
	defer m.redis.mu.Unlock()
	delete(m.redis.keys, key)
	return nil
}

func (m *simMedium) info(ctx context.Context) (map[string]string, error) {
	return map[string]string{"redis_version": "7.0.0"}, m.way(ctx)
}

func (m *simMedium) close() { m.set(func(m *simMedium) { m.broken = true }) }
