package relay

import (
	"slices"
	"sync"
	"time"

	"agentnet/app/wire"
)

// departure is a session of an agent that another node took over from here.
type departure struct {
	node   string
	secret secretHash
	until  int64
	known  bool // the fleet has told since that the agent is there
}

// departures remembers, for as long as others may not know it yet, where sessions
// of this node went.
type departures struct {
	mu   sync.RWMutex
	m    map[string][]departure
	owed map[string]struct{} // agents that the fleet is to be told of as gone
}

// owe notes that the fleet is to be told that an agent is gone, when it knows where
// it went; false when it did not move.
func (d *departures) owe(agent string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.m[agent]) == 0 {
		return false
	}
	if d.owed == nil {
		d.owed = make(map[string]struct{})
	}
	d.owed[agent] = struct{}{}
	return true
}

// payDebt tells the fleet that an agent is gone from here, once it knows where the
// agent is, or its time is over.
func (h *Hub) payDebt(agent string, over bool) {
	if h.departedN.Load() == 0 && !over {
		return
	}
	d := &h.departed
	d.mu.Lock()
	_, owed := d.owed[agent]
	if list := d.m[agent]; len(list) > 0 && !over {
		known, all := h.fleet.Hosts(nil, agent), true
		for i := range list {
			list[i].known = list[i].known || slices.ContainsFunc(known, func(o Host) bool { return o.Node == list[i].node })
			all = all && list[i].known
		}
		owed = owed && all
	}
	if owed {
		delete(d.owed, agent)
	}
	d.mu.Unlock()
	if !owed {
		return
	}
	sh := &h.agents[h.shardOf(agent)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a := sh.m[agent]
	if a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.told != nil {
			return // it came back
		}
	}
	h.fleet.AgentGone(agent)
}

// departureTime is how long messages that still come here for a session that moved
// are handed on.
const departureTime = 10 * time.Second

// departedTo are the nodes that lately took sessions of an agent over.
func (h *Hub) departedTo(agent string) []Host { return h.departed.to(agent, false) }

// departedUnknown are those of them of which the fleet has not told yet.
func (h *Hub) departedUnknown(agent string) []Host { return h.departed.to(agent, true) }

func (d *departures) to(agent string, unknown bool) (hosts []Host) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, v := range d.m[agent] {
		if !(unknown && v.known) && !slices.ContainsFunc(hosts, func(o Host) bool { return o.Node == v.node }) {
			hosts = append(hosts, Host{Node: v.node, State: wire.Available, Sessions: 1})
		}
	}
	return hosts
}

// noteDeparture remembers where a session went.
func (h *Hub) noteDeparture(now int64, s *Session, node string) {
	d := &h.departed
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = make(map[string][]departure)
	}
	d.m[s.agent.name] = append(d.m[s.agent.name], departure{node: node, secret: s.secret, until: now + int64(departureTime)})
	h.departedN.Add(1)
}

// noteReturn forgets where a session went that is back.
func (h *Hub) noteReturn(s *Session) {
	d := &h.departed
	d.mu.Lock()
	defer d.mu.Unlock()
	h.dropDepartures(s.agent.name, func(v departure) bool { return v.secret == s.secret })
}

// dropDepartures forgets some departures of an agent. d.mu must be held.
func (h *Hub) dropDepartures(agent string, which func(departure) bool) {
	d := &h.departed
	list := d.m[agent]
	n := len(list)
	list = slices.DeleteFunc(list, which)
	h.departedN.Add(int64(len(list) - n))
	if len(list) == 0 {
		delete(d.m, agent)
	} else {
		d.m[agent] = list
	}
}

// expireDepartures forgets what all others know by now.
func (h *Hub) expireDepartures(now int64) {
	if h.departedN.Load() == 0 {
		return
	}
	d := &h.departed
	var over []string
	defer func() {
		for _, agent := range over {
			h.payDebt(agent, true)
		}
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	for agent := range d.m {
		h.dropDepartures(agent, func(v departure) bool { return v.until <= now })
		if len(d.m[agent]) == 0 {
			over = append(over, agent)
		}
	}
}
