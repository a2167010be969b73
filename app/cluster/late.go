package cluster

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay"
)

// A lateBroker is the Broker of a node that may have started while Redis was down.
// Until it is reached, and while its breaker is open, every call fails at once.
type lateBroker struct {
	node    *Node
	real    atomic.Pointer[Broker]
	breaker breaker

	mu     sync.Mutex
	closed bool
	came   map[string]struct{} // agents announced before Redis was reached
}

var _ relay.Broker = (*lateBroker)(nil)

// Broker returns history and shared counters of this node's region. Close it after
// Run, when everything was appended.
func (n *Node) Broker() relay.Broker { return n.broker }

func newLateBroker(n *Node) *lateBroker { return &lateBroker{node: n} }

// connect makes the Broker once Redis can be reached.
func (l *lateBroker) connect() {
	n := l.node
	for wait := openFirst; l.real.Load() == nil; wait = min(2*wait, openMost) {
		if n.own.isConnected() {
			ctx, cancel := context.WithTimeout(n.ctx, 2*commandTime)
			err := l.open(ctx)
			cancel()
			if err == nil {
				return
			}
		} else {
			wait = openFirst / 2
		}
		if !sleep(n.ctx, wait/2+rand.N(wait/2+1)) {
			return
		}
	}
}

func (l *lateBroker) open(ctx context.Context) error {
	n := l.node
	if n.cfg.media != nil {
		<-n.ctx.Done() // a test without Redis
		return nil
	}
	b, err := OpenBroker(ctx, BrokerConfig{URL: n.ownURL(), TLS: n.cfg.TLS, Dial: n.cfg.Dial, Password: n.cfg.Password, Logger: n.log})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return b.Close()
	}
	l.real.Store(b)
	return nil
}

// call makes one call through the breaker.
func (l *lateBroker) call(f func(b *Broker) error) error {
	b := l.real.Load()
	if b == nil {
		return errNotConnected
	}
	if !l.breaker.allow() {
		return errOpen
	}
	err := f(b)
	l.breaker.done(err == nil || !isTransport(err))
	return err
}

// Open implements relay.Broker.
func (l *lateBroker) Open(ctx context.Context, channel, newEpoch string) (pos relay.Position, err error) {
	err = l.call(func(b *Broker) (err error) {
		pos, err = b.Open(ctx, channel, newEpoch)
		return err
	})
	return pos, err
}

// Append implements relay.Broker.
func (l *lateBroker) Append(ctx context.Context, channel, epoch string, keep relay.Keep, pubs []relay.Publication) error {
	err := l.call(func(b *Broker) error { return b.Append(ctx, channel, epoch, keep, pubs) })
	if err == errOpen || err == errNotConnected {
		if b := l.real.Load(); b != nil {
			b.suspect(channel) // what is stored lacks its end
		}
	}
	return err
}

// Read implements relay.Broker.
func (l *lateBroker) Read(ctx context.Context, channel, epoch string, after uint64, limit int) (pubs []relay.Publication, ok bool, err error) {
	err = l.call(func(b *Broker) (err error) {
		pubs, ok, err = b.Read(ctx, channel, epoch, after, limit)
		return err
	})
	return pubs, ok, err
}

// Forget implements relay.Broker.
func (l *lateBroker) Forget(ctx context.Context, channel string) error {
	err := l.call(func(b *Broker) error { return b.Forget(ctx, channel) })
	if b := l.real.Load(); err != nil && b != nil {
		b.suspect(channel)
	}
	return err
}

// Announce implements relay.Broker.
func (l *lateBroker) Announce(ctx context.Context, node string, came, left []string, ttl time.Duration) error {
	l.mu.Lock()
	if l.real.Load() == nil {
		for _, a := range left {
			delete(l.came, a)
		}
		for _, a := range came {
			if l.came == nil {
				l.came = map[string]struct{}{}
			}
			l.came[a] = struct{}{}
		}
		l.mu.Unlock()
		return errNotConnected
	}
	came, l.came = slices.AppendSeq(slices.Clone(came), maps.Keys(l.came)), nil
	l.mu.Unlock()
	err := l.call(func(b *Broker) error { return b.Announce(ctx, node, came, left, ttl) })
	if err == errOpen {
		l.real.Load().noteForLater(node, came, left)
	}
	return err
}

// Hosts implements relay.Broker.
func (l *lateBroker) Hosts(ctx context.Context, agent string) (nodes []string, err error) {
	err = l.call(func(b *Broker) (err error) {
		nodes, err = b.Hosts(ctx, agent)
		return err
	})
	return nodes, err
}

// Count implements relay.Broker.
func (l *lateBroker) Count(ctx context.Context, name string, delta int64, ttl time.Duration) (sum int64, err error) {
	err = l.call(func(b *Broker) (err error) {
		sum, err = b.Count(ctx, name, delta, ttl)
		return err
	})
	return sum, err
}

// Close implements relay.Broker.
func (l *lateBroker) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	if b := l.real.Load(); b != nil {
		return b.Close()
	}
	return nil
}
