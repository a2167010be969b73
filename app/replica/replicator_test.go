package replica

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// equal says that all disks hold the same heads and texts, the given ones among them.
func equal(nodes []*node, want map[string]bool) string {
	for _, n := range nodes {
		if d, first := digestOf(n.disk), digestOf(nodes[0].disk); d != first {
			return fmt.Sprintf("%s and %s differ", n.name, nodes[0].name)
		}
		got := n.disk.texts()
		for text := range want {
			if !got[text] {
				return fmt.Sprintf("%s lacks %q", n.name, text)
			}
		}
		if first := nodes[0].disk.texts(); !maps.Equal(got, first) {
			return fmt.Sprintf("%s has %d texts, %s has %d", n.name, len(got), nodes[0].name, len(first))
		}
	}
	return ""
}

func digestOf(m *memory) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return digest(m.heads)
}

// converge waits until all have all and returns how long it took.
func converge(t *testing.T, within time.Duration, nodes []*node, want map[string]bool) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		why := equal(nodes, want)
		took := time.Since(start)
		if why == "" {
			return took
		}
		if took > within {
			t.Fatalf("after %v: %s", took, why)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestAChangeIsOnAllNodesWithinTwoSeconds(t *testing.T) {
	for _, c := range []struct {
		name   string
		delay  time.Duration // up to twice of it
		loss   float64
		within time.Duration
	}{
		{"one region", time.Millisecond, 0, 50 * time.Millisecond},
		{"regions 200 ms apart", 100 * time.Millisecond, 0, 500 * time.Millisecond},
		{"the broadcast is lost", time.Millisecond, 1, 2 * time.Second},
		{"the broadcast is lost between regions", 50 * time.Millisecond, 1, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newNetwork(1, c.delay)
				var nodes []*node
				for i := range 5 {
					nodes = append(nodes, w.start(t, fmt.Sprint("n", i), newMemory(fmt.Sprint("o", i)), nil))
				}
				time.Sleep(5 * time.Second)
				want := map[string]bool{}
				for round := range 20 {
					text := fmt.Sprint("text ", round)
					w.spoil(c.loss, 0)
					nodes[round%5].write(text)
					synctest.Wait()
					w.spoil(0, 0)
					want[text] = true
					converge(t, c.within, nodes, want)
					time.Sleep(time.Duration(round*137) * time.Millisecond)
				}
			})
		})
	}
}

func TestAJoiningNodeGetsAllFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(1, time.Millisecond)
		want := map[string]bool{}
		old := newMemory("o0")
		for i := range 5000 {
			text := fmt.Sprintf("%d %s", i, strings.Repeat("x", 300))
			old.write(text)
			want[text] = true
		}
		second := old.copied() // it has all of the first one's
		second.own, second.heads["o1"] = "o1", 0
		nodes := []*node{w.start(t, "n0", old, nil), w.start(t, "n1", second, nil)}
		time.Sleep(3 * time.Second)
		nodes = append(nodes, w.start(t, "n2", newMemory("o2"), nil))
		took := converge(t, 3*time.Second, nodes, want)
		t.Logf("1.5 MB in %v", took)
		w.mu.Lock()
		sent := w.bytes
		w.mu.Unlock()
		if sent > 2*5000*330 {
			t.Errorf("%d bytes were sent for 1.6 MB: more than one node answered", sent)
		}
	})
}

func TestTheLossOfTheNodeThatWroteLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(3, time.Millisecond)
		a, b, c := w.start(t, "a", newMemory("oa"), nil), w.start(t, "b", newMemory("ob"), nil), w.start(t, "c", newMemory("oc"), nil)
		time.Sleep(3 * time.Second)
		w.split([]string{"c"}, []string{"a", "b"}, true)
		a.write("only a and b have it")
		time.Sleep(time.Second)
		a.stop() // its disk is gone
		w.split([]string{"c"}, []string{"a", "b"}, false)
		converge(t, 2*time.Second, []*node{b, c}, map[string]bool{"only a and b have it": true})
		// The node comes back under its name with an empty disk.
		a = w.start(t, "a", newMemory("oa2"), nil)
		converge(t, 2*time.Second, []*node{a, b, c}, map[string]bool{"only a and b have it": true})
	})
}

func TestRestoredAndCopiedDisksTakeNewOrigins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(4, time.Millisecond)
		a, b := w.start(t, "a", newMemory("oa"), nil), w.start(t, "b", newMemory("ob"), nil)
		a.write("1")
		time.Sleep(3 * time.Second)
		backup := a.disk.copied()
		a.write("2")
		a.write("3")
		time.Sleep(3 * time.Second)
		a.stop()
		backup.write("written after the restore under number 2")
		a = w.start(t, "a", backup, nil)
		want := map[string]bool{"1": true, "2": true, "3": true, "written after the restore under number 2": true}
		converge(t, 4*time.Second, []*node{a, b}, want)

		clone := w.start(t, "clone", b.disk.copied(), nil)
		clone.write("from the clone")
		b.write("from the original under the same number")
		want["from the clone"], want["from the original under the same number"] = true, true
		converge(t, 6*time.Second, []*node{a, b, clone}, want)
		if n := clone.r.Stats().Streams["control"].Renewals + b.r.Stats().Streams["control"].Renewals; n == 0 {
			t.Error("neither the original nor the copy took a new origin")
		}
	})
}

func TestRandomFaultsEndInTheSameForAll(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newNetwork(seed, time.Duration(1+rng.IntN(100))*time.Millisecond)
			count := 3 + rng.IntN(3)
			small := func(c *Config) { c.BatchBytes, c.AnswerBytes, c.Inbox = 200, 1000, 8 }
			nodes := make([]*node, count)
			disks := map[string]int{}
			for i := range nodes {
				nodes[i] = w.start(t, fmt.Sprint("n", i), newMemory(fmt.Sprint("o", i)), small)
			}
			written := map[string]bool{}
			for step := range 120 {
				i := rng.IntN(count)
				n := nodes[i]
				switch rng.IntN(12) {
				case 0:
					w.spoil(rng.Float64()*0.8, rng.Float64()*0.3)
				case 1:
					w.spoil(0, 0)
				case 2, 3:
					w.split([]string{n.name}, n.Peers(), rng.IntN(2) == 0)
				case 4: // restart
					n.stop()
					time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
					nodes[i] = w.start(t, n.name, n.disk, small)
				case 5: // a new disk: what no other node has may be gone
					others := map[string]bool{}
					for j, o := range nodes {
						if j != i {
							maps.Copy(others, o.disk.texts())
						}
					}
					n.stop()
					for text := range written {
						if !others[text] {
							delete(written, text)
						}
					}
					disks[n.name]++
					nodes[i] = w.start(t, n.name, newMemory(fmt.Sprint("o", i, "disk", disks[n.name])), small)
				case 6:
					n.disk.mu.Lock()
					n.disk.failing = !n.disk.failing
					n.disk.mu.Unlock()
				default:
					for range 1 + rng.IntN(5) {
						text := fmt.Sprintf("%d of %s, %s", step, n.name, strings.Repeat("y", rng.IntN(90)))
						written[text] = true
						n.write(text)
						step += 1000
					}
				}
				time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
			}
			w.spoil(0, 0)
			names := []string{}
			for _, n := range nodes {
				names = append(names, n.name)
				n.disk.mu.Lock()
				n.disk.failing = false
				n.disk.mu.Unlock()
			}
			w.split(names, names, false)
			took := converge(t, 10*time.Second, nodes, written)
			for _, n := range nodes {
				if s := n.r.Stats().Streams["control"]; s.ReadFailed > 0 {
					t.Errorf("seed %d: %s: %+v", seed, n.name, s)
				}
			}
			if testing.Verbose() {
				t.Logf("seed %d: %d nodes, %d texts, the same after %v", seed, count, len(written), took)
			}
		})
	}
}

func TestAnIdleFleetSaysLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(1, time.Millisecond)
		var nodes []*node
		for i := range 10 {
			n := w.start(t, fmt.Sprint("n", i), newMemory(fmt.Sprint("o", i)), nil)
			n.disk.write(fmt.Sprint("of ", i))
			nodes = append(nodes, n)
		}
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		before := w.sent
		w.mu.Unlock()
		time.Sleep(100 * time.Second)
		w.mu.Lock()
		perNode := float64(w.sent-before) / 100 / 10
		w.mu.Unlock()
		if perNode > 9.5 { // one broadcast a second to nine others
			t.Errorf("an idle node sends %.1f parcels a second, want 9", perNode)
		}
		for _, n := range nodes {
			if s := n.r.Stats().Streams["control"]; !s.Equal || s.Peers != 9 {
				t.Errorf("%s: %+v, want it equal with 9 peers", n.name, s)
			}
			n.stop()
		}
	})
}

func TestParcelsOfOthersDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(1, time.Millisecond)
		n := w.start(t, "n", newMemory("o"), func(c *Config) { c.Inbox = 4 })
		n.write("mine")
		time.Sleep(time.Second)
		n.r.Receive("x", nil)
		n.r.Receive("x", []byte{9, 9, 9})
		n.r.Receive("x", (&parcel{kind: kindBeat, stream: "another"}).append(nil))
		for range 100 {
			n.r.Receive("x", (&parcel{kind: kindWant, stream: "control", heads: map[string]uint64{"o": 1 << 62}}).append(nil))
			n.r.Receive("x", (&parcel{kind: kindBatch, stream: "control", batch: Batch{Origin: "z", After: 5, UpTo: 6}}).append(nil))
		}
		time.Sleep(5 * time.Second)
		st := n.r.Stats()
		if st.Malformed != 2 || st.Unknown != 1 || st.Streams["control"].InboxFull == 0 {
			t.Errorf("got %+v, want 2 malformed, 1 unknown and some dropped", st)
		}
		if texts := n.disk.texts(); len(texts) != 1 || !texts["mine"] {
			t.Errorf("got %v, want what was written", texts)
		}
		n.stop()
	})
}
