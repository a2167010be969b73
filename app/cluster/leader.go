package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fenceKept is how long Redis keeps the last fence when nobody takes the lead.
const fenceKept = 365 * 24 * time.Hour

// firstFence is below every fence that was ever given out: they begin at the clock in
// milliseconds, and this was in 1987.
const firstFence = 1 << 39

// ErrName says that another node has this one's name.
var ErrName = errors.New("another node has this name")

// A Lease says who leads a region. The zero value: nobody, as far as is known.
type Lease struct {
	Holder string
	// Fence grows with each new leader. Who acts for the fleet passes it on, so that
	// what an older leader still wants is told apart.
	Fence uint64
	Mine  bool
	Until time.Time // when it ends unless it is renewed
}

// leadership is what this node knows of its region's leader.
type leadership struct {
	mu    sync.Mutex
	lease Lease
	top   uint64 // highest fence ever seen
	// quiet is until when this node does not take the lead: it has not been there for
	// long enough to know that nobody leads, should Redis have forgotten.
	quiet time.Time
	// forgot is since when Redis knows neither a leader nor any fence; zero: it does.
	forgot time.Time
	// told is that the other nodes have heard of this node's lead: before, it leads
	// nothing, so that they know of it even if Redis forgets it at once.
	told bool
}

// Leader returns who leads this region. It is nobody while Redis cannot be reached:
// then nothing fleet-wide is decided.
func (n *Node) Leader() Lease { return n.leader.current() }

func (l *leadership) current() Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().After(l.lease.Until) {
		return Lease{}
	}
	lease := l.lease
	lease.Mine = lease.Mine && l.told
	return lease
}

// holds reports whether the lease is this node's, whether or not others know.
func (l *leadership) holds() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease.Mine && time.Now().Before(l.lease.Until)
}

// heard notes that this node's own word that it leads went around.
func (l *leadership) heard(fence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = l.lease.Mine && fence >= l.lease.Fence
}

// vacant reports whether the last leader that was read can not lead any more.
func (l *leadership) vacant() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return now.After(l.lease.Until) && now.After(l.quiet)
}

func (l *leadership) highest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.top
}

func (l *leadership) saw(fence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.top = max(l.top, fence)
}

func (l *leadership) set(lease Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease.Fence != lease.Fence || !lease.Mine {
		l.told = false
	}
	l.lease, l.top = lease, max(l.top, lease.Fence)
}

// wait keeps this node from taking the lead for a while: another one says that it
// has it, and Redis may have forgotten.
func (l *leadership) wait(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(d); until.After(l.quiet) {
		l.quiet = until
	}
}

// drop gives up this node's own lead, and takes none for a while.
func (l *leadership) drop(quiet time.Duration) {
	l.wait(quiet)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease.Mine {
		l.lease = Lease{}
	}
}

func leaderKey(region string) string { return prefix + "{leader:" + region + "}" }
func fenceKey(region string) string  { return prefix + "{leader:" + region + "}:fence" }
func (n *Node) leaderValue(f uint64) string {
	return fmt.Sprintf("%d %d %s", f, n.life.Load(), n.cfg.Name)
}

// release gives the name and the lead back.
func (n *Node) release(ctx context.Context) {
	held := n.leader.holds()
	n.leader.drop(n.cfg.LeaderLease)
	_ = n.own.try(ctx, func(ctx context.Context) error {
		if held {
			_ = n.own.medium.del(ctx, leaderKey(n.cfg.Region)) // else it runs out
		}
		return n.own.medium.del(ctx, nameKey(n.cfg.Name))
	})
}

// keep renews the leases of this node: its name, and the lead when it has it.
func (n *Node) keep() {
	timer := time.NewTicker(n.cfg.Beat)
	defer timer.Stop()
	var taken time.Time // since when another one has our name
	for turn := 0; ; turn++ {
		if n.own.isConnected() {
			if taken = n.keepName(taken); !taken.IsZero() && time.Since(taken) > 2*n.cfg.Lease {
				n.fail(fmt.Errorf("cluster: %w: %q; this node stops", ErrName, n.cfg.Name))
				return
			}
			if turn%2 == 0 {
				n.keepLead()
			}
			if turn%4 == 0 {
				n.watchRedis()
			}
		}
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// keepLead renews the lead, or takes it when nobody has it.
func (n *Node) keepLead() {
	n.mu.Lock()
	fit := n.ready && !n.draining && !n.left && !n.cut.Load()
	n.mu.Unlock()
	asked := time.Now()
	err := n.own.try(n.ctx, func(ctx context.Context) error {
		value, err := n.own.medium.get(ctx, leaderKey(n.cfg.Region))
		if err != nil {
			return err
		}
		fence, life, holder, ok := parseLead(value)
		mine := ok && holder == n.cfg.Name && life == n.life.Load()
		switch {
		case mine && !fit:
			n.leader.drop(n.cfg.LeaderLease)
			return n.own.medium.del(ctx, leaderKey(n.cfg.Region))
		case mine:
			err = n.own.medium.expire(ctx, leaderKey(n.cfg.Region), n.cfg.LeaderLease)
		case value == "" && n.forgotten(ctx):
			// Redis lost its memory: the last leader may have renewed its lease later than
			// this node read it. A leader that sees it leads no longer.
			n.leader.drop(0)
			return nil
		case value == "" && fit && n.leader.vacant():
			if fence, mine, err = n.takeLead(ctx); err == nil && !mine {
				return nil // the next turn reads who was faster
			}
			holder = n.cfg.Name
		case value == "":
			return nil // whoever led may still believe it; its lease runs out here as well
		}
		if err != nil {
			return err
		}
		// The key lives from when Redis got the command: from asked on at least.
		n.lead(Lease{Holder: holder, Fence: fence, Mine: mine, Until: asked.Add(n.cfg.LeaderLease)})
		return nil
	})
	if err != nil {
		n.count.leadFaults.Add(1)
	}
}

// forgotten says whether Redis lost the fence that was there, and the lease of a
// leader that nobody here has read may not have run out since that was seen.
func (n *Node) forgotten(ctx context.Context) bool {
	value, err := n.own.medium.get(ctx, fenceKey(n.cfg.Region))
	fence, _ := strconv.ParseUint(value, 10, 64)
	return n.leader.amnesia(err == nil && n.leader.older(fence), n.cfg.LeaderLease)
}

// older says whether a fence in Redis shows that Redis has lost what it knew.
func (l *leadership) older(fence uint64) bool { return fence < max(l.highest(), firstFence) }

// waited says whether Redis has forgotten, and so long ago that no lease from before
// can last.
func (l *leadership) waited(lease time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.forgot.IsZero() && time.Since(l.forgot) >= lease
}

// amnesia notes whether Redis has forgotten, and says whether that is younger than a
// lease.
func (l *leadership) amnesia(forgot bool, lease time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !forgot:
		l.forgot = time.Time{}
	case l.forgot.IsZero():
		l.forgot = time.Now()
	}
	return forgot && time.Since(l.forgot) < lease
}

// lead notes who leads and logs a change.
func (n *Node) lead(lease Lease) {
	was := n.leader.current()
	n.leader.set(lease)
	if was.Fence != lease.Fence {
		if lease.Mine {
			n.beatSoon()
		}
		n.log.Info("cluster: leader", "region", n.cfg.Region, "node", lease.Holder, "fence", lease.Fence)
	}
}

// takeLead takes the lead with a fence that is higher than all before. When two nodes
// draw in turns, one has the lead under the lower fence and must give it back: it tries
// again at once, while the other, which was refused, waits for its next turn. Else both
// would go on like that in step.
func (n *Node) takeLead(ctx context.Context) (fence uint64, mine bool, err error) {
	m, key := n.own.medium, leaderKey(n.cfg.Region)
	for range 3 {
		if fence, err = n.drawFence(ctx); err != nil || fence == 0 {
			return 0, false, err
		}
		was, top, err := m.put(ctx, key, n.leaderValue(fence), n.cfg.LeaderLease, fenceKey(n.cfg.Region))
		if err != nil || !was {
			return 0, false, err
		}
		if top == fence {
			return fence, true, nil
		}
		// Somebody drew a higher one meanwhile, and may have led with it.
		if err := m.del(ctx, key); err != nil {
			return 0, false, err
		}
	}
	return 0, false, nil
}

// drawFence draws a fence, whatever Redis has forgotten: above what any node has seen,
// and above the clock. It draws none when Redis turns out to have forgotten since it was
// asked who leads.
func (n *Node) drawFence(ctx context.Context) (fence uint64, err error) {
	m, key, lease := n.own.medium, fenceKey(n.cfg.Region), n.cfg.LeaderLease
	if fence, err = m.add(ctx, key, 1); err != nil || !n.leader.older(fence-1) {
		return fence, err
	}
	if !n.leader.waited(lease) {
		n.leader.amnesia(true, lease)
		return 0, nil
	}
	floor := max(n.leader.highest(), uint64(max(time.Now().UnixMilli(), firstFence)))
	if fence, err = m.add(ctx, key, floor+1-fence); err != nil {
		return 0, err
	}
	return fence, m.expire(ctx, key, fenceKept)
}

func parseLead(value string) (fence, life uint64, holder string, ok bool) {
	f, rest, _ := strings.Cut(value, " ")
	l, holder, ok := strings.Cut(rest, " ")
	if !ok {
		return 0, 0, "", false
	}
	var err, err2 error
	fence, err = strconv.ParseUint(f, 10, 64)
	life, err2 = strconv.ParseUint(l, 10, 64)
	return fence, life, holder, err == nil && err2 == nil
}
