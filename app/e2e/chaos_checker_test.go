package e2e

import (
	"testing"

	"agentnet/app/wire"
)

// soundRecord is a short run in which every promise was kept: two agents, one
// channel, a resumed session, a gap that was told and a session that ended.
func soundRecord() *record {
	sent := func(n int, v verdict) *deed {
		return &deed{from: 0, to: 1, class: wire.Normal, n: n, verdict: v, begun: int64(n), ended: int64(n) + 1}
	}
	got := func(n int, seq uint64) sight {
		return sight{from: 0, to: 1, secret: "s1", class: wire.Normal, n: n, place: seq, id: string(rune('a' + n))}
	}
	heard := func(offset uint64) sight {
		return sight{from: 0, channel: true, secret: "c0", class: wire.Normal, n: 100 + int(offset), place: offset, id: string(rune('A' + offset))}
	}
	a, b := &diary{secret: "s0"}, &diary{secret: "s1"}
	a.deeds = []*deed{sent(1, delivered), sent(2, parked), sent(3, refused), sent(4, delivered), sent(5, delivered)}
	b.sights = []sight{got(1, 1), got(2, 2), heard(3), heard(4), heard(7), got(4, 3), got(5, 4)}
	b.losses = []loss{{channel: 0, missed: 2}}
	b.lineages = []lineage{{begun: 0}}
	b.listenings = []listening{{channel: 0, after: 2, last: 7}}
	return &record{agents: []*diary{a, b}, channels: []string{"c0"}}
}

// TestCheckerFindsPlantedFaults breaks a sound record in every way that the
// checker is there for.
func TestCheckerFindsPlantedFaults(t *testing.T) {
	if got := soundRecord().check(); len(got) > 0 {
		t.Fatalf("a sound record: got %v", got)
	}
	drop := func(s []sight, i int) []sight { return append(append([]sight(nil), s[:i]...), s[i+1:]...) }
	tests := []struct {
		name  string
		plant func(a, b *diary)
		want  string
	}{
		{"secret of another agent", func(_, b *diary) { b.sights[0].secret = "s0" }, faultForeign},
		{"message for another agent", func(_, b *diary) { b.sights[0].to = 0 }, faultForeign},
		{"message of another channel", func(_, b *diary) { b.sights[2].secret = "c9" }, faultForeign},
		{"bytes that nobody sent", func(_, b *diary) { b.foreign = []string{"?"} }, faultForeign},
		{"delivered, never came", func(_, b *diary) { b.sights = drop(b.sights, 0) }, faultLost},
		{"parked, never came", func(_, b *diary) { b.sights = drop(b.sights, 1) }, faultLost},
		{"one more lost than the gap tells", func(_, b *diary) {
			b.sights = drop(drop(b.sights, 6), 5)
			b.losses = append(b.losses, loss{channel: -1, missed: 1})
		}, faultLost},
		{"lost with a session that had ended before", func(a, b *diary) {
			b.sights = drop(b.sights, 6)
			b.lineages = []lineage{{begun: 1, ended: 2}, {begun: 3}}
		}, faultLost},
		{"lost with its session although it had a ttl", func(a, b *diary) {
			a.deeds[4].keep = true
			b.sights = drop(b.sights, 6)
			b.lineages = []lineage{{begun: 1, ended: 20}}
		}, faultLost},
		{"handled twice", func(_, b *diary) { b.sights = append(b.sights, b.sights[0]) }, faultDoubled},
		{"heard twice", func(_, b *diary) { b.sights = append(b.sights, b.sights[4]) }, faultDoubled},
		{"accepted twice", func(_, b *diary) {
			again := b.sights[0]
			again.id, again.lineage = "other", 1
			b.sights = append(b.sights, again)
		}, faultDoubled},
		{"overtaken", func(_, b *diary) { b.sights[0], b.sights[1] = b.sights[1], b.sights[0] }, faultOrder},
		{"offsets turned around", func(_, b *diary) { b.sights[2], b.sights[3] = b.sights[3], b.sights[2] }, faultOrder},
		{"offset missing", func(_, b *diary) { b.sights = drop(b.sights, 3) }, faultHole},
		{"last offset missing", func(_, b *diary) { b.listenings[0].last = 8 }, faultHole},
		{"gap smaller than the hole", func(_, b *diary) { b.losses[0].missed = 1 }, faultHole},
		{"send without answer", func(a, _ *diary) { a.deeds[0].verdict = unanswered }, faultSilent},
		{"request without answer", func(a, _ *diary) { a.silent = 1 }, faultSilent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := soundRecord()
			tt.plant(r.agents[0], r.agents[1])
			for _, f := range r.check() {
				if f.kind == tt.want {
					return
				}
			}
			t.Errorf("got %v, want a fault %q", r.check(), tt.want)
		})
	}
}

// TestCheckerExcusesWhatIsTold keeps the checker from crying wolf.
func TestCheckerExcusesWhatIsTold(t *testing.T) {
	tests := []struct {
		name string
		tell func(a, b *diary)
	}{
		{"a gap of one", func(_, b *diary) {
			b.sights = b.sights[:6]
			b.losses = append(b.losses, loss{channel: -1, missed: 1})
		}},
		{"a gap of unknown size", func(_, b *diary) {
			b.sights = b.sights[:5]
			b.losses = append(b.losses, loss{channel: -1}, loss{channel: 0})
		}},
		{"the session ended", func(_, b *diary) {
			b.sights = b.sights[:6]
			b.lineages = []lineage{{begun: 1, ended: 9}, {begun: 10}}
		}},
		{"a receipt says expired", func(a, b *diary) { b.sights, a.deeds[4].verdict = b.sights[:6], expired }},
		{"repeated by its sender", func(a, b *diary) {
			b.sights[5], b.sights[6] = b.sights[6], b.sights[5]
			a.deeds[4].again = true
		}},
		{"a higher class overtook", func(_, b *diary) {
			b.sights[6].class = wire.High
			b.sights[5], b.sights[6] = b.sights[6], b.sights[5]
		}},
		{"again in a later lineage", func(_, b *diary) {
			again := b.sights[0]
			again.lineage = 1
			b.sights = append(b.sights, again)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := soundRecord()
			tt.tell(r.agents[0], r.agents[1])
			if got := r.check(); len(got) > 0 {
				t.Errorf("got %v, want nothing", got)
			}
		})
	}
}
