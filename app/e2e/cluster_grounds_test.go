package e2e_test

import (
	"testing"

	"agentnet/app"
	"agentnet/app/cluster/redistest"
)

// essence is the part of the protocol that the further kinds of Redis must speak:
// what goes from node to node, through channels and their history, and through the
// mailbox. All of it runs on the grounds of cluster_protocol_test.go.
var essence = []string{"send", "request", "channels", "dedup", "resume", "outcome"}

// TestClusterProtocolOverTLS: an own authority, a certificate of the nodes, and a user
// with the rights that the manual gives. Redis may not have refused it anything.
func TestClusterProtocolOverTLS(t *testing.T) {
	s := redistest.Secure(t, redistest.Redis, "--requirepass", "secret")
	url := s.User()
	g := &ground{flush: func() { s.Must("FLUSHALL") }}
	for _, node := range over(url, 3) {
		g.nodes = append(g.nodes, func(c *app.Config) {
			node(c)
			c.RedisTLS = app.RedisTLS{CA: s.Papers.CA, Cert: s.Papers.ClientCert, Key: s.Papers.ClientKey}
		})
	}
	g.speak(t, essence...)
	if refused := s.Refused(); len(refused) > 0 {
		t.Errorf("the user of the manual was refused %q", refused)
	}
}

// TestClusterProtocolOnValkey runs on a Valkey Cluster with sharded Pub/Sub.
func TestClusterProtocolOnValkey(t *testing.T) {
	c := redistest.StartClusterOf(t, redistest.Valkey)
	g := &ground{nodes: over(c.URL(), 3), flush: func() {
		for _, s := range c.Servers {
			s.Must("FLUSHALL")
		}
	}}
	g.speak(t, essence...)
}

// TestClusterProtocolOnOldRedis runs on the last Redis without sharded Pub/Sub.
func TestClusterProtocolOnOldRedis(t *testing.T) {
	s := redistest.SingleOf(t, redistest.Redis6, "--requirepass", "secret")
	g := &ground{nodes: over(s.User(), 3), flush: func() { s.Must("FLUSHALL") }}
	g.speak(t, essence...)
	if refused := s.Refused(); len(refused) > 0 {
		t.Errorf("the user of the manual was refused %q", refused)
	}
}
