package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentnet/app/redis"

	"github.com/redis/rueidis"
)

// A redisMedium is one Redis: a single server, one behind Sentinels, a Cluster, or
// the embedded one. The bus has connections of its own, apart from the Broker's: one
// to publish, one to listen, one for leases, so that a long queue of one does not
// hold up the others.
type redisMedium struct {
	option clientOptions
	fault  error // of the configuration

	mu      sync.Mutex
	closed  bool
	pub     rueidis.Client
	sub     rueidis.Client
	keys    rueidis.Client
	cluster bool // a Redis Cluster
	sharded bool // with sharded Pub/Sub
}

func newRedisMedium(url string, cfg *Config) *redisMedium {
	m := &redisMedium{}
	b := BrokerConfig{URL: url, TLS: cfg.TLS}
	if url == "" {
		b.Dial, b.Password = cfg.Dial, cfg.Password
	}
	m.option, m.fault = clientOption(b)
	return m
}

// isRefusal reports whether Redis was reached and does not want us, which only a
// person can mend.
func isRefusal(err error) bool {
	var fault *redis.Fault
	return errors.Is(err, errWrongKind) || errors.As(redis.Explain(err), &fault)
}

// isTransport reports whether err says something about the way to Redis, or about
// all of it, rather than about one call.
func isTransport(err error) bool {
	return err != nil && !errors.Is(err, ErrEpoch) && !errors.Is(err, ErrClosed) && !errors.Is(err, errPublication) && !errors.Is(err, context.Canceled)
}

// errWrongKind says that the URL is of another kind than the server.
var errWrongKind = errors.New("the URL does not fit the server")

// connect implements medium.
func (m *redisMedium) connect(ctx context.Context) error {
	var made [3]rueidis.Client
	var err error
	for i := range made {
		if made[i], err = m.option.client(ctx); err != nil {
			break
		}
	}
	if err == nil {
		err = m.look(ctx, made[2])
	}
	if err == nil && m.option.real {
		err = m.probe(ctx, made[1], made[2])
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.closed {
		err = ErrClosed
	}
	if err != nil {
		for _, c := range made {
			if c != nil {
				c.Close()
			}
		}
		return err
	}
	m.pub, m.sub, m.keys = made[0], made[1], made[2]
	return nil
}

// look finds out what kind of server this is. Sharded Pub/Sub is used in a Cluster
// that has it. On a single server it would cost the same, and nodes that come
// through a Sentinel must meet those that come directly.
func (m *redisMedium) look(ctx context.Context, c rueidis.Client) error {
	said, err := c.Do(ctx, c.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return fmt.Errorf("redis: info: %w", redis.Explain(err))
	}
	server := infoFields(said)
	m.cluster = cmp.Or(server["server_mode"], server["redis_mode"]) == "cluster" // Valkey, Redis
	if m.cluster != m.option.cluster {
		if m.cluster {
			return fmt.Errorf("%w: it is a node of a Redis Cluster; write redis+cluster://host:port,host:port", errWrongKind)
		}
		return fmt.Errorf("%w: it is no Redis Cluster; write redis://host:port", errWrongKind)
	}
	major, _, _ := strings.Cut(server["redis_version"], ".")
	n, _ := strconv.Atoi(major)
	m.sharded = m.cluster && n >= 7 && hasShards(ctx, c)
	return nil
}

// hasShards asks a server whether it has sharded Pub/Sub: some services take it away.
func hasShards(ctx context.Context, c rueidis.Client) bool {
	err := c.Do(ctx, c.B().Spublish().Channel(probeChannel).Message("").Build()).Error()
	return err == nil || !strings.Contains(err.Error(), "unknown command")
}

// shortcoming implements medium.
func (m *redisMedium) shortcoming() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cluster && !m.sharded {
		return "this Redis Cluster has no sharded Pub/Sub (Redis 7 and Valkey have): each of its servers carries every message between nodes, so that more servers do not carry more messages; and nobody says whether somebody listened, so that a message to a node which subscribes anew is told as lost instead of coming later"
	}
	return ""
}

func infoFields(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[k] = v
		}
	}
	return out
}

// publish implements medium.
func (m *redisMedium) publish(ctx context.Context, channel string, batch []byte) (int64, error) {
	text := rueidis.BinaryString(batch)
	if m.sharded {
		return m.pub.Do(ctx, m.pub.B().Spublish().Channel(channel).Message(text).Build()).AsInt64()
	}
	n, err := m.pub.Do(ctx, m.pub.B().Publish().Channel(channel).Message(text).Build()).AsInt64()
	if m.cluster {
		n = -1 // it counts those of one server only
	}
	return n, err
}

// listen implements medium.
func (m *redisMedium) listen(ctx context.Context, channel string, heard func(), each func([]byte)) error {
	confirmed := rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if !strings.HasSuffix(s.Kind, "unsubscribe") {
			heard()
		}
	})
	cmd := m.sub.B().Subscribe().Channel(channel).Build()
	if m.sharded {
		cmd = m.sub.B().Ssubscribe().Channel(channel).Build()
	}
	err := m.sub.Receive(confirmed, cmd, func(msg rueidis.PubSubMessage) { each(ownBytes(msg.Message)) })
	if err == nil {
		err = errors.New("redis: unsubscribed") // its slot has moved
	}
	return err
}

// get implements medium.
func (m *redisMedium) get(ctx context.Context, key string) (string, error) {
	text, err := m.keys.Do(ctx, m.keys.B().Get().Key(key).Build()).ToString()
	if rueidis.IsRedisNil(err) {
		return "", nil
	}
	return text, err
}

// put implements medium.
func (m *redisMedium) put(ctx context.Context, key, value string, ttl time.Duration, counter string) (bool, uint64, error) {
	b := m.keys.B()
	cmds := rueidis.Commands{b.Set().Key(key).Value(value).Nx().PxMilliseconds(ttl.Milliseconds()).Build()}
	if counter != "" {
		cmds = append(cmds, b.Get().Key(counter).Build())
	}
	results := m.keys.DoMulti(ctx, cmds...)
	err := results[0].Error()
	if rueidis.IsRedisNil(err) {
		return false, 0, nil
	}
	if err != nil || counter == "" {
		return err == nil, 0, err
	}
	n, err := results[1].AsUint64()
	return true, n, err
}

// expire implements medium.
func (m *redisMedium) expire(ctx context.Context, key string, ttl time.Duration) error {
	return m.keys.Do(ctx, m.keys.B().Pexpire().Key(key).Milliseconds(ttl.Milliseconds()).Build()).Error()
}

// add implements medium.
func (m *redisMedium) add(ctx context.Context, key string, delta uint64) (uint64, error) {
	return m.keys.Do(ctx, m.keys.B().Incrby().Key(key).Increment(int64(delta)).Build()).AsUint64()
}

// del implements medium.
func (m *redisMedium) del(ctx context.Context, key string) error {
	return m.keys.Do(ctx, m.keys.B().Del().Key(key).Build()).Error()
}

// info implements medium. Of a Cluster it sums up all servers.
func (m *redisMedium) info(ctx context.Context) (map[string]string, error) {
	if !m.cluster {
		text, err := m.keys.Do(ctx, m.keys.B().Info().Build()).ToString()
		return infoFields(text), err
	}
	out := map[string]string{}
	sums := map[string]int64{}
	for _, c := range m.keys.Nodes() {
		text, err := c.Do(ctx, c.B().Info().Build()).ToString()
		if err != nil {
			return nil, err
		}
		for k, v := range infoFields(text) {
			n, err := strconv.ParseInt(v, 10, 64)
			if err == nil {
				sums[k] += n
			} else {
				out[k] = v
			}
		}
		sums["nodes"]++
	}
	for k, n := range sums {
		out[k] = strconv.FormatInt(n, 10)
	}
	return out, nil
}

// close implements medium.
func (m *redisMedium) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	for _, c := range []rueidis.Client{m.pub, m.sub, m.keys} {
		if c != nil {
			c.Close()
		}
	}
}
