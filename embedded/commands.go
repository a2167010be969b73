package embedded

import (
	"bufio"
	"bytes"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// A rule says what the store does with a command before it runs.
type rule struct {
	grows  bool // refused when memory is at its limit
	writes bool // counts as a change for the next snapshot
}

// commands are the ones that are known here: those that agentnet uses on any
// Redis, and a few for a person with redis-cli. All else is refused, for three
// reasons: a command that blocks or a script that loops would hold up everybody,
// and some of miniredis' commands panic when their arguments are odd.
var commands = map[string]rule{
	"AUTH": {}, "HELLO": {}, "PING": {}, "ECHO": {}, "QUIT": {}, "SELECT": {}, "CLIENT": {},
	"INFO": {}, "DBSIZE": {}, "TIME": {},
	"GET": {}, "MGET": {}, "EXISTS": {}, "TTL": {}, "PTTL": {}, "TYPE": {}, "STRLEN": {},
	"SET": {true, true}, "INCR": {true, true}, "INCRBY": {true, true}, "DECR": {true, true}, "DECRBY": {true, true},
	"DEL": {false, true}, "UNLINK": {false, true}, "EXPIRE": {false, true}, "PEXPIRE": {false, true}, "PERSIST": {false, true},
	"HGET": {}, "HMGET": {}, "HGETALL": {}, "HEXISTS": {}, "HLEN": {}, "HKEYS": {}, "HVALS": {},
	"HSET": {true, true}, "HSETNX": {true, true}, "HINCRBY": {true, true}, "HDEL": {false, true},
	"SISMEMBER": {}, "SMISMEMBER": {}, "SMEMBERS": {}, "SCARD": {},
	"SADD": {true, true}, "SREM": {false, true},
	"ZSCORE": {}, "ZCARD": {}, "ZCOUNT": {}, "ZRANGE": {}, "ZRANGEBYSCORE": {},
	"ZADD": {true, true}, "ZINCRBY": {true, true}, "ZREM": {false, true}, "ZREMRANGEBYSCORE": {false, true},
	"XLEN": {}, "XRANGE": {}, "XREVRANGE": {}, "XREAD": {},
	"XADD": {true, true}, "XTRIM": {false, true},
	"SUBSCRIBE": {}, "UNSUBSCRIBE": {}, "PUBLISH": {},
}

// newFront returns the server that clients talk to. It knows the commands above
// and hands each, checked and adjusted, to miniredis' own.
func (s *Server) newFront() (*server.Server, error) {
	front := server.NewServerConn()
	for name, r := range commands {
		err := front.Register(name, func(c *server.Peer, cmd string, args []string) { s.command(c, cmd, args, r) })
		if err != nil {
			return nil, err
		}
	}
	return front, nil
}

// command runs one command of one client.
func (s *Server) command(c *server.Peer, cmd string, args []string, r rule) {
	s.meter.commands.Add(1)
	s.gate.Lock()
	defer s.gate.Unlock()
	defer s.survive(cmd, c)
	text := s.refusal(cmd, args, r)
	if text == "" {
		args, text = s.adjustTTL(cmd, args)
	}
	if text != "" {
		s.meter.refused.Add(1)
		c.WriteError(text)
		return
	}
	if r.writes {
		s.meter.changes.Add(1)
	}
	if r.grows {
		s.meter.grow(args)
	}
	if cmd == "INFO" {
		s.info(c)
		return
	}
	s.redis.Server().Dispatch(c, append([]string{cmd}, args...))
}

// survive keeps a panic of one command from ending the process. miniredis leaves
// its lock taken then; nobody else can have it for more than a moment, because
// this goroutine holds the gate.
func (s *Server) survive(cmd string, c *server.Peer) {
	reason := recover()
	if reason == nil {
		return
	}
	s.meter.panics.Add(1)
	s.cfg.Logger.Error("embedded redis: a command failed inside; please report this", "command", cmd, "stack", string(debug.Stack()))
	for end := time.Now().Add(100 * time.Millisecond); !s.redis.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			break // it is ours
		}
	}
	s.redis.Unlock()
	c.WriteError("ERR internal error of the embedded store; its log says more")
}

// refusal says why a command is not run, "" when it is.
func (s *Server) refusal(cmd string, args []string, r rule) string {
	if r.grows && (s.meter.bytes.Load() >= s.cfg.MaxBytes || s.meter.keys.Load() >= int64(s.cfg.MaxKeys)) {
		s.meter.recount()
		return "OOM command not allowed when used memory > 'maxmemory'."
	}
	switch cmd {
	case "SELECT":
		if len(args) == 1 && args[0] != "0" {
			return "ERR DB index is out of range: the embedded store has database 0 only"
		}
	case "XADD":
		return xaddFault(args)
	case "XTRIM":
		if len(args) == 3 && (args[2] == "~" || args[2] == "=") {
			return "ERR syntax error"
		}
	case "XREAD":
		for _, a := range args {
			if strings.EqualFold(a, "STREAMS") {
				break
			}
			if strings.EqualFold(a, "BLOCK") {
				return "ERR the embedded store does not block: XREAD without BLOCK only"
			}
		}
	}
	return ""
}

// xaddFault finds XADDs whose options end too early.
func xaddFault(args []string) string {
	const fault = "ERR wrong number of arguments for 'xadd' command"
	at := 1 // behind the key
	if at < len(args) && strings.EqualFold(args[at], "NOMKSTREAM") {
		at++
	}
	if at < len(args) && (strings.EqualFold(args[at], "MAXLEN") || strings.EqualFold(args[at], "MINID")) {
		if at++; at < len(args) && (args[at] == "~" || args[at] == "=") {
			at++
		}
		at++
	}
	if len(args) < at+3 { // id, field, value
		return fault
	}
	return ""
}

// maxTTL bounds times to live so that adding to them cannot overflow.
const maxTTL = 10 * 365 * 24 * time.Hour

// adjustTTL adds to a time to live what the next sweep will take off too much.
func (s *Server) adjustTTL(cmd string, args []string) (out []string, fault string) {
	at, unit := 0, time.Millisecond
	switch cmd {
	case "EXPIRE":
		at, unit = 1, time.Second
	case "PEXPIRE":
		at = 1
	case "SET":
		for i := 2; i < len(args) && at == 0; i++ {
			switch strings.ToUpper(args[i]) {
			case "EX":
				at, unit = i+1, time.Second
			case "PX":
				at = i + 1
			case "EXAT", "PXAT":
				return nil, "ERR the embedded store takes EX and PX only"
			}
		}
	}
	if at == 0 || at >= len(args) {
		return args, ""
	}
	n, err := strconv.ParseInt(args[at], 10, 64)
	if err != nil || n <= 0 {
		return args, "" // the store has the right words for it
	}
	if n > int64(maxTTL/unit) {
		return nil, "ERR invalid expire time"
	}
	ttl := time.Duration(n)*unit + s.clock.behind()
	out = append([]string(nil), args...)
	out[at] = strconv.FormatInt(int64((ttl+unit-1)/unit), 10) // rounded up
	return out, ""
}

// info answers INFO with the few lines that agentnet reads of any Redis, to those
// who may know.
func (s *Server) info(c *server.Peer) {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	ping := server.NewPeer(w)
	ping.Ctx = c.Ctx
	s.redis.Server().Dispatch(ping, []string{"PING"})
	ping.Flush()
	if bytes.HasPrefix(b.Bytes(), []byte("-")) {
		c.WriteError(strings.TrimSpace(b.String()[1:]))
		return
	}
	c.WriteBulk(fmt.Sprintf("# Server\r\nredis_version:7.0.0-agentnet-embedded\r\nredis_mode:standalone\r\nrun_id:%s\r\n"+
		"# Clients\r\nconnected_clients:%d\r\n# Memory\r\nused_memory:%d\r\nmaxmemory:%d\r\n# Stats\r\ntotal_commands_processed:%d\r\n",
		s.runID, s.clients.Load(), s.meter.bytes.Load(), s.cfg.MaxBytes, s.meter.commands.Load()))
}
