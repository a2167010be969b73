package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// MasterName is what Sentinels call the primary.
const MasterName = "agentnet"

// A Sentinel is a primary with two replicas, watched by three Sentinels that
// promote a replica when the primary does not answer for a second.
type Sentinel struct {
	Servers   []*Server // the first is the primary at the start
	Sentinels []*Server

	t testing.TB
}

// StartSentinel starts all six and waits until they know each other.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	c := &Sentinel{t: t}
	for i := range 3 {
		options := []string{"--save", "", "--appendonly", "no", "--repl-timeout", "5"}
		if i > 0 {
			options = append(options, "--replicaof", fmt.Sprintf("127.0.0.1 %d", c.Servers[0].Port))
		}
		s := prepare(t, Redis, options...)
		s.Start()
		c.Servers = append(c.Servers, s)
	}
	for _, s := range c.Servers[1:] {
		s.Await("follows the primary", startTime, func() bool { return s.Info("master_link_status") == "up" })
	}
	for range 3 {
		c.Sentinels = append(c.Sentinels, c.startSentinel())
	}
	for _, s := range c.Sentinels {
		s.Await("knows the others", startTime, func() bool {
			text, err := s.Do("SENTINEL", "MASTER", MasterName)
			return err == nil && field(text, "num-slaves") == "2" && field(text, "num-other-sentinels") == "2" && field(text, "flags") == "master"
		})
	}
	return c
}

func (c *Sentinel) startSentinel() *Server {
	c.t.Helper()
	s := &Server{t: c.t, dir: c.t.TempDir(), Port: FreePort(c.t), program: Redis}
	path := filepath.Join(s.dir, "sentinel.conf")
	config := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %d 2\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 3000\n",
		s.Port, s.dir, MasterName, c.Servers[0].Port, MasterName, MasterName)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		c.t.Fatal(err)
	}
	s.args = []string{path, "--sentinel"}
	c.t.Cleanup(s.Kill)
	s.Start()
	return s
}

// field returns the value behind a name in a reply of names and values.
func field(text, name string) string {
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if lines[i] == name {
			return lines[i+1]
		}
	}
	return ""
}

// URL is how a node is told of the Sentinels.
func (c *Sentinel) URL() string {
	var hosts []string
	for _, s := range c.Sentinels {
		hosts = append(hosts, s.Addr())
	}
	return "redis+sentinel://" + strings.Join(hosts, ",") + "/" + MasterName
}

// Primary returns the server that the Sentinels agree on now; nil when they do not.
func (c *Sentinel) Primary() *Server {
	found := ""
	for _, s := range c.Sentinels {
		text, err := s.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
		if err != nil || found != "" && text != found {
			return nil
		}
		found = text
	}
	_, port, _ := strings.Cut(found, "\n")
	for _, s := range c.Servers {
		if strconv.Itoa(s.Port) == port {
			return s
		}
	}
	return nil
}

// Failover kills the primary and waits until another one is promoted.
func (c *Sentinel) Failover() (promoted *Server) {
	c.t.Helper()
	old := c.Primary()
	if old == nil {
		c.t.Fatal("the Sentinels do not agree on a primary")
	}
	old.Kill()
	c.Sentinels[0].Await("promote a replica", 30*time.Second, func() bool {
		now := c.Primary()
		if now == nil || now == old || now.Info("role") != "master" {
			return false
		}
		promoted = now
		return true
	})
	return promoted
}
