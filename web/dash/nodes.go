package dash

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"agentnet/app/scale"
	"agentnet/web/ui"
)

// nodesView is the page of nodes and regions.
type nodesView struct {
	r        *request
	lead     string
	regions  []regionRow
	nodes    []nodeLine
	skew     string
	alone    bool
	operates bool
	acts     bool // and there is another node to send clients to
	leader   string
}

// nodeLine is one node with what is known of it.
type nodeLine struct {
	Member
	kind, word string
	share      ui.Gauge
	up, seen   string
	rtt        string
	drift      string
	old        bool // another version than most
}

func (b *Board) nodes(r *request) (*view, error) {
	v := &nodesView{r: r, operates: r.who.Role >= Operator}
	now := b.cfg.Page.Now()
	members := b.members()
	v.alone = len(members) <= 1
	v.acts = v.operates && !v.alone && b.cfg.Sources.Orders != nil
	v.regions = b.regions(&now)
	total, most := 0, 1
	versions := map[string]int{}
	for i := range members {
		total += members[i].Connections
		most = max(most, members[i].Connections)
		versions[members[i].Version]++
		if members[i].Leader {
			v.leader = members[i].Name
		}
	}
	for i := range members {
		v.nodes = append(v.nodes, b.nodeLine(r, &members[i], most, total, versions))
	}
	v.skew = skewWords(members)
	v.lead = fmt.Sprintf("%s, %s.", ui.Plural(len(members), "node", "nodes"), ui.Plural(total, "connection", "connections"))
	if v.leader != "" {
		v.lead += " " + v.leader + " decides."
	}
	if len(versions) > 1 {
		v.lead += " They run different versions: finish the update."
	}
	return &view{title: "Nodes", body: nodesPage(v), plain: true, every: 2, parts: []part{{"nodes-rows", nodesTable(v)}}}, nil
}

// members are the nodes of the fleet; this one alone when there are no others.
func (b *Board) members() []Member {
	if n := b.cfg.Sources.Nodes; n != nil {
		if all := n.Members(); len(all) > 0 {
			return all
		}
	}
	s := b.cfg.Page.Now()
	m := Member{Name: s.Stats.Node, Region: s.Stats.Region, Version: b.cfg.Version, State: "ready", Self: true, Started: s.Stats.Started, Seen: s.Stats.Now, Connections: s.Stats.Connections, MessagesPerS: s.AcceptedPerS}
	if s.Stats.Draining {
		m.State = "draining"
	} else if !ready(b.cfg.Relay.Ready()) {
		m.State = "joining"
	}
	if sc := b.cfg.Sources.Scaling; sc != nil {
		f := sc.Fleet()
		for i := range f.Nodes {
			if f.Nodes[i].Name == m.Name {
				m.CPU, _ = f.Nodes[i].Values.Get(scale.CPU)
				m.Memory, _ = f.Nodes[i].Values.Get(scale.Memory)
			}
		}
	}
	return []Member{m}
}

func (b *Board) nodeLine(r *request, m *Member, most, total int, versions map[string]int) nodeLine {
	l := nodeLine{Member: *m, up: ui.Uptime(r.now.Sub(m.Started)), rtt: rttWord(m.RTT), drift: strings.Join(m.Drift, ", ")}
	switch m.State {
	case "ready":
		l.kind, l.word = "ok", "Ready"
	case "joining":
		l.kind, l.word = "info", "Joining"
	case "draining":
		l.kind, l.word = "info", "Draining"
	default:
		l.kind, l.word = "crit", "Gone"
	}
	if !m.Self && !m.Routed && m.State == "ready" {
		l.kind, l.word = "warn", "No way to it"
	}
	l.seen = "now"
	if age := r.now.Sub(m.Seen); !m.Self && age > 3*time.Second {
		l.seen = ui.Uptime(age) + " ago"
	}
	full := float64(m.Capacity)
	if full == 0 {
		full = float64(most) / 0.96
	}
	of := "no connections"
	if total > 0 {
		of = share(float64(m.Connections)/float64(total)) + " of all connections"
	}
	l.share = ui.Gauge{Now: float64(m.Connections), Full: full, Label: of}
	for v, n := range versions {
		if v != m.Version && n > versions[m.Version] {
			l.old = true
		}
	}
	return l
}

// skewWords says how evenly the connections lie.
func skewWords(members []Member) string {
	if len(members) < 2 {
		return ""
	}
	mean, top := 0.0, &members[0]
	for i := range members {
		mean += float64(members[i].Connections) / float64(len(members))
		if members[i].Connections > top.Connections {
			top = &members[i]
		}
	}
	if mean < 1 {
		return "No connections to share."
	}
	off := float64(top.Connections) / mean
	if off < 1.1 {
		return "The connections lie evenly: no node has 10% more than the mean."
	}
	return fmt.Sprintf("%s has %.0f%% more connections than the mean.", top.Name, math.Round((off-1)*100))
}

func (b *Board) nodeTable(r *request) (*table, error) {
	t := &table{columns: []string{"node", "region", "state", "self", "leader", "version", "url", "connections", "capacity", "messages_per_s", "cpu", "memory", "rtt_ms", "started", "seen", "drift"}}
	members := b.members()
	slices.SortFunc(members, func(a, c Member) int { return strings.Compare(a.Name, c.Name) })
	for _, m := range members {
		t.add(m.Name, m.Region, m.State, m.Self, m.Leader, m.Version, m.Addr, m.Connections, m.Capacity, m.MessagesPerS, m.CPU, m.Memory, m.RTT, m.Started, m.Seen, m.Drift)
	}
	return t, nil
}
