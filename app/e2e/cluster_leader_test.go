//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
	"agentnet/web/api"
)

// replacing is how long a region may be without a leader.
const replacing = 10 * time.Second

// fleetSeen is what a node says of the fleet; false when it does not answer soon.
func (p *process) fleetSeen() (f api.FleetReply, ok bool) {
	req, err := http.NewRequest("GET", p.url+"/v1/nodes", nil)
	if err != nil {
		return f, false
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return f, false
	}
	defer res.Body.Close()
	return f, res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(&f) == nil
}

// leader is who leads in the eyes of all nodes that are asked, "" while they differ.
func (w *town) leader(nodes ...int) (name string, fence uint64) {
	for k, i := range nodes {
		f, ok := w.node(i).fleetSeen()
		if !ok || f.Leader == "" || k > 0 && (f.Leader != name || f.Fence != fence) {
			return "", 0
		}
		name, fence = f.Leader, f.Fence
	}
	return name, fence
}

// successor waits until the nodes agree on another leader, with a greater fence.
func (w *town) successor(old string, fence uint64, nodes ...int) (name string, now uint64, took time.Duration) {
	w.t.Helper()
	begun := time.Now()
	waitFor(replacing, func() bool {
		name, now = w.leader(nodes...)
		return name != "" && name != old
	}, func() {
		w.t.Fatalf("%v after %s was lost no other node leads\n%s", replacing, old, w.node(nodes[0]).log)
	})
	if now <= fence {
		w.t.Errorf("%s leads with fence %d, want more than the %d of %s before it", name, now, fence, old)
	}
	return name, now, time.Since(begun)
}

// others are the houses beside that of a node.
func (w *town) others(name string) (house int, rest []int) {
	for i := range w.houses {
		if fmt.Sprintf("n%d", i+1) == name {
			house = i
		} else {
			rest = append(rest, i)
		}
	}
	return house, rest
}

// TestClusterLeader kills the leader, and stops the next one: another leads soon,
// and the old one, when it goes on, knows at once that it leads no more.
func TestClusterLeader(t *testing.T) {
	rounds := number(t, "E2E_ROUNDS", 1)
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, townConfig, own, own, own)
	var first string
	var fence uint64
	waitFor(replacing, func() bool { first, fence = w.leader(0, 1, 2); return first != "" }, func() { t.Fatalf("nobody leads\n%s", w.node(0).log) })
	var killed, stopped, noticed time.Duration
	for range rounds {
		house, rest := w.others(first)
		w.empty(house).kill()
		second, next, took := w.successor(first, fence, rest...)
		killed = max(killed, took)
		w.start(house)
		w.ready(house, 20*time.Second)

		old, rest := w.others(second)
		p := w.node(old)
		signal := func(s syscall.Signal) {
			if err := p.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		signal(syscall.SIGSTOP)
		third, last, took := w.successor(second, next, rest...)
		stopped = max(stopped, took)
		time.Sleep(time.Second)
		signal(syscall.SIGCONT)
		back := time.Now()
		// From its first answer on it must not call itself leader: its lease is over.
		for known := false; !known && time.Since(back) < replacing; {
			if f, ok := p.fleetSeen(); ok {
				if f.Leader == second && f.Fence <= next || strings.Contains(string(p.get("/metrics")), "\nagentnet_cluster_leader 1") {
					t.Errorf("%v after its return the old leader %s still takes itself for one: %s with fence %d", time.Since(back), second, f.Leader, f.Fence)
				}
				known = f.Leader == third && f.Fence == last
			}
			noticed = time.Since(back)
			time.Sleep(20 * time.Millisecond)
		}
		if name, now := w.leader(0, 1, 2); name != third || now != last {
			t.Errorf("%v after the return of %s it is %s that leads with fence %d, want %s with %d on all nodes", noticed, second, name, now, third, last)
		}
		w.ready(old, 20*time.Second)
		first, fence = third, last
	}
	figure(t, "%d times kill -9 and SIGSTOP of the leader of 3 nodes: another leads with a greater fence after %v and %v at most; the stopped one never called itself leader again and knew the new one after %v",
		rounds, killed.Round(10*time.Millisecond), stopped.Round(10*time.Millisecond), noticed.Round(10*time.Millisecond))
	w.abandon()
}
