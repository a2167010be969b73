package relay

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/relay/parcel"
	"agentnet/app/wire"
)

// queryTime is how long a question to all nodes waits for their answers.
const queryTime = 2 * time.Second

// questions are those that wait for answers of other nodes.
type questions struct {
	mu sync.Mutex
	m  map[uint64]*question
}

// A question was put to several nodes.
type question struct {
	nodes   []string // that have not answered
	missing []string // that never will
	answers []parcel.Body
	done    chan struct{}
}

// askNodes puts a question to nodes and waits for their answers, or until ctx ends.
// missing are the nodes whose answers did not come.
func askNodes[A parcel.Body](ctx context.Context, h *Hub, nodes []string, q *parcel.Query) (answers []A, missing []string) {
	if len(nodes) == 0 || ctx.Err() != nil {
		return nil, nodes
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	q.Number = h.crossLast.Add(1)
	v := &question{nodes: slices.Clone(nodes), done: make(chan struct{})}
	h.questions.mu.Lock()
	h.questions.m[q.Number] = v
	h.questions.mu.Unlock()
	p := parcel.Append(nil, q)
	for _, node := range nodes {
		if !h.fleet.Post(node, p) {
			h.answered(q.Number, node, nil)
		}
	}
	select {
	case <-v.done:
	case <-ctx.Done():
	}
	h.questions.mu.Lock()
	defer h.questions.mu.Unlock()
	delete(h.questions.m, q.Number)
	for _, a := range v.answers {
		if a, ok := a.(A); ok {
			answers = append(answers, a)
		}
	}
	missing = append(v.missing, v.nodes...)
	slices.Sort(missing)
	return answers, missing
}

// answered notes a node's answer, or that there will be none.
func (h *Hub) answered(number uint64, node string, a parcel.Body) {
	h.questions.mu.Lock()
	defer h.questions.mu.Unlock()
	v := h.questions.m[number]
	if v == nil {
		return
	}
	i := slices.Index(v.nodes, node)
	if i < 0 {
		return
	}
	v.nodes = slices.Delete(v.nodes, i, i+1)
	if a != nil {
		v.answers = append(v.answers, a)
	} else {
		v.missing = append(v.missing, node)
	}
	if len(v.nodes) == 0 {
		close(v.done)
	}
}

// questionsLeft ends the wait for a node's answers.
func (h *Hub) questionsLeft(node string) {
	h.questions.mu.Lock()
	var numbers []uint64
	for n := range h.questions.m {
		numbers = append(numbers, n)
	}
	h.questions.mu.Unlock()
	for _, n := range numbers {
		h.answered(n, node, nil)
	}
}

// landFound takes an answer about agents.
func (h *Hub) landFound(node string, b []byte) bool {
	v := new(parcel.Found)
	if !parcel.Read(b, v) {
		return false
	}
	h.answered(v.Number, node, v)
	return true
}

// landListed takes an answer about channels.
func (h *Hub) landListed(node string, b []byte) bool {
	v := new(parcel.Listed)
	if !parcel.Read(b, v) {
		return false
	}
	h.answered(v.Number, node, v)
	return true
}

// landQuery answers another node's question.
func (h *Hub) landQuery(node string, b []byte) bool {
	var v parcel.Query
	if !parcel.Read(b, &v) {
		return false
	}
	found := parcel.Found{Number: v.Number}
	switch v.What {
	case parcel.AskAgents:
		send, err := wire.ParseGlobs(v.Send)
		if err != nil {
			return false
		}
		list, next, e := h.directoryHere(&Identity{Send: send}, v.Self, v.Match, v.After, v.Limit)
		if e != nil {
			return false
		}
		found.Agents, found.Cut = list, next != ""
	case parcel.AskMembers:
		for _, name := range h.membersHere([]byte(v.Channel)) {
			found.Agents = append(found.Agents, infoOf(h.memberHere(name)))
		}
	case parcel.AskAgent:
		if m := h.memberHere(v.Agent); m.State != wire.Offline {
			found.Agents = append(found.Agents, infoOf(m))
		}
	case parcel.AskChannels:
		return h.answerChannels(node, &v)
	default:
		return false
	}
	h.fleet.Post(node, parcel.Append(nil, &found))
	return true
}

func infoOf(m wire.Member) wire.AgentInfo {
	return wire.AgentInfo{Agent: m.Agent, State: m.State, Sessions: m.Sessions, LastActiveMS: m.LastActiveMS, Queue: m.Queue}
}

func memberOf(a wire.AgentInfo) wire.Member {
	return wire.Member{Agent: a.Agent, State: a.State, Sessions: a.Sessions, LastActiveMS: a.LastActiveMS, Queue: a.Queue}
}

// merge adds up what several nodes say of the same agents, in the order of names.
func merge(lists ...[]wire.AgentInfo) (out []wire.AgentInfo) {
	for _, l := range lists {
		out = append(out, l...)
	}
	slices.SortStableFunc(out, func(a, b wire.AgentInfo) int { return cmp.Compare(a.Agent, b.Agent) })
	n := 0
	for i := range out {
		if n > 0 && out[n-1].Agent == out[i].Agent {
			addUp(&out[n-1], &out[i])
			continue
		}
		out[n] = out[i]
		n++
	}
	return out[:n]
}

// addUp adds what another node says of an agent.
func addUp(a, o *wire.AgentInfo) {
	if o.Sessions > 0 && (a.Sessions == 0 || askRank(o.State, true) < askRank(a.State, true)) || a.State == wire.Offline {
		a.State = o.State
	}
	a.Sessions += o.Sessions
	a.Queue += o.Queue
	a.LastActiveMS = max(a.LastActiveMS, o.LastActiveMS)
	if a.Card == nil {
		a.Card = o.Card
	}
	if a.Keys == nil {
		a.Keys = o.Keys
	}
}

// directory lists the agents of all nodes that who may send to, in the order of
// names. It may wait for other nodes, within ctx.
func (h *Hub) directory(ctx context.Context, who *Identity, self, match, after string, limit int) (list []wire.AgentInfo, page Page, e *wire.Error) {
	list, next, e := h.directoryHere(who, self, match, after, limit)
	if e != nil || h.fleet == nil {
		return list, Page{Next: next}, e
	}
	q := &parcel.Query{What: parcel.AskAgents, Match: match, After: after, Limit: limit, Self: self}
	for _, g := range who.Send {
		q.Send = append(q.Send, g.String())
	}
	answers, missing := askNodes[*parcel.Found](ctx, h, h.fleet.Nodes(nil), q)
	// A page that was cut tells nothing of names after its last.
	bound := ""
	lists := [][]wire.AgentInfo{list}
	if next != "" {
		bound = next
	}
	for _, a := range answers {
		lists = append(lists, a.Agents)
		if n := len(a.Agents); a.Cut && n > 0 && (bound == "" || a.Agents[n-1].Agent < bound) {
			bound = a.Agents[n-1].Agent
		}
	}
	list, next = h.cutPage(merge(lists...), bound, pageSize(limit))
	return list, h.page(next, missing), nil
}

// cutPage cuts a merged page at the last name that all nodes told of, at limit
// entries, and at what one answer may hold.
func (h *Hub) cutPage(list []wire.AgentInfo, bound string, limit int) ([]wire.AgentInfo, string) {
	next := bound
	if bound != "" {
		list = slices.DeleteFunc(list, func(a wire.AgentInfo) bool { return a.Agent > bound })
	}
	size := 0
	for i := range list {
		a := &list[i]
		if size += infoOverhead + len(a.Agent) + len(a.Card) + len(a.Keys); i == limit || i > 0 && size > h.answerBytes() {
			return list[:i], strings.Clone(list[i-1].Agent)
		}
	}
	return list, next
}

// member reads one agent's standing on all nodes that hold it.
func (h *Hub) member(ctx context.Context, name string) (m wire.Member, partial bool) {
	m = h.memberHere(name)
	if h.fleet == nil {
		return m, false
	}
	var nodes []string
	for _, o := range h.hosts(nil, name) {
		nodes = append(nodes, o.Node)
	}
	answers, missing := askNodes[*parcel.Found](ctx, h, nodes, &parcel.Query{What: parcel.AskAgent, Agent: name})
	a := infoOf(m)
	for _, v := range answers {
		for i := range v.Agents {
			addUp(&a, &v.Agents[i])
		}
	}
	return memberOf(a), len(missing) > 0
}

// members lists the agents of all nodes that are in a channel, by name.
func (h *Hub) members(ctx context.Context, channel []byte) (members []wire.Member, partial bool) {
	var lists [][]wire.AgentInfo
	var here []wire.AgentInfo
	for _, name := range h.membersHere(channel) {
		here = append(here, infoOf(h.memberHere(name)))
	}
	lists = append(lists, here)
	if h.fleet != nil {
		answers, missing := askNodes[*parcel.Found](ctx, h, h.fleet.Interested(nil, string(channel)), &parcel.Query{What: parcel.AskMembers, Channel: string(channel)})
		partial = len(missing) > 0
		for _, a := range answers {
			lists = append(lists, a.Agents)
		}
	}
	members = []wire.Member{}
	for _, a := range merge(lists...) {
		members = append(members, memberOf(a))
	}
	return members[:min(len(members), membersMax)], partial
}
