package dash

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// forecasting is an engine whose fleet has regions.
type forecasting struct {
	watched
	out  watch.Outlook
	read []string // whose history was read
}

func (f *forecasting) Outlook() watch.Outlook    { return f.out }
func (f *forecasting) Status() watch.Status      { return watch.Status{} }
func (f *forecasting) Answers() []watch.Answer   { return nil }
func (f *forecasting) Silences() []scale.Silence { return nil }
func (f *forecasting) Log(context.Context, scale.LogFilter) ([]scale.LogEntry, error) {
	return nil, nil
}

func (f *forecasting) History(_ context.Context, q watch.HistoryQuery) (watch.History, error) {
	h := watch.History{From: q.From, To: q.To, Step: 15 * time.Minute}
	for _, node := range q.Nodes {
		f.read = append(f.read, node)
		for _, sig := range q.Signals {
			tr := watch.Trend{Node: node, Signal: sig}
			for at := q.From; at.Before(q.To); at = at.Add(h.Step) {
				tr.Points = append(tr.Points, watch.TrendPoint{At: at, Count: 1, Min: 90, Avg: 100, Max: 110})
			}
			h.Trends = append(h.Trends, tr)
		}
	}
	return h, nil
}

// TestCapacityDrawsEachRegion has one card a region beside that of all, with what
// came, what had been expected and the band, and none of them for a single region.
func TestCapacityDrawsEachRegion(t *testing.T) {
	now := time.Now().UTC().Truncate(15 * time.Minute)
	days := func(v float64) (next, recent []watch.Predicted) {
		for i := range 96 {
			at := time.Duration(i) * 15 * time.Minute
			next = append(next, watch.Predicted{At: now.Add(at), Value: v, Low: v - 10, High: v + 10})
			recent = append(recent, watch.Predicted{At: now.Add(at - 24*time.Hour), Value: v})
		}
		return next, recent
	}
	one := func(name string, own bool, v float64) watch.RegionOutlook {
		r := watch.RegionOutlook{Region: name, Own: own, Good: true, Why: "good"}
		r.Next, r.Recent = days(v)
		return r
	}
	short := watch.RegionOutlook{Region: "far", Why: "2 h of history, want a day"}
	for _, c := range []struct {
		name    string
		regions []watch.RegionOutlook
		want    []string // titles
		read    []string
	}{
		{"one region", nil, []string{"Forecast of connections"}, []string{""}},
		{"three regions", []watch.RegionOutlook{one("east", true, 100), one("west", false, 300), short},
			[]string{"Forecast of connections, all regions", "Forecast of connections, east", "Forecast of connections, west", "Forecast of connections, far"}, []string{"", "@east", "@west"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &forecasting{watched: watched{fleet: scale.FleetOf(now, nil, scale.FleetConfig{}), rules: scale.DefaultRules(), capacity: scale.DocumentCapacity()}}
			f.out = watch.Outlook{Good: true, Why: "good", Regions: c.regions}
			f.out.Next, f.out.Recent = days(400)
			_, url := newBoard(t, &fakeRelay{fakeNode: fakeNode{stats: relay.Stats{Level: "normal"}}}, Viewer, func(b *BoardConfig) { b.Sources.Scaling = f })
			resp, err := http.Get(url + "/capacity")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("got %d, %v\n%s", resp.StatusCode, err, text)
			}
			page := string(text)
			for _, title := range c.want {
				if strings.Count(page, ">"+title+"</h2>") != 1 {
					t.Errorf("got no card %q, or several", title)
				}
			}
			if got := strings.Count(page, "Connections, yesterday and tomorrow"); got < len(c.read) {
				t.Errorf("got %d charts, want %d", got, len(c.read))
			}
			if got := fmt.Sprint(f.read); got != fmt.Sprint(c.read) {
				t.Errorf("read the history of %v, want %v", got, c.read)
			}
			if c.regions != nil && (!strings.Contains(page, "No forecast yet: 2 h of history, want a day.") || strings.Count(page, "region is scaled by it") != 1) {
				t.Error("the page does not say what is not forecast, and which region is scaled by its own")
			}
		})
	}
}
