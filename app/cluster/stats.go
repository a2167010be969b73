package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// counters count since the start.
type counters struct {
	posted       atomic.Uint64
	refused      tally
	batchesOut   atomic.Uint64
	bytesOut     atomic.Uint64
	batchesIn    atomic.Uint64
	bytesIn      atomic.Uint64
	recordsIn    atomic.Uint64
	beatsOut     atomic.Uint64
	lost         atomic.Uint64
	repeated     atomic.Uint64
	dropped      tally
	retries      atomic.Uint64
	resubscribed atomic.Uint64
	namesakes    atomic.Uint64
	leadFaults   atomic.Uint64
	astray       atomic.Uint64
}

// Stats is one reading of a Node. Counters only grow.
type Stats struct {
	Cut     bool   // the other nodes of this region cannot be reached
	Ready   bool   // all others route here
	Why     string // else what is missing
	Breaker string // of the region's own Redis: closed, open or half_open
	Nodes   int    // others that route here
	Leader  Lease

	Posted       uint64            // parcels that were queued
	Refused      map[Reason]uint64 // parcels that were not, or left the queue unsent
	BatchesOut   uint64
	BytesOut     uint64
	BatchesIn    uint64
	BytesIn      uint64
	RecordsIn    uint64
	BeatsOut     uint64
	Lost         uint64            // records of others that never came
	Repeated     uint64            // records that came twice and were skipped
	Dropped      map[Reason]uint64 // records that came and were not handled
	Retries      uint64            // batches that were sent again
	Resubscribed uint64
	Astray       uint64 // times that the table of homes had to be asked for anew
	Namesakes    uint64 // beats of another node with this one's name
	Waiting      int    // records in all outboxes
	WaitingBytes int

	Agents   int // names in the table of agents of other nodes
	Channels int
	Homes    int

	Redis RedisHealth
	Links []LinkStats         // by region
	Drift map[string][]string // node: settings that differ from here
}

// LinkStats is the way into one region.
type LinkStats struct {
	Region    string
	Own       bool
	Connected bool
	Breaker   string
	Opened    uint64        // times that the breaker did
	Took      time.Duration // the last command
	Fault     string        // the last one, for operators
	Nodes     int           // that are known there, this one included
}

// RedisHealth is what Redis says of itself.
type RedisHealth struct {
	At         time.Time // when it was asked; zero: never
	Took       time.Duration
	Version    string
	Mode       string
	Role       string
	UsedMemory int64
	MaxMemory  int64 // 0: no limit
	Evicted    int64
	Rejected   int64 // connections
	OpsPerS    float64
	Clients    int
	Nodes      int // that were asked, in a Cluster
}

// Stats returns a reading.
func (n *Node) Stats() Stats {
	c := &n.count
	s := Stats{Cut: n.cut.Load(), Leader: n.Leader(), Posted: c.posted.Load(), Refused: c.refused.read(), BatchesOut: c.batchesOut.Load(), BytesOut: c.bytesOut.Load(),
		BatchesIn: c.batchesIn.Load(), BytesIn: c.bytesIn.Load(), RecordsIn: c.recordsIn.Load(), BeatsOut: c.beatsOut.Load(),
		Lost: c.lost.Load(), Repeated: c.repeated.Load(), Dropped: c.dropped.read(), Retries: c.retries.Load(),
		Resubscribed: c.resubscribed.Load(), Namesakes: c.namesakes.Load(), Astray: c.astray.Load(),
		Agents: n.interest.agents.size(), Channels: n.interest.channels.size(), Homes: n.homes.size(), Breaker: n.own.breaker.word()}
	s.Ready, s.Why = n.Ready()
	nodes := map[string]int{n.cfg.Region: 1}
	for _, p := range *n.peers.Load() {
		if p.alive.Load() == 0 {
			continue
		}
		nodes[p.member.Load().Region]++
		if p.routed.Load() {
			s.Nodes++
		}
		records, bytes := p.out.backlog()
		s.Waiting, s.WaitingBytes = s.Waiting+records, s.WaitingBytes+bytes
	}
	n.mu.Lock()
	s.Redis, s.Drift = n.redis, maps.Clone(n.drift)
	n.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(n.links)) {
		l := n.links[name]
		l.mu.Lock()
		link := LinkStats{Region: name, Own: l.own, Connected: l.connected, Took: l.took, Fault: l.fault, Nodes: nodes[name]}
		l.mu.Unlock()
		link.Breaker, link.Opened = l.breaker.word(), l.breaker.openings()
		s.Links = append(s.Links, link)
	}
	return s
}

// watchRedis asks the region's Redis how it is.
func (n *Node) watchRedis() {
	start := time.Now()
	var said map[string]string
	err := n.own.try(n.ctx, func(ctx context.Context) (err error) {
		said, err = n.own.medium.info(ctx)
		return err
	})
	if err != nil {
		return
	}
	number := func(key string) int64 {
		v, _ := strconv.ParseInt(said[key], 10, 64) // absent: 0
		return v
	}
	h := RedisHealth{At: time.Now(), Took: time.Since(start), Version: cmp.Or(said["valkey_version"], said["redis_version"]), Mode: cmp.Or(said["server_mode"], said["redis_mode"]), Role: said["role"],
		UsedMemory: number("used_memory"), MaxMemory: number("maxmemory"), Evicted: number("evicted_keys"), Rejected: number("rejected_connections"),
		OpsPerS: float64(number("instantaneous_ops_per_sec")), Clients: int(number("connected_clients")), Nodes: max(int(number("nodes")), 1)}
	commands := number("total_commands_processed")
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := said["instantaneous_ops_per_sec"]; !ok && n.redisCommands > 0 && commands >= n.redisCommands { // the embedded store does not say
		h.OpsPerS = float64(commands-n.redisCommands) / max(h.At.Sub(n.redis.At).Seconds(), 0.001)
	}
	n.redis, n.redisCommands = h, commands
}

// drifts notes which settings of a node differ from here. It knows only what the
// fingerprints say, unless the node told its settings one by one.
func (n *Node) drifts(h *hello, settings string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.drift == nil {
		n.drift = map[string][]string{}
	}
	delete(n.drift, h.name)
	if h.fingerprint == n.cfg.Fingerprint {
		return
	}
	differ := []string{}
	theirs := map[string]string{}
	for pair := range strings.FieldsSeq(settings) {
		k, v, _ := strings.Cut(pair, "=")
		theirs[k] = v
	}
	if len(theirs) > 0 {
		for k, v := range n.cfg.Settings {
			if theirs[k] != v {
				differ = append(differ, k)
			}
		}
		for k := range theirs {
			if _, ok := n.cfg.Settings[k]; !ok {
				differ = append(differ, k)
			}
		}
	}
	slices.Sort(differ)
	n.drift[h.name] = differ
	n.log.Warn("cluster: a node is configured differently", "node", h.name, "settings", strings.Join(differ, " "))
}
