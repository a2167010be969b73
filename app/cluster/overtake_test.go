package cluster

import (
	"encoding/binary"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingOvertakes: nobody listens to one batch for a second while Redis takes
// all others at once. The batch is sent again until it is taken, and all that was
// posted meanwhile comes, in order, with nothing told as lost.
func TestNothingOvertakes(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { overtake(t, seed) }) })
	}
}

func overtake(t *testing.T, seed uint64) {
	f := newSimFleet(t, seed, 2)
	a, b := f.nodes[0], f.nodes[1]
	defer a.stop()
	defer b.stop()
	time.Sleep(10 * time.Second)
	if ready, why := a.node.Ready(); !ready || b.relay.terms(a.name) == 0 {
		t.Fatalf("the two nodes have not met after 10 s: %s", why)
	}
	before := b.node.Stats().Lost
	a.medium.set(func(m *simMedium) { m.unheard = deafTo(4, time.Second) })
	const posts = 3000
	for n := range uint64(posts) {
		p := binary.LittleEndian.AppendUint64(nil, n)
		if !a.fleet.Post(b.name, binary.LittleEndian.AppendUint64(p, 1)) {
			t.Fatalf("parcel %d was refused", n)
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	b.relay.mu.Lock()
	defer b.relay.mu.Unlock()
	if lost := b.node.Stats().Lost - before; lost != 0 || b.relay.got != posts {
		t.Errorf("%d of %d parcels came and %d records were told as lost", b.relay.got, posts, lost)
	}
	if a.node.Stats().Retries == 0 {
		t.Error("no batch was sent again")
	}
}

// deafTo returns what simMedium.unheard asks: the nth stream batch finds nobody for so
// long, the others do.
func deafTo(nth int, during time.Duration) func([]byte) bool {
	var victim uint64
	var since time.Time
	return func(b []byte) bool {
		h, _, err := parseHeader(b)
		if err != nil || h.kind != kindStream {
			return false
		}
		if nth--; nth == 0 {
			victim, since = h.first, time.Now()
		}
		return h.first == victim && time.Since(since) < during
	}
}
