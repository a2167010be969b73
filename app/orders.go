package app

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"agentnet/app/ask"
	"agentnet/app/cluster"
	"agentnet/app/roster"
	"agentnet/app/wire"
	"agentnet/web/ui"
)

// orders are what operators ask of this node and, through it, of others.
type orders struct {
	desk  *ask.Desk     // nil for a lone node
	empty chan struct{} // holds one element when this node is to be emptied

	mu       sync.Mutex
	stop     context.CancelFunc // ends the emptying that runs; nil: none does
	draining bool               // by an order, until it is taken back
	shedding bool               // clients are being moved by an order
	halted   bool               // the process stops: nothing is taken back any more
}

const (
	// maxMoved bounds the clients of one rebalancing.
	maxMoved = 100_000
	// maxReason bounds the words of an operator, in bytes; they go into frames.
	maxReason = 200
)

// errNowhere refuses what needs another node.
var errNowhere = &wire.Error{Code: wire.Conflict, Message: "no other node of its region is ready to take clients: add one first, or stop this one in order (its clients resume when it is back)"}

// openOrders lets other nodes ask this one.
func (a *App) openOrders(context.Context) error {
	a.orders.empty = make(chan struct{}, 1)
	a.roster = roster.New(a.cfg.Node, a.cfg.Region, a.hub.Census)
	if a.node == nil {
		return nil
	}
	order := func(do func(ctx context.Context, o ask.Order) (ask.Done, error)) ask.Handler {
		return func(ctx context.Context, from string, body json.RawMessage) (any, error) {
			var o ask.Order
			if err := json.Unmarshal(body, &o); err != nil {
				return nil, &wire.Error{Code: wire.BadFrame, Message: "the order cannot be read: the nodes run different versions"}
			}
			done, err := do(ctx, o)
			a.log.Info("order of an operator at another node", "asked_by", from, "actor", o.Actor, "done", done.Message, "error", err)
			return done, err
		}
	}
	handlers := map[string]ask.Handler{ask.KindDrain: order(a.drainHere), ask.KindUndrain: order(a.undrainHere),
		ask.KindRebalance: order(a.rebalanceHere), ask.KindDisconnect: order(a.disconnectHere)}
	maps.Copy(handlers, a.rosterHandlers())
	maps.Copy(handlers, a.traceHandlers())
	a.orders.desk = ask.New(askBus{a.node}, handlers, a.log)
	a.node.Handle(cluster.TopicAsk, a.orders.desk.Receive)
	return nil
}

type askBus struct{ node *cluster.Node }

func (b askBus) Post(node string, parcel []byte) bool {
	return b.node.Post(cluster.TopicAsk, node, parcel)
}

// runOrders carries out what takes long, and answers other nodes, until ctx ends.
func (a *App) runOrders(ctx context.Context) error {
	var all sync.WaitGroup
	if a.orders.desk != nil {
		all.Go(func() { _ = a.orders.desk.Run(ctx) }) // ends with ctx only
	}
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-a.orders.empty:
			a.emptyOut(ctx)
		}
	}
	all.Wait()
	return nil
}

// emptyOut moves all clients away and lets the node wait, empty, for its return.
func (a *App) emptyOut(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(a.cfg.Drain.Timeout))
	defer cancel()
	a.orders.mu.Lock()
	if !a.orders.draining || a.orders.halted {
		a.orders.mu.Unlock()
		return
	}
	a.orders.stop = cancel
	a.orders.mu.Unlock()
	err := a.hub.DrainByOrder(ctx, time.Duration(a.cfg.Drain.Window))
	a.orders.mu.Lock()
	a.orders.stop = nil
	back := !a.orders.draining
	a.orders.mu.Unlock()
	switch {
	case back: // taken back while it ran, and only now is nobody sent away any more
		a.hub.Undrain()
		a.node.SetState(cluster.Ready)
	case err != nil:
		a.log.Warn("emptied by order, but not all clients left in time", "connections", a.hub.Stats().Connections)
	default:
		a.log.Info("emptied by order; the node waits for undrain or for its stop")
	}
}

// drainHere begins to empty this node.
func (a *App) drainHere(_ context.Context, o ask.Order) (ask.Done, error) {
	if a.node == nil || len(a.node.Least(a.cfg.Region, 1)) == 0 {
		return ask.Done{}, errNowhere
	}
	a.orders.mu.Lock()
	defer a.orders.mu.Unlock()
	n := a.hub.Stats().Connections
	done := ask.Done{Node: a.cfg.Node, State: "draining", Clients: n}
	if a.orders.draining {
		done.Message = fmt.Sprintf("%s drains already; %d connections are left", a.cfg.Node, n)
		return done, nil
	}
	a.orders.draining = true
	a.node.SetState(cluster.Draining)
	select {
	case a.orders.empty <- struct{}{}:
	default: // it is asked for already
	}
	a.log.Info("drain by order", "actor", o.Actor, "reason", o.Reason, "connections", n)
	done.Message = fmt.Sprintf("%s takes no new clients and sends its %d connections to others within %v; undrain takes it back", a.cfg.Node, n, time.Duration(a.cfg.Drain.Window))
	return done, nil
}

// undrainHere lets clients in again.
func (a *App) undrainHere(_ context.Context, o ask.Order) (ask.Done, error) {
	a.orders.mu.Lock()
	defer a.orders.mu.Unlock()
	if !a.orders.draining || a.orders.halted {
		if a.hub.Stats().Draining {
			return ask.Done{}, &wire.Error{Code: wire.Conflict, Message: a.cfg.Node + " drains because it stops: that cannot be taken back"}
		}
		return ask.Done{}, &wire.Error{Code: wire.Conflict, Message: a.cfg.Node + " does not drain"}
	}
	a.orders.draining = false
	if a.orders.stop != nil {
		a.orders.stop() // emptyOut does the rest at once
	} else {
		a.hub.Undrain()
		a.node.SetState(cluster.Ready)
	}
	a.log.Info("undrain by order", "actor", o.Actor, "reason", o.Reason)
	return ask.Done{Node: a.cfg.Node, State: "ready", Message: a.cfg.Node + " takes clients again"}, nil
}

// haltOrders ends what was ordered, because the process stops.
func (a *App) haltOrders() {
	a.orders.mu.Lock()
	defer a.orders.mu.Unlock()
	a.orders.halted = true
	if a.orders.stop != nil {
		a.orders.stop()
	}
}

// rebalanceHere sends some clients of this node to others.
func (a *App) rebalanceHere(_ context.Context, o ask.Order) (ask.Done, error) {
	if o.Clients < 1 || o.Clients > maxMoved {
		return ask.Done{}, &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("clients: say how many are to go, 1 to %d", maxMoved)}
	}
	if a.node == nil {
		return ask.Done{}, errNowhere
	}
	endpoints := a.node.Least(a.cfg.Region, 2)
	if len(endpoints) == 0 {
		return ask.Done{}, errNowhere
	}
	a.orders.mu.Lock()
	busy := a.orders.shedding
	a.orders.shedding = true
	a.orders.mu.Unlock()
	if busy {
		return ask.Done{}, &wire.Error{Code: wire.Conflict, Message: a.cfg.Node + " moves clients already: wait until that is done", RetryAfterMS: shedWindow.Milliseconds()}
	}
	n := min(o.Clients, a.hub.Stats().Connections)
	go func() { // bounded by the window, and one at a time
		ctx, cancel := context.WithTimeout(context.Background(), 2*shedWindow)
		defer cancel()
		moved := a.hub.ShedByOrder(ctx, n, endpoints, shedWindow)
		a.orders.mu.Lock()
		a.orders.shedding = false
		a.orders.mu.Unlock()
		a.log.Info("rebalanced by order", "actor", o.Actor, "asked", o.Clients, "clients", moved)
	}()
	return ask.Done{Node: a.cfg.Node, State: "ready", Clients: n, Message: fmt.Sprintf("%s asks %d of its clients to go to other nodes within %v", a.cfg.Node, n, shedWindow)}, nil
}

// disconnectHere ends an agent's sessions on this node; none is no fault.
func (a *App) disconnectHere(_ context.Context, o ask.Order) (ask.Done, error) {
	text := "disconnected by the operator; connect anew"
	if o.Reason != "" {
		text = "disconnected by the operator: " + o.Reason
	}
	n := a.hub.Disconnect(o.Agent, text)
	return ask.Done{Node: a.cfg.Node, Sessions: n, Message: fmt.Sprintf("%s of %s ended on %s", ui.Plural(n, "session", "sessions"), o.Agent, a.cfg.Node)}, nil
}

// nodeOrder has the named node do something.
func (a *App) nodeOrder(ctx context.Context, node, kind string, o ask.Order, here func(context.Context, ask.Order) (ask.Done, error)) (done ask.Done, err error) {
	if o.Reason, err = reasonable(o.Reason); err != nil {
		return done, err
	}
	if node == a.cfg.Node {
		done, err = here(ctx, o)
	} else {
		if a.node == nil || !slices.ContainsFunc(a.node.Members(), func(m cluster.Member) bool { return m.Name == node }) {
			return done, &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("there is no node %.64q", node)}
		}
		err = a.orders.desk.Ask(ctx, node, kind, o, &done)
	}
	if err != nil {
		return done, err
	}
	words := fmt.Sprintf("%s of %s: %s", kind, node, done.Message)
	if o.Reason != "" {
		words += " (" + o.Reason + ")"
	}
	if _, err := a.scaling.Note(ctx, o.Actor, words, 0); err != nil {
		a.log.Warn("an order could not be written into the scaling log", "order", kind, "node", node, "error", err)
	}
	return done, nil
}

// reasonable bounds what somebody wrote.
func reasonable(text string) (string, error) {
	if len(text) > maxReason || !utf8.ValidString(text) {
		return "", &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("reason: longer than %d bytes, or not UTF-8", maxReason)}
	}
	return text, nil
}

// fleetOrders are the orders as the pages and the API give them.
type fleetOrders struct{ a *App }

// Drain has a node send its clients away and take no new ones.
func (f fleetOrders) Drain(ctx context.Context, node, actor, reason string) (ask.Done, error) {
	return f.a.nodeOrder(ctx, node, ask.KindDrain, ask.Order{Actor: actor, Reason: reason}, f.a.drainHere)
}

// Undrain takes a drain back.
func (f fleetOrders) Undrain(ctx context.Context, node, actor, reason string) (ask.Done, error) {
	return f.a.nodeOrder(ctx, node, ask.KindUndrain, ask.Order{Actor: actor, Reason: reason}, f.a.undrainHere)
}

// Rebalance has a node send so many of its clients to others.
func (f fleetOrders) Rebalance(ctx context.Context, node string, clients int, actor, reason string) (ask.Done, error) {
	return f.a.nodeOrder(ctx, node, ask.KindRebalance, ask.Order{Actor: actor, Reason: reason, Clients: clients}, f.a.rebalanceHere)
}

// Disconnect ends all sessions of an agent, wherever they are.
func (f fleetOrders) Disconnect(ctx context.Context, agent, actor, reason string) (ask.Done, error) {
	a := f.a
	reason, err := reasonable(reason)
	if err != nil {
		return ask.Done{}, err
	}
	if agent == "" || len(agent) > 1024 {
		return ask.Done{}, &wire.Error{Code: wire.BadFrame, Message: "agent: name one"}
	}
	o := ask.Order{Actor: actor, Reason: reason, Agent: agent}
	all, _ := a.disconnectHere(ctx, o) // which never fails
	if all.Sessions > 0 {
		all.Nodes = append(all.Nodes, a.cfg.Node)
	}
	all.Missing = a.elsewhere(ctx, ask.KindDisconnect, o, func() (any, func()) { // what is known of other nodes' agents may be a moment old
		var done ask.Done
		return &done, func() {
			if all.Sessions += done.Sessions; done.Sessions > 0 {
				all.Nodes = append(all.Nodes, done.Node)
			}
		}
	})
	slices.Sort(all.Nodes)
	if all.Sessions == 0 {
		e := &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("%.100s has no session on any node", agent)}
		if len(all.Missing) > 0 {
			e = &wire.Error{Code: wire.Unavailable, Message: fmt.Sprintf("%.100s has no session on the nodes that answered; no answer came from %v", agent, all.Missing)}
		}
		return all, e
	}
	all.Node, all.Message = a.cfg.Node, fmt.Sprintf("%s of %s ended on %s; the agent may connect again", ui.Plural(all.Sessions, "session", "sessions"), agent, strings.Join(all.Nodes, ", "))
	return all, nil
}
