package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/auth"
	pb "agentnet/app/wire/agentnetpb"
)

// crossing is how long something may be on its way between two nodes of a healthy
// fleet.
const crossing = 150 * time.Millisecond

// A ground is what the protocol is tested on: one node, or several over a Redis of
// some form. The tests of the protocol are one body for all.
type ground struct {
	nodes []func(*app.Config) // what makes each node; none is a lone node
	flush func()              // empties what the nodes share
	calm  *fleet              // is shared by all tests that want nothing special
}

// alone is one node on its embedded store.
var alone = &ground{}

// A fleet is the nodes that a test talks to. Connections and calls go to its nodes
// in turn, so that sender and receiver sit on different ones, and a session comes
// back elsewhere than it was. Of a lone node it is just that.
type fleet struct {
	*apptest.Node // the first
	nodes         []*apptest.Node
	turn          int
	only          *apptest.Node // takes all that comes, nil: all in turn
}

func lone(n *apptest.Node) *fleet { return &fleet{Node: n, nodes: []*apptest.Node{n}} }

// next is the node that the next connection goes to.
func (f *fleet) next() *apptest.Node {
	if f.only != nil {
		return f.only
	}
	f.turn++
	return f.nodes[(f.turn-1)%len(f.nodes)]
}

// stay sends all further connections to one node; nil to all in turn again.
func (f *fleet) stay(n *apptest.Node) { f.only = n }

// Token makes a token on one node and returns when all take it.
func (f *fleet) Token(agents string, change ...func(*auth.TokenSpec)) string {
	token := f.next().Token(agents, change...)
	f.await("take a token that another has made", 5*time.Second, func(n *apptest.Node) bool {
		res, err := get(n.URL+"/v1/agents", token)
		return err == nil && res.StatusCode != http.StatusUnauthorized
	})
	return token
}

// await waits until all nodes are ok. It is called for what has no event.
func (f *fleet) await(what string, within time.Duration, ok func(*apptest.Node) bool) {
	if len(f.nodes) == 1 {
		return
	}
	for end := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		i := slices.IndexFunc(f.nodes, func(n *apptest.Node) bool { return !ok(n) })
		if i < 0 {
			return
		}
		if time.Now().After(end) {
			panic(fmt.Sprintf("node %d did not %s within %v\n%s", i, what, within, f.nodes[i].Log()))
		}
	}
}

// routes says that a node knows where an agent sits.
func routes(n *apptest.Node, hello *pb.Connected) bool {
	for _, h := range n.App.Cluster().Hosts(hello.Agent) {
		if h.Node == hello.Node {
			return true
		}
	}
	return false
}

// get is an HTTP request whose failure is an answer.
func get(url, token string) (*http.Response, error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err == nil {
		res.Body.Close()
	}
	return res, err
}

// sum adds up what all nodes say.
func (f *fleet) sum(of func(*apptest.Node) int) (sum int) {
	for _, n := range f.nodes {
		sum += of(n)
	}
	return sum
}

// fleet starts the nodes of the ground, each with the same change. Without a change
// it is the one that all such tests share: their agents have names of their own.
func (g *ground) fleet(t testing.TB, change func(*app.Config)) *fleet {
	t.Helper()
	switch {
	case g.nodes == nil:
		return calmNode(t, change)
	case change != nil:
		g.flush()
		return startFleet(t, g.nodes, change)
	}
	return g.calm
}

// speak runs the protocol on a ground, or only what is named of it: first what shares
// one fleet, then the rest, of which each starts its own.
func (g *ground) speak(t *testing.T, only ...string) {
	wanted := func(name string) bool { return len(only) == 0 || slices.Contains(only, name) }
	t.Run("shared", func(t *testing.T) {
		g.calm = startFleet(t, g.nodes, nil)
		for _, e := range everywhere {
			if !e.own && wanted(e.name) {
				t.Run(e.name, func(t *testing.T) { e.body(t, g) })
			}
		}
	})
	for _, e := range everywhere {
		if e.own && wanted(e.name) {
			t.Run(e.name, func(t *testing.T) { e.body(t, g) })
		}
	}
}

// startFleet starts all nodes and returns when each of them is ready and knows all.
func startFleet(t testing.TB, nodes []func(*app.Config), change func(*app.Config)) *fleet {
	t.Helper()
	f := &fleet{}
	for i, each := range nodes {
		n := apptest.Start(t, func(c *app.Config) {
			calm(c)
			c.Node = fmt.Sprintf("n%d", i+1)
			c.Drain.Timeout = app.Duration(250 * time.Millisecond) // nobody comes for the sessions of a test that is over
			each(c)
			if change != nil {
				change(c)
			}
		})
		f.nodes = append(f.nodes, n)
	}
	t.Cleanup(func() { // together: one after the other they would hand sessions around
		var ending sync.WaitGroup
		for _, n := range f.nodes[1:] {
			ending.Go(n.Stop)
		}
		ending.Wait() // the first may hold what they share
	})
	f.Node = f.nodes[0]
	f.await("become ready", 15*time.Second, func(n *apptest.Node) bool {
		res, err := get(n.URL+"/readyz", "")
		return err == nil && res.StatusCode == http.StatusOK
	})
	return f
}

// everywhere is the protocol as every ground must speak it. own says that a test
// changes the configuration.
var everywhere = []struct {
	name string
	own  bool
	body func(*testing.T, *ground)
}{
	{"send", false, protocolSend}, {"request", false, protocolRequest}, {"receipts", false, protocolReceipts}, {"channels", false, protocolChannels},
	{"subscribe twice", false, protocolSubscribeTwice}, {"directory", false, protocolDirectory}, {"ping", false, protocolPing},
	{"dedup", false, protocolRule5Dedup}, {"names", false, protocolRule6Names}, {"sessions", false, protocolRule10Sessions}, {"unknown", false, protocolRule11Unknown},
	{"http", false, protocolHTTPMessages}, {"example", false, protocolExample}, {"payloads", false, protocolPayloads}, {"batches", false, protocolBatches},
	{"resume", true, protocolRule1Resume}, {"bounds", true, protocolRule1Bounds}, {"order", true, protocolRule2Order}, {"outcome", true, protocolRule4Outcome},
	{"presence", true, protocolPresence},
}

// over makes nodes that share one Redis.
func over(url string, count int) (nodes []func(*app.Config)) {
	for range count {
		nodes = append(nodes, func(c *app.Config) { c.Redis = url })
	}
	return nodes
}
