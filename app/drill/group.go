package drill

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	// groupForms bounds how long nodes take to know each other.
	groupForms = 30 * time.Second
	// backWithin is what is promised to clients whose node or region is gone.
	backWithin = 10 * time.Second
	// alertWithin is when somebody is told at the latest: a sample speaks for its node
	// for 5 s, and what is silent for 10 s more fires.
	alertWithin = 30 * time.Second
	// perPlace is how many clients are at the place that is lost, and how many
	// elsewhere.
	perPlace = 20
)

// A hub is a node whose embedded Redis others share.
type hub struct {
	Node
	addr, password string
}

func (h hub) redis(addr string) string { return "redis://:" + h.password + "@" + addr }

// hub starts a node with a Redis for others. config is the text of its
// configuration file, "" for none.
func (s *stage) hub(ctx context.Context, name, config, password, addr string, flags ...string) (hub, error) {
	if config != "" {
		file := filepath.Join(s.Scratch, name+".yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return hub{}, fmt.Errorf("write the configuration: %w", err)
		}
		flags = append(flags, "--config", file)
	}
	n, err := s.member(ctx, name, append(flags, "--embedded-listen", addr, "--embedded-password", password)...)
	if err != nil {
		return hub{}, err
	}
	return hub{Node: n, addr: addr, password: password}, nil
}

// member starts a node of several. It gives no clients to emptier nodes, lest such a
// move is taken for a part of the fault, and stops soon.
func (s *stage) member(ctx context.Context, name string, flags ...string) (Node, error) {
	n, err := s.Place.Node(ctx, "", append(flags, "--node", name, "--rebalance-per-s", "0", "--drain-window", "100ms", "--drain-timeout", "2s")...)
	if err != nil {
		return nil, fmt.Errorf("start the node %s: %w", name, err)
	}
	return n, nil
}

// formed waits until every node routes to all others and takes the token of the
// first.
func (s *stage) formed(ctx context.Context, token string, nodes ...Node) error {
	took, ok := until(ctx, groupForms, func() bool {
		for _, n := range nodes {
			if routed(ctx, n, token) < len(nodes) {
				return false
			}
		}
		return true
	})
	if !ok {
		return fmt.Errorf("the %d nodes did not find each other within %v", len(nodes), groupForms)
	}
	s.fact("nodes that are one relay", "%d after %v", len(nodes), took.Round(time.Millisecond))
	return nil
}

// routed is how many nodes a node knows and reaches, itself among them.
func routed(ctx context.Context, n Node, token string) (count int) {
	var reply struct {
		Nodes []struct {
			Self, Routed bool
			State        string
		}
	}
	if status, err := ask(ctx, named{n, token}, "/v1/nodes", &reply); err != nil || status != 200 {
		return 0
	}
	for _, m := range reply.Nodes {
		if m.State == "ready" && (m.Self || m.Routed) {
			count++
		}
	}
	return count
}

// named is a node that is asked with the token of another one of the same relay.
type named struct {
	Node
	token string
}

func (n named) Token() string { return n.token }

// alerted says whether an alert of this key fires, by what the node says.
func alerted(ctx context.Context, n Node, key string) bool {
	var reply struct{ Alerts []struct{ Key string } }
	if status, err := ask(ctx, n, "/v1/alerts?state=firing", &reply); err != nil || status != 200 {
		return false
	}
	for _, a := range reply.Alerts {
		if a.Key == key {
			return true
		}
	}
	return false
}

// nodeLoss kills one of three nodes that share the Redis of the first.
func nodeLoss(ctx context.Context, s *stage) error {
	addr, err := freePort()
	if err != nil {
		return err
	}
	first, err := s.hub(ctx, "drill-first", "", rand.Text(), addr)
	if err != nil {
		return err
	}
	s.result.Node = "three test nodes of its own over one embedded Redis"
	var others []Node
	for _, name := range []string{"drill-second", "drill-third"} {
		n, err := s.member(ctx, name, "--redis", first.redis(addr))
		if err != nil {
			return err
		}
		others = append(others, n)
	}
	second, victim := others[0], others[1]
	if err := s.formed(ctx, first.Token(), first, second, victim); err != nil {
		return err
	}
	l := &loss{what: "the third node was killed", watch: named{second, first.Token()}, alert: "node_silent@drill-third", unhurtParty: "clients of the other nodes", strike: victim.Kill}
	if l.lost, err = s.invite(ctx, first, "lost", victim.URL(), second.URL(), first.URL()); err != nil {
		return err
	}
	if l.left, err = s.invite(ctx, first, "left", second.URL()); err != nil {
		return err
	}
	if l.voice, err = s.dial(ctx, first, first.URL(), "voice", nil); err != nil {
		return err
	}
	if err := s.rehearse(ctx, l); err != nil {
		return err
	}
	began := time.Now()
	if err := victim.Start(ctx); err != nil {
		return fmt.Errorf("start the node again: %w", err)
	}
	_, ok := until(ctx, groupForms, func() bool { return routed(ctx, second, first.Token()) == 3 })
	s.check("the node, started again", fmt.Sprintf("is one of the relay within %v", groupForms), ok, "after %v", time.Since(began).Round(time.Millisecond))
	return nil
}

// regionLoss cuts one of two regions off: from the other region and from its own
// clients. What is left of it goes on by itself, as a region behind a broken line.
func regionLoss(ctx context.Context, s *stage) error {
	north, south, lines, err := s.regions(ctx)
	if err != nil {
		return err
	}
	s.result.Node = "two test regions of its own, each with an embedded Redis"
	door, url, err := s.behind(south)
	if err != nil {
		return err
	}
	lines = append(lines, door)
	l := &loss{what: "the south is cut off", watch: north, alert: "node_silent@drill-south", unhurtParty: "the other region",
		strike: func() error {
			for _, v := range lines[:2] {
				v.Pause() // packets vanish between the regions
			}
			s.fact("connections of the region that were cut", "%d", door.Bar())
			return nil
		}}
	if l.lost, err = s.invite(ctx, north, "lost", url, north.URL()); err != nil {
		return err
	}
	if l.left, err = s.invite(ctx, north, "left", north.URL()); err != nil {
		return err
	}
	if l.voice, err = s.dial(ctx, north, north.URL(), "voice", nil); err != nil {
		return err
	}
	if err := s.rehearse(ctx, l); err != nil {
		return err
	}
	began := time.Now()
	for _, v := range lines {
		v.Resume()
	}
	for _, v := range lines[:2] {
		v.Cut() // what was held back between the regions is of another time
	}
	s.Say("the south is back")
	_, ok := until(ctx, groupForms, func() bool {
		return routed(ctx, north, north.Token()) == 2 && routed(ctx, south, north.Token()) == 2
	})
	s.check("the regions, linked again", fmt.Sprintf("are one relay within %v", groupForms), ok, "after %v", time.Since(began).Round(time.Millisecond))
	return nil
}

// regions starts two regions of one node each that reach each other's Redis through
// valves: the first leads to the north, the second to the south.
func (s *stage) regions(ctx context.Context) (north, south hub, lines []*Valve, err error) {
	var addrs []string
	for range 2 {
		addr, err := freePort()
		if err != nil {
			return north, south, nil, err
		}
		v, err := NewValve(addr)
		if err != nil {
			return north, south, nil, err
		}
		s.onEnd(v.Close)
		addrs, lines = append(addrs, addr), append(lines, v)
	}
	password := rand.Text()
	far := func(name string, v *Valve) string {
		u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: v.Addr()}
		return fmt.Sprintf("regions:\n  - name: %s\n    redis: %q\n", name, u.String())
	}
	if north, err = s.hub(ctx, "drill-north", far("south", lines[1]), password, addrs[0], "--region", "north"); err != nil {
		return north, south, nil, err
	}
	if south, err = s.hub(ctx, "drill-south", far("north", lines[0]), password, addrs[1], "--region", "south"); err != nil {
		return north, south, nil, err
	}
	return north, south, lines, s.formed(ctx, north.Token(), north, south)
}
