package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/wire"
)

func TestDirectoryOfAllNodes(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		var want []string
		for i := range 30 {
			name := fmt.Sprintf("agent%02d", i)
			v.worlds[i%3].join(name)
			want = append(want, name)
		}
		asker := v.worlds[1].join("asker")
		v.worlds[0].join("asker")
		want = append(want, "asker")
		slices.Sort(want)
		v.settle()
		var got []string
		after := ""
		for {
			ok := asker.ok(&wire.Command{Kind: wire.KindAgents, Limit: 7, After: []byte(after)})
			if ok.Partial {
				t.Error("the answer is partial")
			}
			for _, a := range ok.Agents {
				got = append(got, a.Agent)
				if n := map[bool]int{true: 2, false: 1}[a.Agent == "asker"]; a.Sessions != n || a.State != wire.Available {
					t.Errorf("got %+v", a)
				}
			}
			if after = ok.Next; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		m := asker.ok(&wire.Command{Kind: wire.KindPresence, Agent: []byte("agent02")}).Members
		if len(m) != 1 || m[0].State != wire.Available || m[0].Sessions != 1 {
			t.Errorf("got %+v", m)
		}
		v.net.lose(1)
		if ok := asker.ok(&wire.Command{Kind: wire.KindAgents}); !ok.Partial || len(ok.Agents) != 11 {
			t.Errorf("got %d agents, partial %v; want the 11 of this node", len(ok.Agents), ok.Partial)
		}
	})
}

func TestMembersOfAllNodes(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		for i, w := range v.worlds {
			w.join(fmt.Sprint("s", i)).ok(subscribe("c"))
		}
		v.settle()
		ok := v.worlds[1].join("asker").ok(&wire.Command{Kind: wire.KindPresence, Channel: []byte("c")})
		var got []string
		for _, m := range ok.Members {
			got = append(got, m.Agent)
		}
		if want := []string{"s0", "s1", "s2"}; !slices.Equal(got, want) || ok.Partial {
			t.Errorf("got %v, partial %v", got, ok.Partial)
		}
	})
}

func TestRateIsSharedByNodes(t *testing.T) {
	rated := func(c *Config) { c.MessageRate = limit.NewRate(10, 10) }
	inNation(t, 2, 1, rated, func(v *nation) {
		alice := []*peer{v.worlds[0].join("alice"), v.worlds[1].join("alice")}
		v.worlds[0].join("bob")
		v.settle()
		time.Sleep(5 * time.Second)
		passed, began := 0, time.Now()
		for range 100 {
			for _, p := range alice {
				if p.ask(send("bob", "x")).Kind == wire.KindOK {
					passed++
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		want := int(10*time.Since(began).Seconds()) + 10
		if passed < want-15 || passed > want+2 {
			t.Errorf("%d messages passed, want about %d", passed, want)
		}
	})
}
