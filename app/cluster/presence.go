package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// Each node has a set of the agents that it hosts, which expires as a whole when
// the node no longer calls, and there is one sorted set of all nodes, by when they
// last called. A set holds aliveMember besides, which no agent can be named:
// adding it tells whether the set was there, and so whether Redis has forgotten
// what was announced before.
const (
	nodesKey    = prefix + "{nodes}"
	aliveMember = "!"
	// forgetNode is after how long of silence a node is taken off the list. Its set
	// is long gone by then; this only keeps the list short.
	forgetNode = 24 * time.Hour
	// members is how many agents one command carries.
	members = 512
)

func hostKey(node string) string { return prefix + "{node:" + node + "}:agents" }

// A crowd is what one node has announced.
type crowd struct {
	agents map[string]struct{}
	whole  bool // the next call replaces all: what Redis has is not known
}

// Announce implements relay.Broker. The first call for a node replaces what an
// earlier run left. It heals itself: after a failed call, and when Redis has
// forgotten the node, all that the node hosts is announced again.
func (b *Broker) Announce(ctx context.Context, node string, came, left []string, ttl time.Duration) error {
	all := b.note(node, came, left)
	fresh, err := b.announce(ctx, node, all != nil, slices.Concat(came, all), left, ttl)
	if err == nil && fresh && all == nil {
		_, err = b.announce(ctx, node, true, b.noteWhole(node), nil, ttl)
	}
	if err != nil {
		b.mu.Lock()
		b.hosted[node].whole = true
		b.mu.Unlock()
		return fmt.Errorf("announce agents of node %s: %w", node, err)
	}
	return nil
}

// note keeps what node hosts. It returns all of it when it has to be told anew,
// else nil.
func (b *Broker) note(node string, came, left []string) (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hosted[node]
	if h == nil {
		h = &crowd{agents: map[string]struct{}{}, whole: true}
		b.hosted[node] = h
	}
	for _, a := range left {
		delete(h.agents, a)
	}
	for _, a := range came {
		h.agents[a] = struct{}{}
	}
	if !h.whole {
		return nil
	}
	h.whole = false
	return h.all()
}

// noteForLater keeps a change that cannot be announced now; the next call announces
// everything.
func (b *Broker) noteForLater(node string, came, left []string) {
	b.note(node, came, left)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosted[node].whole = true
}

func (b *Broker) noteWhole(node string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hosted[node].all()
}

func (h *crowd) all() []string {
	return slices.AppendSeq(make([]string, 0, len(h.agents)), maps.Keys(h.agents))
}

// announce sends one change; replace drops what was there. fresh says that there
// was nothing.
func (b *Broker) announce(ctx context.Context, node string, replace bool, came, left []string, ttl time.Duration) (fresh bool, err error) {
	key := hostKey(node)
	var cmds []rueidis.Completed
	if replace {
		cmds = append(cmds, b.client.B().Del().Key(key).Build())
	}
	alive := len(cmds)
	cmds = append(cmds, b.client.B().Sadd().Key(key).Member(aliveMember).Build())
	for batch := range slices.Chunk(left, members) {
		cmds = append(cmds, b.client.B().Srem().Key(key).Member(batch...).Build())
	}
	for batch := range slices.Chunk(came, members) {
		cmds = append(cmds, b.client.B().Sadd().Key(key).Member(batch...).Build())
	}
	now := b.now()
	cmds = append(cmds,
		b.client.B().Pexpire().Key(key).Milliseconds(max(ttl.Milliseconds(), 1)).Build(),
		b.client.B().Zadd().Key(nodesKey).ScoreMember().ScoreMember(float64(now.UnixMilli()), node).Build(),
		b.client.B().Zremrangebyscore().Key(nodesKey).Min("-inf").Max("("+strconv.FormatInt(now.Add(-forgetNode).UnixMilli(), 10)).Build())
	results, err := b.do(ctx, cmds...)
	if err != nil {
		return false, err
	}
	added, err := results[alive].AsInt64()
	if err != nil {
		return false, redisError(err)
	}
	return added == 1, nil
}

// Hosts implements relay.Broker.
func (b *Broker) Hosts(ctx context.Context, agent string) ([]string, error) {
	hosts, err := b.hosts(ctx, agent)
	if err != nil {
		return nil, fmt.Errorf("find hosts of %s: %w", agent, err)
	}
	return hosts, nil
}

func (b *Broker) hosts(ctx context.Context, agent string) ([]string, error) {
	results, err := b.do(ctx, b.client.B().Zrange().Key(nodesKey).Min("0").Max("-1").Build())
	if err != nil {
		return nil, err
	}
	nodes, err := results[0].AsStrSlice()
	if err != nil {
		return nil, redisError(err)
	}
	if len(nodes) == 0 || agent == aliveMember {
		return nil, nil
	}
	cmds := make([]rueidis.Completed, len(nodes))
	for i, node := range nodes {
		cmds[i] = b.client.B().Sismember().Key(hostKey(node)).Member(agent).Build()
	}
	if results, err = b.do(ctx, cmds...); err != nil {
		return nil, err
	}
	var hosts []string
	for i, r := range results {
		if is, err := r.AsBool(); err == nil && is {
			hosts = append(hosts, nodes[i])
		}
	}
	slices.Sort(hosts)
	return hosts, nil
}

// Count implements relay.Broker.
func (b *Broker) Count(ctx context.Context, name string, delta int64, ttl time.Duration) (int64, error) {
	n, err := b.count(ctx, name, delta, max(ttl.Milliseconds(), 1))
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", name, err)
	}
	return n, nil
}

func (b *Broker) count(ctx context.Context, name string, delta, ttlMS int64) (int64, error) {
	key := prefix + "{count:" + name + "}"
	results, err := b.do(ctx,
		b.client.B().Set().Key(key).Value("0").Nx().PxMilliseconds(ttlMS).Build(),
		b.client.B().Incrby().Key(key).Increment(delta).Build(),
		b.client.B().Pttl().Key(key).Build())
	if err != nil {
		return 0, err
	}
	n, err := results[1].AsInt64()
	if err != nil {
		return 0, redisError(err)
	}
	if left, err := results[2].AsInt64(); err == nil && left == -1 {
		// It expired between the first two: INCRBY made it without an end.
		if _, err := b.do(ctx, b.client.B().Pexpire().Key(key).Milliseconds(ttlMS).Build()); err != nil {
			return 0, err
		}
	}
	return n, nil
}
