//go:build linux

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// news is a channel with one publisher and one subscriber on different nodes. Every
// publication that was accepted must come, or a gap must say that some did not.
type news struct {
	t        testing.TB
	a, b     *socket
	stopping chan struct{}
	done     sync.WaitGroup

	mu       sync.Mutex
	accepted []int // numbers in the order of acceptance
	came     map[int]bool
	gaps     []int // how many had been accepted when a gap was told
}

const newsChannel = "region/news"

func newNews(t testing.TB, a, b *socket) *news {
	t.Helper()
	n := &news{t: t, a: a, b: b, stopping: make(chan struct{}), came: map[int]bool{}}
	if err := b.write(&wire.Command{ID: 3, Kind: wire.KindSubscribe, Channel: []byte(newsChannel), Class: wire.Normal}); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	n.done.Go(func() { readAll(b, func(ev *wire.Event) { n.hear(ev, ready) }) })
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("subscribe: no answer")
	}
	n.done.Go(func() { readAll(a, n.told) })
	n.done.Go(n.publish)
	return n
}

func (n *news) hear(ev *wire.Event, ready chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch ev.Kind {
	case wire.KindOK:
		if ev.ID == 3 {
			close(ready)
		}
	case wire.KindGap:
		n.gaps = append(n.gaps, len(n.accepted))
	case wire.KindMessage:
		var number int
		if _, err := fmt.Sscanf(string(ev.Message.Payload.Data), "%d", &number); err == nil {
			n.came[number] = true
		}
	}
}

// told notes the answers to publications; the id of each is its number.
func (n *news) told(ev *wire.Event) {
	if ev.Kind == wire.KindOK && ev.ID >= 1000 {
		n.mu.Lock()
		n.accepted = append(n.accepted, int(ev.ID))
		n.mu.Unlock()
	}
}

func (n *news) publish() {
	for number := 1000; ; number++ {
		select {
		case <-n.stopping:
			return
		case <-time.After(50 * time.Millisecond):
		}
		if n.a.write(&wire.Command{ID: uint64(number), Kind: wire.KindPublish, Channel: []byte(newsChannel), Payload: wire.Payload{Data: fmt.Append(nil, number)}, Class: wire.Normal}) != nil {
			return
		}
	}
}

// end stops publishing, waits until what was accepted last has come, and counts.
// missing are publications that did not come although no gap was told after them.
func (n *news) end() (sent, got, missing int) {
	n.t.Helper()
	close(n.stopping)
	waitFor(patience, func() bool {
		_, _, missing = n.count()
		return missing == 0
	}, func() {})
	sent, got, missing = n.count()
	n.a.conn.Close()
	n.b.conn.Close()
	n.done.Wait()
	return sent, got, missing
}

func (n *news) count() (sent, got, missing int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, number := range n.accepted {
		if n.came[number] {
			got++
			continue
		}
		told := false
		for _, at := range n.gaps {
			told = told || at > i
		}
		if !told {
			missing++
		}
	}
	return len(n.accepted), got, missing
}
