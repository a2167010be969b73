package dash

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"agentnet/app/ask"
	"agentnet/app/wire"
)

// orderTime is how long a page waits for other nodes.
const orderTime = 8 * time.Second

// give has nodes do something and goes back with what came of it.
func (b *Board) give(r *request, back, target, detail string, do func(context.Context, Orders) (ask.Done, error)) error {
	o := b.cfg.Sources.Orders
	if o == nil {
		return r.report(back, "", errors.New("this server takes no orders for nodes"))
	}
	b.note(r.c, target, detail)
	ctx, cancel := context.WithTimeout(context.Background(), orderTime)
	defer cancel()
	done, err := do(ctx, o)
	if e, ok := errors.AsType[*wire.Error](err); ok {
		err = errors.New(e.Message) // the code is for programs
	}
	return r.report(back, done.Message+".", err)
}

// named reads a field of a form that must name something.
func (r *request) named(field string) (string, error) {
	name := strings.Clone(r.c.FormValue(field))
	if name == "" || len(name) > 1024 {
		return "", fmt.Errorf("no %s was named", field)
	}
	return name, nil
}

func (b *Board) drain(r *request) error { return b.nodeOrder(r, "drain", Orders.Drain) }

func (b *Board) undrain(r *request) error { return b.nodeOrder(r, "undrain", Orders.Undrain) }

// rebalance sends some clients of a node to others.
func (b *Board) rebalance(r *request) error {
	clients := atoi(r.c.FormValue("clients"), 0, 1_000_000)
	return b.nodeOrder(r, fmt.Sprintf("%d clients", clients), func(o Orders, ctx context.Context, node, actor, reason string) (ask.Done, error) {
		return o.Rebalance(ctx, node, clients, actor, reason)
	})
}

func (b *Board) nodeOrder(r *request, detail string, do func(Orders, context.Context, string, string, string) (ask.Done, error)) error {
	node, err := r.named("node")
	if err != nil {
		return r.report("/nodes", "", err)
	}
	reason := strings.Clone(r.c.FormValue("reason"))
	return b.give(r, "/nodes", node, strings.TrimSpace(detail+" "+reason), func(ctx context.Context, o Orders) (ask.Done, error) {
		return do(o, ctx, node, r.who.Name, reason)
	})
}

// disconnect ends all sessions of an agent, on whichever nodes they are.
func (b *Board) disconnect(r *request) error {
	agent, err := r.named("agent")
	if err != nil {
		return r.report("/agents", "", err)
	}
	reason := strings.Clone(r.c.FormValue("reason"))
	return b.give(r, "/agents?agent="+url.QueryEscape(agent), agent, reason, func(ctx context.Context, o Orders) (ask.Done, error) {
		return o.Disconnect(ctx, agent, r.who.Name, reason)
	})
}
