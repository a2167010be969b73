package api

import (
	"net/http"

	"agentnet/app/relay"

	"github.com/gofiber/fiber/v2"
)

// A Fleet is the nodes as this one knows them.
type Fleet struct {
	// Nodes lists all, by name, this one included.
	Nodes []Node
	// Regions lists all that are configured or in which a node is, by name.
	Regions []Region
	// Cut says that this node cannot reach the others of its region.
	Cut bool
	// Leader decides for its region; "" when there is none.
	Leader string
	Fence  uint64
}

// FleetReply lists the nodes.
type FleetReply struct {
	Nodes  []Node `json:"nodes"`
	Cut    bool   `json:"cut" doc:"This node cannot reach the others of its region: the list has those that it hears."`
	Leader string `json:"leader,omitempty" doc:"Who decides for this region; absent when nobody does."`
	Fence  uint64 `json:"fence,omitempty" doc:"Number of the leader's term; it only grows."`
}

// A Node is one node of the fleet.
type Node struct {
	Node         string   `json:"node"`
	Region       string   `json:"region"`
	State        string   `json:"state" enum:"joining,ready,draining,gone"`
	Self         bool     `json:"self" doc:"The node that answered."`
	Leader       bool     `json:"leader" doc:"It decides for its region."`
	Routed       bool     `json:"routed" doc:"It and the node that answered route to each other."`
	URL          string   `json:"url,omitempty" doc:"Where clients reach it."`
	Version      string   `json:"version,omitempty"`
	Fingerprint  string   `json:"fingerprint,omitempty" doc:"Of the settings that must be equal in all nodes."`
	Drift        []string `json:"drift,omitempty" doc:"Settings in which it differs from the node that answered."`
	StartedMS    int64    `json:"started_ms" doc:"Milliseconds since 1970."`
	SeenMS       int64    `json:"seen_ms" doc:"When it was last heard."`
	RTTMS        float64  `json:"rtt_ms" doc:"To it and back over Redis; 0: not known."`
	Connections  int      `json:"connections"`
	Capacity     int      `json:"capacity,omitempty" doc:"Connections that it may hold; absent: no limit."`
	CPU          float64  `json:"cpu" doc:"Share of its processors."`
	Memory       float64  `json:"memory" doc:"Share of its memory limit."`
	MessagesPerS float64  `json:"messages_per_s"`
}

// fleet is the fleet, of which a lone node is all.
func (a *API) fleet() Fleet {
	if a.cfg.Fleet != nil {
		return a.cfg.Fleet()
	}
	s := a.cfg.Relay.Stats()
	n := Node{Node: s.Node, Region: s.Region, State: "ready", Self: true, Routed: true, URL: a.cfg.PublicURL, Version: a.cfg.Version,
		StartedMS: s.Started.UnixMilli(), SeenMS: s.Now.UnixMilli(), Connections: s.Connections}
	switch {
	case s.Draining:
		n.State = "draining"
	case !a.readiness().Ready:
		n.State = "joining"
	}
	if a.cfg.Load != nil {
		n.MessagesPerS = a.cfg.Load().MessagesPerS
	}
	return Fleet{Nodes: []Node{n}}
}

func (a *API) nodes(c *fiber.Ctx, _ *relay.Identity) error {
	f := a.fleet()
	return writeJSON(c, http.StatusOK, FleetReply{Nodes: f.Nodes, Cut: f.Cut, Leader: f.Leader, Fence: f.Fence})
}

// RegionsReply lists regions.
type RegionsReply struct {
	Regions []Region `json:"regions"`
}

// A Region is a place that clients may connect to.
type Region struct {
	Region       string   `json:"region"`
	Healthy      bool     `json:"healthy" doc:"At least one node there wants traffic, and can be reached from here."`
	Self         bool     `json:"self" doc:"The node that answered is in this region."`
	Nodes        int      `json:"nodes"`
	URL          string   `json:"url,omitempty" doc:"Where clients reach it, when that was configured."`
	Endpoints    []string `json:"endpoints,omitempty" doc:"Of the least loaded nodes there, the one with more room first."`
	Agents       int      `json:"agents"`
	Connections  int      `json:"connections"`
	Level        string   `json:"level" doc:"Overload level of the node that answered." enum:"normal,elevated,degraded,critical"`
	MessagesPerS float64  `json:"messages_per_s"`
	P95MS        float64  `json:"p95_ms" doc:"Delivery to local receivers of the node that answered, over the last seconds."`
}

func (a *API) regions(c *fiber.Ctx, _ *relay.Identity) error {
	stats := a.cfg.Relay.Stats()
	own := Region{
		Region: stats.Region, Self: true, Nodes: 1, URL: a.cfg.PublicURL,
		Healthy: a.readiness().Ready && !stats.Draining,
		Agents:  stats.Agents, Connections: stats.Connections, Level: stats.Level,
	}
	if a.cfg.Load != nil {
		load := a.cfg.Load()
		own.MessagesPerS, own.P95MS = load.MessagesPerS, milliseconds(load.P95)
	}
	reply := RegionsReply{Regions: []Region{}}
	if a.cfg.Fleet != nil {
		for _, r := range a.cfg.Fleet().Regions {
			if r.Level = "normal"; r.Self {
				r.URL, r.Level, r.P95MS = own.URL, own.Level, own.P95MS
				r.Healthy = r.Healthy || own.Healthy
			}
			reply.Regions = append(reply.Regions, r)
		}
	}
	if len(reply.Regions) == 0 {
		reply.Regions = append(reply.Regions, own)
	}
	return writeJSON(c, http.StatusOK, reply)
}
