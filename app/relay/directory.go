package relay

import (
	"slices"
	"strings"

	"agentnet/app/wire"
)

// Pages of lists: how many entries by default and at most.
const (
	pageDefault = 100
	pageMax     = 1000
	// infoOverhead is about what an entry has besides names and payloads.
	infoOverhead = 128
)

// directoryHere lists the agents of this node that who may send to, in the order of names. The
// caller itself (self, may be "") is always among them.
func (h *Hub) directoryHere(who *Identity, self, match, after string, limit int) ([]wire.AgentInfo, string, *wire.Error) {
	glob, e := parseMatch(match)
	if e != nil {
		return nil, "", e
	}
	limit = pageSize(limit)
	names := pageOf(limit, after, func(yield func(string)) {
		for i := range h.agents {
			sh := &h.agents[i]
			sh.mu.RLock()
			for name := range sh.m {
				if name > after && glob.Match(name) && (name == self || who.Send.Match(name)) {
					yield(name)
				}
			}
			sh.mu.RUnlock()
		}
	})
	out, next, size := make([]wire.AgentInfo, 0, min(len(names), limit)), "", 0
	for i, name := range names {
		if i == limit {
			next = names[i-1]
			break
		}
		a := h.agent([]byte(name))
		if a == nil {
			continue
		}
		st := a.standing()
		a.mu.Lock()
		said := a.profile()
		info := wire.AgentInfo{Agent: name, State: st.state, Sessions: st.sessions, LastActiveMS: st.activeMS, Queue: st.queue, Card: said.card, Keys: said.keys}
		a.mu.Unlock()
		if size += infoOverhead + len(name) + len(info.Card) + len(info.Keys); size > h.answerBytes() && len(out) > 0 {
			next = names[i-1]
			break
		}
		out = append(out, info)
	}
	return out, next, nil
}

// pageOf returns the limit+1 smallest names that each yields, sorted. It never
// holds more than twice that many.
func pageOf(limit int, after string, each func(yield func(string))) []string {
	keep := limit + 1
	names := make([]string, 0, 64)
	each(func(name string) {
		names = append(names, name)
		if len(names) >= 2*keep {
			slices.Sort(names)
			names = names[:keep]
		}
	})
	slices.Sort(names)
	if len(names) > keep {
		names = names[:keep]
	}
	for i := range names {
		names[i] = strings.Clone(names[i])
	}
	return names
}

func pageSize(limit int) int {
	if limit <= 0 {
		return pageDefault
	}
	return min(limit, pageMax)
}

// parseMatch reads the glob of a list; "" matches all.
func parseMatch(match string) (wire.Globs, *wire.Error) {
	if match == "" {
		match = "**"
	}
	globs, err := wire.ParseGlobs([]string{match})
	if err != nil {
		e := badf("match: %v", err)
		return nil, &e
	}
	return globs, nil
}
