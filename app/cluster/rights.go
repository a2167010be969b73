package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"agentnet/app/redis"

	"github.com/redis/rueidis"
)

const (
	probeKey     = prefix + "{probe}:"
	probeChannel = "agentnet:{probe}:bus"
)

// probe tries each command that a node will send, on keys and a channel of its own,
// and returns a fault that names all that the user is not allowed. A right that
// lacks would else show hours later, in the middle of the work. What fails for
// another reason (a full memory, a replica) is told where it hurts.
func (m *redisMedium) probe(ctx context.Context, sub, keys rueidis.Client) error {
	var lacking []string
	var first error
	note := func(command string, err error) {
		if err == nil || !strings.Contains(err.Error(), "NOPERM") {
			return
		}
		lacking = append(lacking, strings.ToLower(command))
		if first == nil {
			first = err
		}
	}
	cmds, names := probes(keys, m.sharded)
	for i, r := range keys.DoMulti(ctx, cmds...) {
		note(names[i], r.Error())
	}
	note(m.probeListening(ctx, sub))
	if first == nil {
		return nil
	}
	return fmt.Errorf("redis: the user is not allowed all that is needed (%s): %w", strings.Join(lacking, ", "), redis.Explain(first))
}

// probes are the commands of this package; each is harmless on these keys.
func probes(c rueidis.Client, sharded bool) (cmds rueidis.Commands, names []string) {
	text, hash, set, sorted, stream := probeKey+"t", probeKey+"h", probeKey+"s", probeKey+"z", probeKey+"x"
	add := func(args ...string) {
		names = append(names, args[0])
		a := c.B().Arbitrary(args[0])
		switch args[0] {
		case "XREAD": // its key stands behind the word STREAMS
			cmds = append(cmds, a.Args(args[1:4]...).Keys(args[4]).Args(args[5:]...).Build())
		case "PUBLISH", "SPUBLISH":
			cmds = append(cmds, a.Args(args[1:]...).Build())
		default:
			cmds = append(cmds, a.Keys(args[1]).Args(args[2:]...).Build())
		}
	}
	add("SET", text, "0", "PX", "1000")
	add("GET", text)
	add("INCRBY", text, "1")
	add("PEXPIRE", text, "1000")
	add("PTTL", text)
	add("EXISTS", text)
	add("HSET", hash, "f", "v")
	add("HMGET", hash, "f")
	add("SADD", set, "m")
	add("SISMEMBER", set, "m")
	add("SREM", set, "m")
	add("ZADD", sorted, "1", "m")
	add("ZRANGE", sorted, "0", "-1")
	add("ZREMRANGEBYSCORE", sorted, "-inf", "+inf")
	add("XADD", stream, "*", "f", "v")
	add("XREAD", "COUNT", "1", "STREAMS", stream, "0")
	add("XREVRANGE", stream, "+", "-", "COUNT", "1")
	add("XTRIM", stream, "MAXLEN", "0")
	for _, key := range []string{text, hash, stream} {
		add("DEL", key)
	}
	if sharded {
		add("SPUBLISH", probeChannel, "")
	} else {
		add("PUBLISH", probeChannel, "")
	}
	return cmds, names
}

// probeListening subscribes to a channel and leaves it again.
func (m *redisMedium) probeListening(ctx context.Context, c rueidis.Client) (command string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	command, cmd := "subscribe", c.B().Subscribe().Channel(probeChannel).Build()
	if m.sharded {
		command, cmd = "ssubscribe", c.B().Ssubscribe().Channel(probeChannel).Build()
	}
	heard := rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { cancel() })
	err = c.Receive(heard, cmd, func(rueidis.PubSubMessage) {})
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return command, err
}
