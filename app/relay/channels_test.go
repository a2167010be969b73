package relay

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/wire"
)

func TestChannelsOfAllNodes(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		var want []string
		var first *peer
		for i := range 30 {
			p := v.worlds[i%3].join(fmt.Sprintf("agent%02d", i))
			if i == 0 {
				first = p
			}
			name := fmt.Sprintf("room/%02d", i)
			p.ok(subscribe(name))
			want = append(want, name)
		}
		// One channel is on all three nodes; its home is the first.
		for i, w := range v.worlds {
			p := w.join(fmt.Sprint("reader", i))
			p.ok(subscribe("room/all"))
			v.settle()
		}
		want = append(want, "room/all")
		for range 5 {
			first.ok(publish("room/all", "x"))
		}
		v.worlds[1].join("outsider").ok(subscribe("secret"))
		v.settle()
		who := v.worlds[0].identity("all")
		globs, err := wire.ParseGlobs([]string{"room/*"})
		if err != nil {
			t.Fatal(err)
		}
		some := *who
		some.Subscribe = globs
		for node, w := range v.worlds {
			var got []string
			for after := ""; ; {
				list, page, err := w.hub.Channels(context.Background(), &some, "", after, 7)
				if err != nil || page.Partial || len(page.Missing) > 0 || len(list) > 7 {
					t.Fatalf("node %d: %d channels, page %+v, error %v", node+1, len(list), page, err)
				}
				for _, c := range list {
					got = append(got, c.Channel)
					if c.Channel != "room/all" {
						if c.Subscribers != 1 {
							t.Errorf("got %+v, want one subscriber", c)
						}
					} else if c.Subscribers != 3 || c.Offset != 5 || c.Home != "n1" || c.LastMS == 0 || c.Epoch == "" {
						t.Errorf("node %d: got %+v, want 3 subscribers and offset 5 of home n1", node+1, c)
					}
				}
				if after = page.Next; after == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("node %d: got %v, want %v", node+1, got, want)
			}
		}
	})
}

func TestChannelsSayWhichNodesAreMissing(t *testing.T) {
	inNation(t, 3, 1, nil, func(v *nation) {
		for i, w := range v.worlds {
			w.join(fmt.Sprint("agent", i)).ok(subscribe(fmt.Sprint("room/", i)))
		}
		v.settle()
		who := v.worlds[0].identity("all")
		ask := func() (names []string, page Page, took time.Duration) {
			begun := time.Now()
			list, page, err := v.worlds[0].hub.Channels(context.Background(), who, "", "", 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				names = append(names, c.Channel)
			}
			return names, page, time.Since(begun)
		}
		v.net.nodes["n3"].stall()
		names, page, took := ask()
		if want := []string{"room/0", "room/1"}; !slices.Equal(names, want) || !page.Partial || !slices.Equal(page.Missing, []string{"n3"}) || took > queryTime+100*time.Millisecond {
			t.Errorf("with n3 silent: got %v, page %+v after %v; want %v without n3 after %v", names, page, took, want, queryTime)
		}
		v.net.remove("n3", false)
		time.Sleep(2 * time.Second)
		if names, page, took = ask(); len(names) != 2 || page.Partial || took > 100*time.Millisecond {
			t.Errorf("when n3 is known to be gone: got %v, page %+v after %v", names, page, took)
		}
		// A caller with less time waits no longer than that.
		v.net.nodes["n2"].stall()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		begun := time.Now()
		if _, page, err := v.worlds[0].hub.Agents(ctx, who, "", "", 0); err != nil || !slices.Equal(page.Missing, []string{"n2"}) || time.Since(begun) > 400*time.Millisecond {
			t.Errorf("agents: page %+v, error %v after %v", page, err, time.Since(begun))
		}
	})
}
