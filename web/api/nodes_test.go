package api

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestNodes shows the list of a lone node and of a fleet, and who may read it.
func TestNodes(t *testing.T) {
	lone := newNode(t)
	if got := lone.do("GET", "/v1/nodes", goodToken, ""); got.status != 403 {
		t.Errorf("without a role: got %d, want 403", got.status)
	}
	got := lone.do("GET", "/v1/nodes", viewerToken, "")
	var reply FleetReply
	if err := json.Unmarshal([]byte(got.body), &reply); err != nil || got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if n := reply.Nodes; len(n) != 1 || n[0].Node != "n1" || n[0].State != "ready" || !n[0].Self || n[0].Connections != 1 {
		t.Errorf("got %+v, want the node alone", n)
	}

	fleet := Fleet{Leader: "n2", Fence: 7, Cut: true,
		Nodes: []Node{{Node: "n1", Region: "home", State: "ready", Self: true}, {Node: "n2", Region: "far", State: "draining", Leader: true, Drift: []string{"limits.frame_bytes"}}},
		Regions: []Region{{Region: "far", Nodes: 1, Endpoints: []string{"https://n2.example"}, Connections: 3},
			{Region: "home", Self: true, Healthy: true, Nodes: 1, Connections: 4}}}
	n := newNode(t, func(c *Config, _ *node) { c.Fleet = func() Fleet { return fleet } })
	got = n.do("GET", "/v1/nodes", viewerToken, "")
	for _, want := range []string{`"cut":true,"leader":"n2","fence":7`, `"node":"n2","region":"far","state":"draining","self":false,"leader":true`, `"drift":["limits.frame_bytes"]`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("got %s\nwant %s in it", got.body, want)
		}
	}
	got = n.do("GET", "/v1/regions", goodToken, "")
	for _, want := range []string{`{"region":"far","healthy":false,"self":false,"nodes":1,"endpoints":["https://n2.example"],"agents":0,"connections":3`,
		`{"region":"home","healthy":true,"self":true,"nodes":1,"url":"https://example.org/x","agents":0,"connections":4,"level":"elevated"`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("got %s\nwant %s in it", got.body, want)
		}
	}
}
