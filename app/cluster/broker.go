// Package cluster makes several nodes one relay over Redis.
//
// A Node knows the others (Members), carries parcels between them in numbered
// batches (Post, Broadcast), tells the relay who hosts which agent and channel and
// which node orders a channel (Fleet), and elects a leader (Leader). What it promises
// and what not is in DESIGN.md. A Broker is the relay.Broker: channel history beyond
// the recent window, who hosted which agent, and shared counters.
//
// The same code runs over the embedded Redis of a lone node (by BrokerConfig.Dial) and
// over a real one (by BrokerConfig.URL), and uses only commands that both have: no
// scripts, no transactions, no client-side caching. Every call ends with its
// context, whatever Redis does. Keys carry the prefix "agn:" and the hash tag of
// what they belong to, so that each call stays within one slot of a Redis Cluster.
//
// It promises what Redis promises: after Redis lost data, or may have (its run id
// changed), channels get new epochs, and nothing is passed off as whole.
package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/redis"
	"agentnet/app/relay"

	"github.com/redis/rueidis"
)

// ErrEpoch says that a channel's history goes on under another epoch: Open it again.
var ErrEpoch = errors.New("the channel has another epoch by now")

// ErrClosed follows Close.
var ErrClosed = errors.New("the broker is closed")

const (
	prefix = "agn:"

	// inFlight bounds calls that wait for Redis. One that its caller has given up
	// counts until the connection has answered or is given up too.
	inFlight = 256
	// stall is how long Redis may leave the connection without an answer before it
	// is made anew.
	stall = 3 * time.Second
	// closeWithin bounds Close.
	closeWithin = 3 * time.Second
)

// BrokerConfig says which Redis a Broker uses: exactly one of URL and Dial.
type BrokerConfig struct {
	// URL is as CheckURL says, TLS the files for rediss.
	URL string
	TLS redis.TLS
	// Dial makes connections to a Redis that has no address, with Password.
	Dial     func(context.Context) (net.Conn, error)
	Password string

	Logger *slog.Logger
	// Now is the wall clock, for tests. Default time.Now.
	Now func() time.Time
}

// A Broker implements relay.Broker over one Redis. All methods may be called
// concurrently; Appends to one channel must not.
type Broker struct {
	client rueidis.Client
	log    *slog.Logger
	now    func() time.Time
	id     string        // random: this Broker as a writer
	slots  chan struct{} // a call holds one while it waits
	many   bool          // a Redis Cluster: INFO speaks of one server of several

	mu      sync.Mutex
	closed  bool
	runID   string               // of Redis, as last read
	trimmed map[string]time.Time // channel: when its age was last looked at
	hosted  map[string]*crowd    // by node
	longest time.Duration        // age of history that was appended

	suspects   map[string]struct{} // channels whose last Append failed
	suspectAll bool                // there were too many to name
}

var _ relay.Broker = (*Broker)(nil)

// OpenBroker connects. ctx bounds the first connection; later ones are made as needed.
func OpenBroker(ctx context.Context, cfg BrokerConfig) (*Broker, error) {
	opt, err := clientOption(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	b := &Broker{
		log: cfg.Logger, now: cfg.Now, slots: make(chan struct{}, inFlight),
		trimmed: map[string]time.Time{}, hosted: map[string]*crowd{}, suspects: map[string]struct{}{},
		id: rand.Text(),
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	b.many = opt.cluster
	if b.client, err = opt.client(ctx); err != nil {
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	if _, err = b.readRunID(ctx); err != nil {
		b.client.Close()
		return nil, fmt.Errorf("connect to redis: %w", err)
	}
	return b, nil
}

// do sends cmds in one batch and returns their results, or an error when ctx ends
// first or one of cmds fails. The client does not look at ctx while its queue is
// full; the goroutine does, and there are inFlight of them at most.
func (b *Broker) do(ctx context.Context, cmds ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	results, err := b.try(ctx, cmds...)
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		if err := r.Error(); err != nil && !rueidis.IsRedisNil(err) {
			return nil, redisError(err)
		}
	}
	return results, nil
}

// try is do without a look at the results.
func (b *Broker) try(ctx context.Context, cmds ...rueidis.Completed) ([]rueidis.RedisResult, error) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("redis is too slow: %d calls wait for it: %w", inFlight, ctx.Err())
	}
	answered := make(chan []rueidis.RedisResult, 1)
	go func() {
		answered <- b.client.DoMulti(ctx, cmds...)
		<-b.slots
	}()
	select {
	case results := <-answered:
		return results, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("redis did not answer in time: %w", ctx.Err())
	}
}

// redisError keeps what Redis said, which names no values.
func redisError(err error) error {
	if e, ok := rueidis.IsRedisErr(err); ok {
		return fmt.Errorf("redis: %w", e)
	}
	if errors.Is(err, rueidis.ErrClosing) {
		return ErrClosed
	}
	return fmt.Errorf("redis: %w", err)
}

// readRunID asks Redis which run of it this is. Of a Cluster it is that of all its
// primaries together: a restart or a failover of one may have lost something.
func (b *Broker) readRunID(ctx context.Context) (string, error) {
	if b.many {
		return b.readRunIDs(ctx)
	}
	results, err := b.do(ctx, b.infoCommand())
	if err != nil {
		return "", err
	}
	return b.takeRunID(results[0])
}

func (b *Broker) readRunIDs(ctx context.Context) (string, error) {
	var ids []string
	for _, c := range b.client.Nodes() {
		text, err := c.Do(ctx, c.B().Info().Build()).ToString()
		if err != nil {
			return "", redisError(err)
		}
		if said := infoFields(text); said["role"] != "slave" {
			ids = append(ids, said["run_id"])
		}
	}
	if len(ids) == 0 {
		return "", errors.New("redis: the Cluster has no primary")
	}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, " ")))
	id := hex.EncodeToString(sum[:20])
	b.mu.Lock()
	b.runID = id
	b.mu.Unlock()
	return id, nil
}

func (b *Broker) infoCommand() rueidis.Completed {
	return b.client.B().Info().Section("server").Build()
}

func (b *Broker) takeRunID(r rueidis.RedisResult) (string, error) {
	text, err := r.ToString()
	if err != nil {
		return "", redisError(err)
	}
	for line := range strings.Lines(text) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			id = strings.TrimSpace(id)
			b.mu.Lock()
			b.runID = id
			b.mu.Unlock()
			return id, nil
		}
	}
	return "", errors.New("redis: INFO names no run_id")
}

// Close waits for the calls under way, within a few seconds, notes in Redis that
// nothing is missing, and disconnects. Append everything first.
func (b *Broker) Close() error {
	b.mu.Lock()
	was := b.closed
	b.closed = true
	keep := max(b.longest, idleFor) + time.Hour // the note outlives what it speaks of
	b.mu.Unlock()
	if was {
		return nil
	}
	defer b.client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	for range inFlight {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("close broker: calls to redis still wait after %v", closeWithin)
		}
	}
	note := b.client.B().Set().Key(writerKey(b.id)).Value("closed").PxMilliseconds(keep.Milliseconds()).Build()
	if err := b.client.Do(ctx, note).Error(); err != nil {
		return fmt.Errorf("close broker: channels will begin new epochs: %w", redisError(err))
	}
	return nil
}
