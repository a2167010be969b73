package app

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"agentnet/app/ask"
	"agentnet/app/roster"
	"agentnet/app/wire"
)

// rosterHandlers answer other nodes about the agents of this one.
func (a *App) rosterHandlers() map[string]ask.Handler {
	return map[string]ask.Handler{
		ask.KindAgents: func(_ context.Context, _ string, body json.RawMessage) (any, error) {
			var q roster.Query
			if err := json.Unmarshal(body, &q); err != nil {
				return nil, &wire.Error{Code: wire.BadFrame, Message: "the question cannot be read: the nodes run different versions"}
			}
			l, err := a.roster.Find(q)
			if err != nil {
				return nil, &wire.Error{Code: wire.BadFrame, Message: err.Error()}
			}
			return l, nil
		},
		ask.KindSessions: func(_ context.Context, _ string, body json.RawMessage) (any, error) {
			var o ask.Order
			if err := json.Unmarshal(body, &o); err != nil {
				return nil, &wire.Error{Code: wire.BadFrame, Message: "the question cannot be read: the nodes run different versions"}
			}
			return a.roster.Sessions(o.Agent), nil
		},
	}
}

// elsewhere asks all other nodes at one time, each into a value of its own that into
// makes, and calls take, never two at once, for those that answered.
func (a *App) elsewhere(ctx context.Context, kind string, body any, into func() (value any, take func())) (missing []string) {
	if a.node == nil {
		return nil
	}
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range a.node.Members() {
		if m.Self {
			continue
		}
		asked.Go(func() {
			value, take := into()
			err := a.orders.desk.Ask(ctx, m.Name, kind, body, value)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing = append(missing, m.Name)
				return
			}
			take()
		})
	}
	asked.Wait()
	slices.Sort(missing)
	return missing
}

// fleetAgents are the agents of all nodes.
type fleetAgents struct{ a *App }

// Find lists agents of all nodes that answer.
func (f fleetAgents) Find(ctx context.Context, q roster.Query) (roster.List, error) {
	own, err := f.a.roster.Find(q)
	if err != nil {
		return own, &wire.Error{Code: wire.BadFrame, Message: err.Error()}
	}
	lists := []roster.List{own}
	missing := f.a.elsewhere(ctx, ask.KindAgents, q, func() (any, func()) {
		var l roster.List
		return &l, func() { lists = append(lists, l) }
	})
	all := roster.Merge(q, lists...)
	all.Missing = missing
	return all, nil
}

// Sessions are those of one agent on all nodes that answer.
func (f fleetAgents) Sessions(ctx context.Context, agent string) (all []roster.Session, missing []string) {
	all = f.a.roster.Sessions(agent)
	missing = f.a.elsewhere(ctx, ask.KindSessions, ask.Order{Agent: agent}, func() (any, func()) {
		var some []roster.Session
		return &some, func() { all = append(all, some...) }
	})
	slices.SortFunc(all, func(x, y roster.Session) int { return x.Since.Compare(y.Since) })
	return all, missing
}
