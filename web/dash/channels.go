package dash

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
	"agentnet/web/ui"
)

// channelsView is the page of channels.
type channelsView struct {
	r            *request
	lead, filter string
	columns      []column
	rows         []channelRow
	from, to, of int
	before, next string
}

type channelRow struct {
	relay.ChannelInfo
	share  float64
	fanout float64 // deliveries a second
	gauge  ui.Gauge
	hot    bool // holds more of the traffic than is good for one home
	last   string
}

// hotShare is the share of all messages from where on a channel is called hot:
// it cannot be spread over nodes, since one node orders it.
const hotShare = 0.4

// everybody may look at all channels.
func everybody() *relay.Identity {
	all, err := wire.ParseGlobs([]string{"**"})
	if err != nil {
		panic(err) // the text is a constant
	}
	return &relay.Identity{Subscribe: all, Send: all}
}

// channelCache keeps the newest list, so that many viewers ask once.
type channelCache struct {
	mu      sync.Mutex
	at      time.Time           // Guarded by mu.
	all     []relay.ChannelInfo // Guarded by mu; its elements are never changed.
	partial bool                // Guarded by mu.
	missing []string            // nodes that did not answer. Guarded by mu.
}

const (
	// maxChannels bounds the channels of one page's list.
	maxChannels = 20_000
	// channelsWait bounds how long other nodes are waited for, over all pages.
	channelsWait = 2 * time.Second
)

// allChannels lists the channels of all nodes, the busiest first.
func (b *Board) allChannels() []relay.ChannelInfo {
	s := &b.channelCache
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) < listFor {
		return s.all
	}
	var out []relay.ChannelInfo
	who, after := everybody(), ""
	ctx, cancel := context.WithTimeout(context.Background(), channelsWait)
	defer cancel()
	s.partial, s.missing = false, nil
	for {
		some, page, err := b.cfg.Relay.Channels(ctx, who, "", after, 1000)
		if err != nil {
			b.cfg.Logger.Warn("channels could not be listed", "error", err)
			break
		}
		out = append(out, some...)
		s.partial = s.partial || page.Partial
		for _, node := range page.Missing {
			if !slices.Contains(s.missing, node) {
				s.missing = append(s.missing, node)
			}
		}
		if page.Next == "" || len(out) >= maxChannels {
			break
		}
		after = page.Next
	}
	slices.SortStableFunc(out, func(a, b relay.ChannelInfo) int { return cmp.Compare(b.PerSecond, a.PerSecond) })
	s.all, s.at = out, time.Now()
	return out
}

func (b *Board) channels(r *request) (*view, error) {
	if r.c != nil {
		if ending := wants(r.c); ending != "" {
			t, err := b.channelTable(r)
			if err != nil {
				return nil, err
			}
			return nil, t.send(&b.pack, r.c, "channels", ending)
		}
	}
	v := &channelsView{r: r, filter: r.query.Get("q")}
	rows, sum := b.channelRows(r)
	v.lead = fmt.Sprintf("%s, %s messages a second, on all nodes.", ui.Plural(len(b.allChannels()), "channel", "channels"), ui.Rate(sum)) + b.channelGaps()
	if len(rows) > 0 && rows[0].share >= hotShare && sum >= 10 {
		v.lead += fmt.Sprintf(" %s alone has %.0f%% of them: one node orders a channel, so that more nodes do not help it.", rows[0].Channel, rows[0].share*100)
	}
	v.columns = sortable(r, "rate", []column{{name: "Channel", path: "channel"}, {name: "msg/s", path: "rate", wide: true}, {name: "Share", class: "num p2"},
		{name: "Subscribers", path: "subscribers", class: "num"}, {name: "Delivered/s", path: "fanout", class: "num p2"}, {name: "Offset", path: "offset", class: "num p3"}, {name: "Last", path: "last", class: "num p2"}})
	sortChannels(rows, r.query.Get("sort"))
	v.of = len(rows)
	page := atoi(r.query.Get("page"), 0, 10_000)
	v.from = min(page*rowsOnPage, max(0, (v.of-1)/rowsOnPage*rowsOnPage))
	v.to = min(v.from+rowsOnPage, v.of)
	v.rows = rows[v.from:v.to]
	if v.from > 0 {
		v.before = r.with("page", strconv.Itoa(v.from/rowsOnPage-1))
	}
	if v.to < v.of {
		v.next = r.with("page", strconv.Itoa(v.from/rowsOnPage+1))
	}
	return &view{title: "Channels", body: channelsPage(v), every: 2, plain: true, parts: []part{{"channels-lead", channelsLead(v)}, {"channels-rows", channelsTable(v)}}}, nil
}

// channelGaps says which nodes the newest list knows nothing of.
func (b *Board) channelGaps() string {
	s := &b.channelCache
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.missing) > 0:
		return " Not answered in time: " + strings.Join(s.missing[:min(len(s.missing), 10)], ", ") + "; what only they know is missing."
	case s.partial:
		return " Other nodes cannot be reached now; what only they know is missing."
	}
	return ""
}

// channelRows are the channels that match the filter, with their shares of all.
func (b *Board) channelRows(r *request) (out []channelRow, sum float64) {
	all := b.allChannels()
	top := 0.0
	for i := range all {
		sum += all[i].PerSecond
		top = max(top, all[i].PerSecond)
	}
	filter := r.query.Get("q")
	for i := range all {
		if !strings.Contains(all[i].Channel, filter) {
			continue
		}
		row := channelRow{ChannelInfo: all[i], fanout: all[i].PerSecond * float64(all[i].Subscribers), last: "never"}
		if sum > 0 {
			row.share = row.PerSecond / sum
		}
		row.hot = row.share >= hotShare && row.PerSecond >= 10
		row.gauge = ui.Gauge{Now: row.PerSecond, Full: max(top, 1e-9) / 0.96, Label: ui.Rate(row.PerSecond) + " messages a second, " + share(row.share) + " of all"}
		if row.LastMS > 0 {
			row.last = r.stamp(time.UnixMilli(row.LastMS))
		}
		out = append(out, row)
	}
	return out, sum
}

var channelSorts = map[string]func(a, b *channelRow) int{
	"channel":     func(a, b *channelRow) int { return cmp.Compare(b.Channel, a.Channel) },
	"rate":        func(a, b *channelRow) int { return cmp.Compare(a.PerSecond, b.PerSecond) },
	"subscribers": func(a, b *channelRow) int { return cmp.Compare(a.Subscribers, b.Subscribers) },
	"fanout":      func(a, b *channelRow) int { return cmp.Compare(a.fanout, b.fanout) },
	"offset":      func(a, b *channelRow) int { return cmp.Compare(a.Offset, b.Offset) },
	"last":        func(a, b *channelRow) int { return cmp.Compare(a.LastMS, b.LastMS) },
}

func sortChannels(rows []channelRow, by string) {
	up := strings.HasPrefix(by, "-")
	compare, ok := channelSorts[strings.TrimPrefix(by, "-")]
	if !ok {
		compare = channelSorts["rate"]
	}
	slices.SortStableFunc(rows, func(a, b channelRow) int {
		if up {
			return compare(&a, &b)
		}
		return compare(&b, &a)
	})
}

func (b *Board) channelTable(r *request) (*table, error) {
	rows, _ := b.channelRows(r)
	sortChannels(rows, r.query.Get("sort"))
	t := &table{columns: []string{"channel", "messages_per_s", "share", "subscribers", "deliveries_per_s", "offset", "epoch", "last"}}
	for i := range rows {
		c := &rows[i]
		last := time.Time{}
		if c.LastMS > 0 {
			last = time.UnixMilli(c.LastMS)
		}
		t.add(c.Channel, c.PerSecond, c.share, c.Subscribers, c.fanout, c.Offset, c.Epoch, last)
	}
	return t, nil
}
