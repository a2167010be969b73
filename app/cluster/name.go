package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Keys of leases. Those that belong together share a hash tag, for Redis Cluster.
func nameKey(node string) string { return prefix + "{node:" + node + "}:life" }

// nameValue says whose a name is: the life, and where it is reached.
func (n *Node) nameValue() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprintf("%d %s", n.life.Load(), n.addr)
}

// takeName makes sure that no other node has this one's name. After a crash the old
// life's claim to it has to run out first.
func (n *Node) takeName(ctx context.Context) error {
	key, ttl := nameKey(n.cfg.Name), n.cfg.Lease
	for end := time.Now().Add(ttl + ttl/2); ; {
		was, err := n.name(ctx, key, ttl)
		switch {
		case err != nil:
			n.log.Warn("cluster: the node's name could not be checked; it is tried again", "error", err)
			return nil
		case was == "":
			n.named = lifeOf(n.nameValue())
			return nil
		case time.Now().After(end):
			_, addr, _ := strings.Cut(was, " ")
			if addr == "" {
				addr = "an address that it does not tell"
			}
			return fmt.Errorf("%w: %q is running at %s; give each node its own name (node in the configuration, --node)", ErrName, n.cfg.Name, addr)
		}
		if !sleep(ctx, ttl/10) {
			return nil // Run goes on
		}
	}
}

// name takes or renews this node's name. It returns who has it instead.
func (n *Node) name(ctx context.Context, key string, ttl time.Duration) (other string, err error) {
	err = n.own.try(ctx, func(ctx context.Context) error {
		was, err := n.own.medium.get(ctx, key)
		if err != nil {
			return err
		}
		mine := n.nameValue()
		if was != mine && lifeOf(was) == lifeOf(mine) { // it has got an address meanwhile
			if err := n.own.medium.del(ctx, key); err != nil {
				return err
			}
			was = ""
		}
		switch was {
		case mine:
			return n.own.medium.expire(ctx, key, ttl)
		case "":
			ok, _, err := n.own.medium.put(ctx, key, mine, ttl, "")
			if err == nil && !ok {
				other, err = n.own.medium.get(ctx, key) // somebody was faster
			}
			return err
		}
		other = was
		return nil
	})
	return other, err
}

// lifeOf is the life in the value of a name.
func lifeOf(value string) string {
	life, _, _ := strings.Cut(value, " ")
	return life
}

// keepName renews the name. After a rejoin the key still holds the value of the last
// life, which is ours to replace.
func (n *Node) keepName(taken time.Time) time.Time {
	mine := n.nameValue()
	other, err := n.name(n.ctx, nameKey(n.cfg.Name), n.cfg.Lease)
	if err == nil && other != "" && lifeOf(other) == n.named {
		if err = n.own.try(n.ctx, func(ctx context.Context) error { return n.own.medium.del(ctx, nameKey(n.cfg.Name)) }); err == nil {
			other, err = n.name(n.ctx, nameKey(n.cfg.Name), n.cfg.Lease)
		}
	}
	switch {
	case err != nil:
		return taken
	case other == "":
		n.named = lifeOf(mine)
		return time.Time{}
	case taken.IsZero():
		return time.Now()
	}
	return taken
}
