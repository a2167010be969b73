package relay

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// channelsHere lists the channels of this node that who may subscribe to, in the
// order of names.
func (h *Hub) channelsHere(who *Identity, match, after string, limit int) ([]ChannelInfo, string, *wire.Error) {
	glob, e := parseMatch(match)
	if e != nil {
		return nil, "", e
	}
	limit = pageSize(limit)
	names := pageOf(limit, after, func(yield func(string)) {
		for i := range h.channels {
			sh := &h.channels[i]
			sh.mu.RLock()
			for name := range sh.m {
				if name > after && glob.Match(name) && who.Subscribe.Match(name) {
					yield(name)
				}
			}
			sh.mu.RUnlock()
		}
	})
	out, next := []ChannelInfo{}, ""
	for i, name := range names {
		if i == limit {
			next = names[i-1]
			break
		}
		if info, ok := h.channelInfo(name); ok {
			out = append(out, info)
		}
	}
	return out, next, nil
}

func (h *Hub) channelInfo(name string) (ChannelInfo, bool) {
	sh := &h.channels[h.shardOf(name)]
	sh.mu.RLock()
	c := sh.m[name]
	sh.mu.RUnlock()
	if c == nil {
		return ChannelInfo{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info := ChannelInfo{Channel: c.name, Epoch: c.epoch, Offset: c.window.Last(), Subscribers: len(c.subs) - c.holes, PerSecond: c.rate, LastMS: c.lastMS, Home: c.home}
	if c.home == "" && c.settled || h.fleet == nil {
		info.Home, info.orders = h.cfg.Node, true
	}
	return info, true
}

// Channels lists the channels of all nodes that id may subscribe to, in the order of
// names. Of a channel that several nodes have, its home says where it stands, and
// the subscribers of all are added up. It waits for other nodes, within ctx and 2 s.
func (h *Hub) Channels(ctx context.Context, id *Identity, match, after string, limit int) ([]ChannelInfo, Page, error) {
	list, next, e := h.channelsHere(id, match, after, limit)
	if e != nil {
		return nil, Page{}, e
	}
	if h.fleet == nil {
		return list, Page{Next: next}, nil
	}
	q := &parcel.Query{What: parcel.AskChannels, Match: match, After: after, Limit: pageSize(limit)}
	for _, g := range id.Subscribe {
		q.Send = append(q.Send, g.String())
	}
	answers, missing := askNodes[*parcel.Listed](ctx, h, h.fleet.Nodes(nil), q)
	// A page that was cut tells nothing of names after its last.
	bound := next
	for _, a := range answers {
		if n := len(a.Channels); a.Cut && n > 0 && (bound == "" || a.Channels[n-1].Name < bound) {
			bound = a.Channels[n-1].Name
		}
		for i := range a.Channels {
			c := &a.Channels[i]
			list = append(list, ChannelInfo{Channel: c.Name, Epoch: c.Epoch, Offset: c.Offset, Subscribers: c.Subscribers,
				PerSecond: float64(c.MilliPerS) / 1000, LastMS: c.LastMS, Home: c.Home, orders: c.Home == a.Node})
		}
	}
	list = mergeChannels(list)
	if bound != "" {
		list = slices.DeleteFunc(list, func(c ChannelInfo) bool { return c.Channel > bound })
	}
	if limit = pageSize(limit); len(list) > limit {
		list, bound = list[:limit], list[limit-1].Channel
	}
	return list, h.page(strings.Clone(bound), missing), nil
}

// mergeChannels adds up what several nodes say of the same channels, in the order of
// names. What a channel's home says of it counts; where none does, the newest.
func mergeChannels(list []ChannelInfo) []ChannelInfo {
	slices.SortStableFunc(list, func(a, b ChannelInfo) int {
		if c := cmp.Compare(a.Channel, b.Channel); c != 0 || a.orders == b.orders {
			return cmp.Or(c, cmp.Compare(b.LastMS, a.LastMS))
		} else if a.orders {
			return -1
		}
		return 1
	})
	n := 0
	for i := range list {
		if n > 0 && list[n-1].Channel == list[i].Channel {
			list[n-1].Subscribers += list[i].Subscribers
			list[n-1].LastMS = max(list[n-1].LastMS, list[i].LastMS)
			continue
		}
		list[n] = list[i]
		n++
	}
	return list[:n]
}

// page is what a list of all nodes says beside its entries.
func (h *Hub) page(next string, missing []string) Page {
	return Page{Next: next, Missing: missing, Partial: len(missing) > 0 || h.fleet.Cut()}
}

// answerChannels answers another node's question.
func (h *Hub) answerChannels(node string, q *parcel.Query) bool {
	hear, err := wire.ParseGlobs(q.Send)
	if err != nil {
		return false
	}
	list, next, e := h.channelsHere(&Identity{Subscribe: hear}, q.Match, q.After, q.Limit)
	if e != nil {
		return false
	}
	found := parcel.Listed{Number: q.Number, Node: h.cfg.Node, Cut: next != ""}
	for i := range list {
		c := &list[i]
		found.Channels = append(found.Channels, parcel.Channel{Name: c.Channel, Epoch: c.Epoch, Offset: c.Offset, Subscribers: c.Subscribers,
			MilliPerS: uint64(c.PerSecond * 1000), LastMS: c.LastMS, Home: c.Home})
	}
	h.fleet.Post(node, parcel.Append(nil, &found))
	return true
}
