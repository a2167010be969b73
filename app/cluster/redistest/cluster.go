package redistest

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slots is how many there are in a Redis Cluster.
const slots = 16384

// A Cluster is a Redis Cluster of three primaries without replicas, each with a
// third of the slots.
type Cluster struct {
	Servers []*Server

	t   testing.TB
	ids []string
}

// StartCluster starts three servers and waits until each of them finds the cluster
// whole. A cluster that lacks one of them serves the slots of the others.
func StartCluster(t testing.TB, options ...string) *Cluster {
	t.Helper()
	return StartClusterOf(t, Redis, options...)
}

// StartClusterOf is StartCluster of another program.
func StartClusterOf(t testing.TB, p Program, options ...string) *Cluster {
	t.Helper()
	const count = 3
	c := &Cluster{t: t}
	for range count {
		s := prepare(t, p, append([]string{"--save", "", "--appendonly", "no", "--cluster-enabled", "yes",
			"--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"}, options...)...)
		s.args = append(s.args, s.busOptions()...)
		s.Start()
		c.Servers = append(c.Servers, s)
		c.ids = append(c.ids, s.Must("CLUSTER", "MYID"))
	}
	for i, s := range c.Servers {
		from, to := i*slots/count, (i+1)*slots/count-1
		add := []string{"CLUSTER", "ADDSLOTS"} // the form that every version has
		for slot := from; slot <= to; slot++ {
			add = append(add, strconv.Itoa(slot))
		}
		s.Must(add...)
		s.Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			first := c.Servers[0]
			s.Must(append([]string{"CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(first.Port)}, first.bus()...)...)
		}
	}
	for _, s := range c.Servers {
		s.Await("finds the cluster whole", startTime, func() bool {
			text, err := s.Do("CLUSTER", "INFO")
			return err == nil && strings.Contains(text, "cluster_state:ok") && strings.Contains(text, fmt.Sprintf("cluster_known_nodes:%d", count)) &&
				strings.Contains(text, fmt.Sprintf("cluster_slots_assigned:%d", slots))
		})
	}
	return c
}

// busOptions are where the servers of a cluster meet. Before version 7 that is 10,000
// above the port, which is chosen so that both are free.
func (s *Server) busOptions() []string {
	if s.program != Redis6 {
		held, err := net.Listen("tcp", s.Addr()) // so that both ports differ
		if err != nil {
			s.t.Fatal(err)
		}
		defer held.Close()
		return []string{"--cluster-port", strconv.Itoa(FreePort(s.t)), "--cluster-allow-pubsubshard-when-down", "yes"}
	}
	for range 1000 {
		if s.Port+10_000 < 1<<16 {
			if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port+10_000)); err == nil {
				ln.Close()
				return []string{"--port", strconv.Itoa(s.Port)}
			}
		}
		s.Port = FreePort(s.t)
	}
	s.t.Fatal("no two free ports that are 10,000 apart")
	return nil
}

// bus is the last word of CLUSTER MEET with this server.
func (s *Server) bus() []string {
	if port := s.argument("--cluster-port"); port != "" {
		return []string{port}
	}
	return nil
}

// argument returns the value of a command line option.
func (s *Server) argument(name string) string {
	for i, a := range s.args {
		if a == name {
			return s.args[i+1]
		}
	}
	return ""
}

// URL is how a node is told of the cluster.
func (c *Cluster) URL() string {
	var hosts []string
	for _, s := range c.Servers {
		hosts = append(hosts, s.Addr())
	}
	user := ""
	if p := c.Servers[0].Password; p != "" {
		user = "default:" + p + "@"
	}
	return "redis+cluster://" + user + strings.Join(hosts, ",")
}

// Slot returns the slot of a key or sharded channel.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	n, err := strconv.Atoi(c.Servers[0].Must("CLUSTER", "KEYSLOT", key))
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// Owner returns which server holds a slot.
func (c *Cluster) Owner(slot int) int {
	c.t.Helper()
	for i, s := range c.Servers {
		for field := range strings.FieldsSeq(ownLine(s.Must("CLUSTER", "NODES"))) {
			from, to, many := strings.Cut(field, "-")
			a, err1 := strconv.Atoi(from)
			b, err2 := a, error(nil)
			if many {
				b, err2 = strconv.Atoi(to)
			}
			if err1 == nil && err2 == nil && a <= slot && slot <= b && a < slots {
				return i
			}
		}
	}
	c.t.Fatalf("no server holds slot %d", slot)
	return -1
}

// ownLine is what a server says of its own slots.
func ownLine(nodes string) string {
	for line := range strings.Lines(nodes) {
		if !strings.Contains(line, "myself") {
			continue
		}
		// id addr flags master ping pong epoch link slot…: only the slots are wanted.
		if fields := strings.Fields(line); len(fields) > 8 {
			return strings.Join(fields[8:], " ")
		}
	}
	return ""
}

// MoveSlot moves a slot with its keys to another server, as a resharding does.
func (c *Cluster) MoveSlot(slot, to int) {
	c.t.Helper()
	from := c.Owner(slot)
	if from == to {
		return
	}
	n := strconv.Itoa(slot)
	source, target := c.Servers[from], c.Servers[to]
	target.Must("CLUSTER", "SETSLOT", n, "IMPORTING", c.ids[from])
	source.Must("CLUSTER", "SETSLOT", n, "MIGRATING", c.ids[to])
	for end := time.Now().Add(startTime); ; {
		keys := strings.Fields(source.Must("CLUSTER", "GETKEYSINSLOT", n, "100"))
		if len(keys) == 0 {
			break
		}
		args := []string{"MIGRATE", "127.0.0.1", strconv.Itoa(target.Port), "", "0", "5000"}
		if target.Password != "" {
			args = append(args, "AUTH", target.Password)
		}
		source.Must(append(append(args, "KEYS"), keys...)...)
		if time.Now().After(end) {
			c.t.Fatalf("slot %d still has keys after %v", slot, startTime)
		}
	}
	for _, s := range []*Server{target, source} {
		s.Must("CLUSTER", "SETSLOT", n, "NODE", c.ids[to])
	}
	for i, s := range c.Servers {
		if i != from && i != to {
			s.Must("CLUSTER", "SETSLOT", n, "NODE", c.ids[to])
		}
	}
}
