package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/redis"
)

// ask opens a connection, lets f talk on it, and turns a connection that fails
// into an outcome.
func (c *Config) ask(ctx context.Context, f func(*redisConn) (outcome, error)) outcome {
	if c.Redis == "" {
		return skip("the embedded Redis is used; it has no settings to be checked")
	}
	conn, err := dialRedis(ctx, c)
	if err != nil {
		return blame(err, "is Redis running there, and are host, port, user and password in the key redis right? redis-cli -u URL ping")
	}
	defer conn.close()
	o, err := f(conn)
	if err != nil {
		return blame(redis.Explain(err), "look into the log of Redis")
	}
	return o
}

// blame is a failure; where err knows what to do, that stands for fix.
func blame(err error, fix string) outcome {
	var fault *redis.Fault
	if !errors.As(err, &fault) {
		return fail(err.Error(), fix)
	}
	return fail(strings.Replace(err.Error(), "; "+fault.Do, "", 1), fault.Do)
}

// info reads one section of INFO.
func info(conn *redisConn, section string) (map[string]string, error) {
	text, err := conn.text("INFO", section)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[name] = value
		}
	}
	return out, nil
}

func redisServer(ctx context.Context, c *Config) outcome {
	return c.ask(ctx, func(conn *redisConn) (outcome, error) {
		server, err := info(conn, "server")
		if err != nil {
			return outcome{}, err
		}
		rep, err := info(conn, "replication")
		if err != nil {
			return outcome{}, err
		}
		persist, err := info(conn, "persistence")
		if err != nil {
			return outcome{}, err
		}
		name, version := "Redis", server["redis_version"]
		if v := server["valkey_version"]; v != "" {
			name, version = "Valkey", v
		}
		mode := cmp.Or(server["server_mode"], server["redis_mode"]) // Valkey, Redis
		evidence := fmt.Sprintf("%s %s, %s, role %s, append-only file %s", name, version, mode, rep["role"],
			map[string]string{"1": "on", "0": "off"}[persist["aof_enabled"]])
		switch {
		case rep["role"] != "" && rep["role"] != "master":
			return fail(evidence+"; writes to a replica are refused", "give the address of the primary in the key redis"), nil
		case persist["rdb_last_bgsave_status"] == "err" || persist["aof_last_write_status"] == "err":
			return fail(evidence+"; it could not save its data, and may refuse writes", "look at the disk of Redis and its log"), nil
		case older(version, 6, 0):
			return fail(evidence+"; 6.0 or newer is needed", "upgrade Redis"), nil
		case older(version, 7, 0) && mode == "cluster":
			return warn(evidence+"; it has no sharded Pub/Sub, so that each of its servers carries every message between nodes", "upgrade to Redis 7 or Valkey"), nil
		}
		return good("%s", evidence), nil
	})
}

// older says that a version is below major.minor. What cannot be read is not.
func older(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	a, err1 := strconv.Atoi(parts[0])
	b, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (a < major || a == major && b < minor)
}

func redisMemory(ctx context.Context, c *Config) outcome {
	return c.ask(ctx, func(conn *redisConn) (outcome, error) {
		m, err := info(conn, "memory")
		if err != nil {
			return outcome{}, err
		}
		stats, err := info(conn, "stats")
		if err != nil {
			return outcome{}, err
		}
		used, _ := strconv.ParseInt(m["used_memory"], 10, 64)
		most, _ := strconv.ParseInt(m["maxmemory"], 10, 64)
		policy, evicted := m["maxmemory_policy"], stats["evicted_keys"]
		evidence := fmt.Sprintf("%s used, maxmemory %s, policy %s, %s keys evicted so far", bytes(used), orNone(most), policy, evicted)
		switch {
		case policy != "noeviction" && evicted != "0" && evicted != "":
			return fail(evidence+": history and counters were thrown away", "CONFIG SET maxmemory-policy noeviction, in redis.conf too; and more memory"), nil
		case policy != "noeviction" && policy != "":
			return warn(evidence+"; when memory runs out it would throw history and counters away in silence", "CONFIG SET maxmemory-policy noeviction, in redis.conf too"), nil
		case most > 0 && used > most*9/10:
			return fail(evidence+"; writes are about to be refused", "CONFIG SET maxmemory with more, or keep less history (channels[].keep_count)"), nil
		case most == 0:
			return warn(evidence+"; without a limit it grows until the machine kills something", "CONFIG SET maxmemory to about 70 % of its machine, in redis.conf too"), nil
		}
		return good("%s", evidence), nil
	})
}

func orNone(n int64) string {
	if n == 0 {
		return "none"
	}
	return bytes(n)
}

func redisLatency(ctx context.Context, c *Config) outcome {
	return c.ask(ctx, func(conn *redisConn) (outcome, error) {
		const rounds = 50
		var took []time.Duration
		for range rounds {
			began := time.Now()
			if _, err := conn.text("PING"); err != nil {
				return outcome{}, err
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		median, worst := took[rounds/2], took[rounds-1]
		evidence := fmt.Sprintf("answers after %s (median of %d), %s at worst", short(median), rounds, short(worst))
		fix := "put Redis into the same zone as the nodes; look for slow commands (SLOWLOG GET) and for a machine that is too busy"
		switch {
		case median > 50*time.Millisecond:
			return fail(evidence, fix), nil
		case median > 5*time.Millisecond || worst > 200*time.Millisecond:
			return warn(evidence, fix), nil
		}
		return good("%s", evidence), nil
	})
}

// redisPubSub sends itself a message on a channel that nobody else has.
func redisPubSub(ctx context.Context, c *Config) outcome {
	return c.ask(ctx, func(conn *redisConn) (outcome, error) {
		var nonce [8]byte
		_, _ = rand.Read(nonce[:]) // never fails
		channel := "agentnet:doctor:" + hex.EncodeToString(nonce[:])
		if _, err := conn.do("SUBSCRIBE", channel); err != nil {
			return outcome{}, err
		}
		second, err := dialRedis(ctx, c)
		if err != nil {
			return outcome{}, err
		}
		defer second.close()
		began := time.Now()
		if _, err := second.do("PUBLISH", channel, "x"); err != nil {
			return outcome{}, err
		}
		got, err := conn.read()
		if err != nil {
			return outcome{}, fmt.Errorf("a published message did not come back: %w", err)
		}
		if list, ok := got.([]any); !ok || len(list) != 3 || list[0] != "message" || list[1] != channel {
			return outcome{}, fmt.Errorf("something else came than the message that was published")
		}
		return good("a published message came back after %s", short(time.Since(began))), nil
	})
}

func redisClock(ctx context.Context, c *Config) outcome {
	return c.ask(ctx, func(conn *redisConn) (outcome, error) {
		began := time.Now()
		got, err := conn.do("TIME")
		if err != nil {
			return outcome{}, err
		}
		took := time.Since(began)
		list, ok := got.([]any)
		if !ok || len(list) != 2 {
			return outcome{}, fmt.Errorf("TIME answered something else than a time")
		}
		seconds, err1 := strconv.ParseInt(fmt.Sprint(list[0]), 10, 64)
		micros, err2 := strconv.ParseInt(fmt.Sprint(list[1]), 10, 64)
		if err1 != nil || err2 != nil {
			return outcome{}, fmt.Errorf("TIME answered something else than a time")
		}
		offset := time.Unix(seconds, micros*1000).Sub(began.Add(took / 2))
		within := took/2 + time.Millisecond
		return judgeOffset(offset, within, fmt.Sprintf("this machine's clock is %s that of Redis (± %s)", offsetText(offset), short(within)),
			"run a time service on both machines; leases and history are dated by both clocks", true), nil
	})
}
