package e2e

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/store"
)

// madeUp is one span of samples of a fleet with so many instances, connections and
// messages a second in all, as the seconds of a real one would have been summed up:
// a few seconds stand for all of them.
func madeUp(from time.Time, span time.Duration, instances int, connections, messages float64) scale.Rollup {
	r := scale.Rollup{From: from, Span: span}
	share := messages / float64(max(instances, 1)) // what one instance does
	seconds := min(int(span/time.Second), 10)
	for i := range seconds {
		wobble := 1 + 0.04*math.Sin(float64(from.Unix()+int64(i)*7))
		s := scale.Slot{At: from.Add(time.Duration(i) * span / time.Duration(seconds)), Instances: instances}
		for sig, v := range map[scale.Signal]float64{
			scale.Connections: math.Round(connections * wobble), scale.MessagesIn: messages * wobble, scale.MessagesOut: messages * wobble * 2, scale.BytesIn: messages * 160, scale.BytesOut: messages * 330,
			scale.CPU: min(0.02+share/2500*wobble, 1), scale.Memory: 0.2 + connections/1e5, scale.MemoryBytes: 64<<20 + 2e4*connections, scale.MemoryLimit: 2 << 30, scale.KernelMemory: 0.01,
			scale.ErrorRate: 0, scale.QueueBytes: share * 3 * wobble, scale.AcceptRate: connections / 900, scale.RefusedRate: 0, scale.Reconnects: 0.1, scale.Broker: 1, scale.Descriptors: 0.02,
		} {
			s.Values.Set(sig, v)
		}
		s.Delivery.Observe(time.Duration(float64(60*time.Microsecond)*wobble*(1+share/400)), uint64(messages)+1)
		s.Delivery.Observe(time.Duration(float64(400*time.Microsecond)*wobble*(1+share/400)), uint64(messages/15)+1)
		s.API.Observe(8*time.Millisecond, 2)
		r.Add(&s)
	}
	return r
}

// fill stores what a fleet of nodes that has run for so many days left behind: all
// resolutions as far as they are kept, for the fleet and for each node, and a dozen
// decisions a day. Loads follow the hour and the day of the week.
func fill(t testing.TB, dir string, days, nodes int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	db, err := store.Open(ctx, store.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	end := time.Now().Truncate(15 * time.Minute)
	names := []string{""}
	for i := range nodes {
		names = append(names, fmt.Sprintf("n%d", i+1))
	}
	past := map[int]scale.Rollup{} // by quarter of the week, of the fleet and of one node
	rows := make([]scale.NodeRollup, 0, 8192)
	put := func() {
		if err := db.PutRollups(ctx, rows, nil, end, 0); err != nil {
			t.Fatal(err)
		}
		rows = rows[:0]
	}
	for _, tier := range scale.Resolutions() {
		kept := min(tier.Keep, time.Duration(days)*24*time.Hour) - tier.Span
		for _, name := range names {
			for from := end.Add(-kept); from.Before(end); from = from.Add(tier.Span) {
				quarter := int(from.Unix()/900) % 672
				key := quarter*2 + min(len(name), 1)
				r, ok := past[key]
				if !ok {
					load := 1 + math.Sin(float64(quarter)/96*2*math.Pi)*0.8
					if quarter/96 >= 5 {
						load /= 2
					}
					r = madeUp(from, 10*time.Second, nodes, 120*load*float64(nodes), 45*load*float64(nodes))
					if name != "" {
						r = madeUp(from, 10*time.Second, 1, 120*load, 45*load)
					}
					past[key] = r
				}
				r.From, r.Span = from, tier.Span
				if rows = append(rows, scale.NodeRollup{Node: name, Rollup: r}); len(rows) == cap(rows) {
					put()
				}
			}
		}
	}
	put()
	var entries []scale.Entry
	for at := end.AddDate(0, 0, -days); at.Before(end.Add(-time.Hour)); at = at.Add(2 * time.Hour) {
		d := scale.DecisionData{Decision: scale.Decision{At: at, Live: nodes, Base: nodes, Desired: nodes + len(entries)%2, Winner: "connections", Mode: scale.Advise, Reason: "connections ask for it"}}
		e, err := scale.NewEntry(scale.KindDecision, at, "engine", "local", fmt.Sprintf("advise: scale from %d to %d", nodes, d.Decision.Desired), d)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	for part := range slices.Chunk(entries, 500) {
		if _, err := db.AppendScaleLog(ctx, "n1", part); err != nil {
			t.Fatal(err)
		}
	}
}

// folderSize is what the files of a folder take, in bytes.
func folderSize(t testing.TB, dir string) (size int64) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if info, err := f.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}
