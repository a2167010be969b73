//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"agentnet/app/apptest/link"
	"agentnet/app/cluster/redistest"
	"agentnet/web/api"
)

// A sightline is what one node says of all nodes' agents and channels.
type sightline struct {
	agents   map[string]int // sessions
	channels map[string]string
	partial  bool
}

// page reads one page, without failing the test when the node does not answer.
func (p *process) page(path string, into any) error {
	req, err := http.NewRequest("GET", p.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	client := &http.Client{Timeout: 4 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// sightline asks a node for the agents and channels of the arena.
func (p *process) sightline() (s sightline, err error) {
	s = sightline{agents: map[string]int{}, channels: map[string]string{}}
	var agents api.AgentsReply
	if err := p.page("/v1/agents?match=e2e/**&limit=1000", &agents); err != nil {
		return s, err
	}
	var channels api.ChannelsReply
	if err := p.page("/v1/channels?match=e2e/**&limit=1000", &channels); err != nil {
		return s, err
	}
	for _, a := range agents.Agents {
		s.agents[a.Agent] = a.Sessions
	}
	for _, c := range channels.Channels {
		s.channels[c.Channel] = c.Home + " " + c.Epoch + fmt.Sprint(" ", c.Subscribers)
	}
	s.partial = agents.Partial || channels.Partial
	return s, nil
}

// differing says in what the nodes do not see the same; "": every agent is there
// once, and all know the same homes, epochs and numbers of subscribers.
func (w *town) differing(agents int) string {
	var first sightline
	for i := range w.houses {
		s, err := w.node(i).sightline()
		switch {
		case err != nil:
			return fmt.Sprintf("node %d: %v", i+1, err)
		case s.partial:
			return fmt.Sprintf("node %d does not reach all", i+1)
		case len(s.agents) != agents:
			return fmt.Sprintf("node %d sees %d agents, want %d", i+1, len(s.agents), agents)
		}
		for name, sessions := range s.agents {
			if sessions != 1 {
				return fmt.Sprintf("node %d sees %d sessions of %s", i+1, sessions, name)
			}
		}
		if i == 0 {
			first = s
		} else if !maps.Equal(s.channels, first.channels) {
			return fmt.Sprintf("node %d sees the channels %v, node 1 %v", i+1, s.channels, first.channels)
		}
	}
	return ""
}

// TestClusterReunion splits four nodes in halves, of which one cannot reach Redis:
// one of its nodes hears nothing, the other is refused. All go on with the agents
// that they have; when the way is back all are one fleet again, nobody is doubled,
// and what was lost is told by a gap.
func TestClusterReunion(t *testing.T) {
	agents, rounds := number(t, "E2E_AGENTS", 60), number(t, "E2E_ROUNDS", 1)
	hold := time.Duration(number(t, "E2E_SECONDS", 5)) * time.Second
	rate := perSecond(t, "E2E_RATE", 3)
	each, links := throughLinks(t, redistest.Single(t), 4)
	w := newTown(t, townConfig, each...)
	var longest time.Duration
	hurt := func(ways []*link.Proxy, yes bool) {
		ways[0].Silence(yes)
		ways[1].Cut(yes)
	}
	a, faults := populate(t, w, agents, rate, true, func(*arena) {
		for round := range rounds {
			half := links[2:]
			if round%2 == 1 { // the half with the first node, which may lead
				half = links[:2]
			}
			hurt(half, true)
			time.Sleep(hold)
			for i := range w.houses {
				apart := (i >= 2) == (round%2 == 0)
				f, _ := w.node(i).fleetSeen()
				s, err := w.node(i).sightline()
				if err != nil || f.Cut != apart || s.partial != apart {
					t.Errorf("node %d while the fleet is split: cut %v, answers partial %v (%v), want %v", i+1, f.Cut, s.partial, err, apart)
				}
			}
			hurt(half, false)
			healed, why := time.Now(), ""
			waitFor(converging, func() bool { why = w.differing(agents); return why == "" }, func() {
				t.Errorf("%v after the way was back: %s\n%s", converging, why, w.node(0).log)
			})
			longest = max(longest, time.Since(healed))
			time.Sleep(time.Second)
		}
	})
	gaps := 0
	for _, d := range a.record.agents {
		d.mu.Lock()
		gaps += len(d.losses)
		d.mu.Unlock()
	}
	if a.fresh.Load() != int64(agents) {
		t.Errorf("%d agents began %d sessions: a split of the nodes must not end any", agents, a.fresh.Load())
	}
	figure(t, "%d splits of 4 nodes in halves for %v, one half without Redis, under %d clients: one fleet again %v after the end at most, each agent there once; %d commands sent, %d messages received, %d gaps told, %d losses that nobody was told of, doubles or turns",
		rounds, hold, agents, longest.Round(10*time.Millisecond), a.sent.Load(), a.got.Load(), gaps, len(faults))
	w.abandon()
}
