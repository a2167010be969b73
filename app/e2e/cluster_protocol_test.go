package e2e_test

import (
	"fmt"
	"testing"

	"agentnet/app"
	"agentnet/app/cluster/redistest"
)

// The protocol over several nodes: the same bodies as on one, with sender and
// receiver on different nodes and sessions that come back elsewhere.

func TestClusterProtocolOnSharedEmbedded(t *testing.T) {
	const password = "shared between two"
	port := redistest.FreePort(t)
	first := func(c *app.Config) {
		c.Embedded.Listen, c.Embedded.Password = fmt.Sprint("127.0.0.1:", port), password
	}
	second := func(c *app.Config) { c.Redis = fmt.Sprintf("redis://:shared%%20between%%20two@127.0.0.1:%d", port) }
	g := &ground{nodes: []func(*app.Config){first, second}, flush: func() {}} // each fleet brings its own store
	g.speak(t)
}

func TestClusterProtocolOnRedis(t *testing.T) {
	s := redistest.Single(t, "--requirepass", "pass word")
	g := &ground{nodes: over(s.URL(), 3), flush: func() { s.Must("FLUSHALL") }}
	g.speak(t)
}

func TestClusterProtocolOnRedisCluster(t *testing.T) {
	c := redistest.StartCluster(t)
	g := &ground{nodes: over(c.URL(), 3), flush: func() {
		for _, s := range c.Servers {
			s.Must("FLUSHALL")
		}
	}}
	g.speak(t)
}

func TestClusterProtocolOverRegions(t *testing.T) {
	var regions app.RegionRules
	var servers []*redistest.Server
	for _, name := range []string{"north", "south", "west"} {
		s := redistest.Single(t)
		servers = append(servers, s)
		regions = append(regions, app.RegionRule{Name: name, Redis: s.URL()})
	}
	g := &ground{flush: func() {
		for _, s := range servers {
			s.Must("FLUSHALL")
		}
	}}
	for _, r := range regions {
		g.nodes = append(g.nodes, func(c *app.Config) { c.Region, c.Regions = r.Name, regions })
	}
	g.speak(t)
}
