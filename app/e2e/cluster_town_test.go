//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentnet/app/apptest/link"
	"agentnet/app/wire"
)

// A town is several nodes, each a process of its own with a data directory that
// outlives it, behind one balancer that knows which of them take clients.
type town struct {
	t      testing.TB
	houses []*house
	front  *link.Proxy
	token  string // made on the first node, taken by all
	led    bool   // all who live in it use the Go client, and go where nodes send them

	mu    sync.Mutex
	nodes []*process // nil while a house is empty
	turn  int
}

// newTown starts a node in each house. config is YAML of all, each adds what one
// node has for itself.
func newTown(t testing.TB, config string, each ...string) *town {
	t.Helper()
	w := &town{t: t, nodes: make([]*process, len(each))}
	for i, own := range each {
		w.houses = append(w.houses, newHouse(t, fmt.Sprintf("node: n%d\n%s%s", i+1, own, config)))
	}
	w.token = w.houses[0].token
	w.front = link.Balance(t, w.choose)
	for i := range each {
		w.start(i)
	}
	for i := range each {
		w.ready(i, 15*time.Second)
	}
	return w
}

// choose returns the next node that takes clients.
func (w *town) choose() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range w.nodes {
		w.turn++
		if p := w.nodes[w.turn%len(w.nodes)]; p != nil {
			return p.addr
		}
	}
	return ""
}

// start lets a node into a house; the balancer does not know it yet.
func (w *town) start(i int) {
	w.t.Helper()
	p := w.houses[i].start()
	p.token = w.token
	w.mu.Lock()
	w.nodes[i] = p
	w.mu.Unlock()
}

// ready waits until a node is ready and takes the token of the town.
func (w *town) ready(i int, within time.Duration) {
	w.t.Helper()
	p, why := w.node(i), ""
	waitFor(within, func() bool {
		why = p.notReady()
		return why == ""
	}, func() { w.t.Fatalf("node %d: after %v: %s\n%s", i+1, within, why, p.log) })
}

// notReady says what keeps a node from taking clients; "" is nothing.
func (p *process) notReady() string {
	for path, token := range map[string]string{"/readyz": "", "/v1/agents": p.token} {
		req, err := http.NewRequest("GET", p.url+path, nil)
		if err != nil {
			return err.Error()
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		text := make([]byte, 2048)
		n, _ := res.Body.Read(text)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Sprintf("%s: %s %s", path, res.Status, text[:n])
		}
	}
	return ""
}

// node is the process in a house; nil when it is empty.
func (w *town) node(i int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[i]
}

// empty takes a node out of the balancer.
func (w *town) empty(i int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.nodes[i]
	w.nodes[i] = nil
	return p
}

// roll restarts each node in turn, as a new version is rolled out: it drains, ends,
// comes back and is ready before the next one's turn.
func (w *town) roll(within time.Duration) (longest time.Duration) {
	w.t.Helper()
	for i := range w.houses {
		begun := time.Now()
		p := w.empty(i)
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.endsWell(within)
		w.start(i)
		w.ready(i, 15*time.Second)
		longest = max(longest, time.Since(begun))
	}
	return longest
}

// stop ends all nodes in order, together.
func (w *town) stop() {
	w.t.Helper()
	var all []*process
	for i := range w.houses {
		if p := w.empty(i); p != nil {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			all = append(all, p)
		}
	}
	for _, p := range all {
		p.endsWell(30 * time.Second)
	}
}

// abandon ends all nodes at once, after a look whether they still live: how they
// stop in order is shown elsewhere and takes its time.
func (w *town) abandon() {
	w.t.Helper()
	for i := range w.houses {
		p := w.empty(i)
		if p == nil {
			continue
		}
		select {
		case <-p.ended:
			w.t.Errorf("node %d has ended by itself: %v\n%s", i+1, p.err, p.log)
		default:
			p.kill()
		}
	}
}

// gate is the town as one node: its address is the balancer's.
func (w *town) gate() *process {
	return &process{t: w.t, token: w.token, url: "http://" + w.front.Addr(), addr: w.front.Addr(), log: &tail{}}
}

// A crossing sends from one node to another, one message after the other, and notes
// when they arrived.
type crossing struct {
	from, to *process
	name     string
	stopping chan struct{}
	done     sync.WaitGroup

	mu    sync.Mutex
	last  time.Time // when a message that arrived was sent
	count int
	took  []time.Duration
}

// cross starts the traffic between two nodes. It survives the loss of its own
// connections.
func cross(from, to *process, name string) *crossing {
	c := &crossing{from: from, to: to, name: name, stopping: make(chan struct{})}
	c.done.Go(c.run)
	return c
}

func (c *crossing) stopped() bool {
	select {
	case <-c.stopping:
		return true
	default:
		return false
	}
}

func (c *crossing) run() {
	for !c.stopped() {
		c.session()
		pauseOr(c.stopping, 100*time.Millisecond)
	}
}

// session works until one of the connections ends.
func (c *crossing) session() {
	open := func(p *process, agent string) *socket {
		conn, err := dial(p.addr, 0, 0)
		if err != nil {
			return nil
		}
		s, err := upgrade(conn, p.addr, wire.JSON, 1024)
		if err != nil {
			return nil
		}
		if _, _, err := s.hello(p.token, agent, nil); err != nil {
			s.conn.Close()
			return nil
		}
		return s
	}
	a, b := open(c.from, "cross/a-"+c.name), open(c.to, "cross/b-"+c.name)
	if a == nil || b == nil {
		for _, s := range []*socket{a, b} {
			if s != nil {
				s.conn.Close()
			}
		}
		return
	}
	arrived := make(chan struct{}, 64)
	var reading sync.WaitGroup
	reading.Go(func() { readAll(a, func(*wire.Event) {}) })
	reading.Go(func() {
		readAll(b, func(ev *wire.Event) {
			if ev.Kind == wire.KindMessage {
				_ = b.write(&wire.Command{Kind: wire.KindAck, Seq: ev.Message.Seq, Class: wire.Normal})
				select {
				case arrived <- struct{}{}:
				default:
				}
			}
		})
	})
	defer reading.Wait()
	defer b.conn.Close()
	defer a.conn.Close()
	for !c.stopped() {
		begun := time.Now()
		if a.write(&wire.Command{Kind: wire.KindSend, To: []byte("cross/b-" + c.name), Payload: wire.Payload{Data: []byte(`"x"`)}, Class: wire.Normal}) != nil {
			return
		}
		select {
		case <-arrived:
			c.mu.Lock()
			c.last, c.count, c.took = begun, c.count+1, append(c.took, time.Since(begun))
			c.mu.Unlock()
		case <-time.After(500 * time.Millisecond):
			for len(arrived) > 0 { // what comes late is of an older one
				<-arrived
			}
		case <-c.stopping:
		}
		pauseOr(c.stopping, 20*time.Millisecond)
	}
}

// readAll reads until the end of the connection.
func readAll(s *socket, each func(*wire.Event)) {
	var ev wire.Event
	for s.read(&ev, each) == nil {
	}
	s.conn.Close()
}

func pauseOr(stop <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-stop:
	case <-t.C:
	}
}

// since says whether a message arrived that was sent after a moment.
func (c *crossing) since(moment time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last.After(moment)
}

// stop ends the traffic and returns how many arrived.
func (c *crossing) stop() int {
	close(c.stopping)
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}
