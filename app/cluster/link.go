package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A medium is the Redis of one region, as this package needs it. All methods but
// close may be called concurrently; each ends with its context.
type medium interface {
	// connect makes the connections, or says why it cannot. Until it has succeeded
	// once no other method is called.
	connect(ctx context.Context) error
	// shortcoming says what this kind of Redis cannot do, once connected; "" is
	// nothing.
	shortcoming() string
	// publish hands batch to whoever listens to channel now and returns how many
	// that are, -1 when that is not known. The batch may be kept when err is not nil.
	publish(ctx context.Context, channel string, batch []byte) (receivers int64, err error)
	// listen calls heard once it listens to channel and each for every batch, one
	// after the other. It returns when the subscription ended.
	listen(ctx context.Context, channel string, heard func(), each func(batch []byte)) error
	// get returns "" for a key that is not there.
	get(ctx context.Context, key string) (string, error)
	// put sets a key that is not there, and returns the number that also stands under
	// counter then ("" for none). It reports false when the key was there.
	put(ctx context.Context, key, value string, ttl time.Duration, counter string) (was bool, number uint64, err error)
	expire(ctx context.Context, key string, ttl time.Duration) error
	add(ctx context.Context, key string, delta uint64) (uint64, error)
	del(ctx context.Context, key string) error
	// info returns what Redis says of itself.
	info(ctx context.Context) (map[string]string, error)
	close()
}

var (
	// errOpen follows several failures: nothing is tried for a moment.
	errOpen = errors.New("redis does not answer; it is tried again in a moment")
	// errNotConnected is so until the first connection.
	errNotConnected = errors.New("redis has not been reached yet")
)

const (
	// tripAfter failures in a row open a breaker.
	tripAfter = 3
	// openFirst and openMost bound how long it stays open, doubling with each try.
	openFirst = 100 * time.Millisecond
	openMost  = 2 * time.Second
	// commandTime bounds one command on the bus.
	commandTime = 2 * time.Second
)

// A breaker keeps calls away from what fails. After tripAfter failures in a row it
// opens; then one call at a time may try whether it is over.
type breaker struct {
	tripped atomic.Bool // it is open, for those who only look

	mu       sync.Mutex
	failures int // in a row
	until    time.Time
	wait     time.Duration
	probing  bool
	opened   uint64
}

// allow reports whether a call may go.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < tripAfter {
		return true
	}
	if b.probing || time.Now().Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// done takes the result of a call that was allowed.
func (b *breaker) done(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if ok {
		b.failures, b.wait = 0, 0
		b.tripped.Store(false)
		return
	}
	b.failures++
	if b.failures >= tripAfter {
		b.tripped.Store(true)
		if b.wait == 0 {
			b.opened++
		}
		b.wait = min(max(2*b.wait, openFirst), openMost)
		b.until = time.Now().Add(b.wait/2 + rand.N(b.wait/2+1))
	}
}

func (b *breaker) openings() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}

func (b *breaker) word() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failures < tripAfter:
		return "closed"
	case b.probing:
		return "half_open"
	}
	return "open"
}

// A link is the way into one region.
type link struct {
	region  string
	own     bool // of this node's region
	medium  medium
	breaker breaker

	mu        sync.Mutex
	connected bool
	fault     string // of the last failure; told to operators
	took      time.Duration
}

func (l *link) isConnected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.connected
}

func (l *link) lastFault() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// try makes one call through the breaker.
func (l *link) try(ctx context.Context, call func(context.Context) error) error {
	if !l.isConnected() {
		return errNotConnected
	}
	if !l.breaker.allow() {
		return errOpen
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	l.breaker.done(err == nil || errors.Is(err, context.Canceled))
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.fault = err.Error()
	} else {
		l.took = time.Since(start)
	}
	return err
}

func (l *link) publish(ctx context.Context, channel string, batch []byte) (receivers int64, err error) {
	err = l.try(ctx, func(ctx context.Context) (err error) {
		receivers, err = l.medium.publish(ctx, channel, batch)
		return err
	})
	return receivers, err
}

// connect reaches the region's Redis for the first time, however long that takes.
// It reports false when ctx ended first.
func (n *Node) connect(ctx context.Context, l *link) bool {
	if l.isConnected() {
		return true
	}
	for wait := openFirst; ; wait = min(2*wait, openMost) {
		try, cancel := context.WithTimeout(ctx, 2*commandTime)
		err := l.medium.connect(try)
		cancel()
		l.mu.Lock()
		l.connected = err == nil
		if err != nil {
			l.fault = err.Error()
		}
		l.mu.Unlock()
		if err == nil {
			n.log.Info("cluster: connected to redis", "region", l.region)
			n.tellShortcoming(l)
			return true
		}
		if wait == openFirst {
			n.log.Warn("cluster: redis cannot be reached; it is tried again", "region", l.region, "error", err)
		}
		if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
			return false
		}
	}
}

func (n *Node) tellShortcoming(l *link) {
	if text := l.medium.shortcoming(); text != "" {
		n.log.Warn("cluster: "+text, "region", l.region)
	}
}
