package scale

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// act is the control plane: it makes the fleet as large as it was told, and
// keeps it that large.
func (w *simWorld) act(now time.Time, d *Decision) {
	if d.Act {
		w.wanted = d.Desired
	}
	alive := 0
	recent := false
	for _, n := range w.nodes {
		if n.dead.IsZero() && n.until.IsZero() {
			alive++
		}
		recent = recent || !n.dead.IsZero() && now.Sub(n.dead) < modelHealing
	}
	if d.Act && alive > w.wanted {
		w.retire(now, d.Victims, alive-w.wanted)
		return
	}
	if !d.Act && (w.Model.NoHealing || recent) {
		return
	}
	for ; alive < w.wanted && len(w.nodes) < MaxNodes; alive++ {
		w.add(now)
	}
}

// retire drains the victims that the policy named. When it named dead ones, the
// control plane takes the youngest instead.
func (w *simWorld) retire(now time.Time, victims []string, count int) {
	retire := func(n *simNode) {
		if count > 0 && n.dead.IsZero() && n.until.IsZero() {
			n.until = now.Add(w.Model.Drain)
			count--
		}
	}
	for _, n := range w.nodes {
		if slices.Contains(victims, n.name) {
			retire(n)
		}
	}
	for i := len(w.nodes) - 1; i >= 0; i-- {
		retire(w.nodes[i])
	}
}

// drain lets the clients of draining nodes go evenly, and removes what has ended.
func (w *simWorld) drain(now time.Time, dt float64) {
	kept := w.nodes[:0]
	for _, n := range w.nodes {
		switch {
		case !n.dead.IsZero():
			if now.Sub(n.dead) > w.Fleet.ForgetAfter {
				continue
			}
		case !n.until.IsZero():
			left := n.until.Sub(now).Seconds() + dt
			gone := n.connections * min(1, dt/max(left, dt))
			n.connections -= gone
			w.returning += gone
			if !now.Before(n.until) {
				w.returning += n.connections
				continue
			}
		}
		kept = append(kept, n)
	}
	clear(w.nodes[len(kept):])
	w.nodes = kept
}

// connect moves clients: some leave, and those that are wanted and not there
// come, as fast as the nodes take them.
func (w *simWorld) connect(now time.Time, dt, demand float64) {
	var open []*simNode
	total := 0.0
	churn := min(1, dt/w.Model.Life.Seconds())
	for _, n := range w.nodes {
		n.accepted, n.returned, n.refused = 0, 0, 0
		if !n.dead.IsZero() {
			continue
		}
		n.connections -= n.connections * churn
		total += n.connections
		if n.serves(now) {
			open = append(open, n)
		}
	}
	missing := demand - total - w.returning
	if missing < 0 {
		// Fewer are wanted: they leave wherever they are, those on the way back first.
		stop := min(w.returning, -missing)
		w.returning -= stop
		if over := -missing - stop; over > 0 && total > 0 {
			for _, n := range w.nodes {
				n.connections -= n.connections * min(1, over/total)
			}
		}
		missing = 0
	}
	back := w.returning * (1 - math.Exp(-dt/w.Model.Return.Seconds()))
	tries := missing + back
	taken := w.admit(open, tries, dt)
	share := 0.0
	if tries > 0 {
		share = back / tries
	}
	w.returning -= taken * share
	w.waiting = missing - taken*(1-share)
	if w.waiting < 1e-6 {
		w.waiting = 0
	}
	refused := tries - taken
	for _, n := range open {
		n.returned = n.accepted * share
		n.refused = refused / float64(len(open))
	}
}

// admit spreads clients over the open nodes, the emptiest first, within what
// each accepts in a step and holds at all. It returns how many found a place.
func (w *simWorld) admit(open []*simNode, tries, dt float64) float64 {
	if len(open) == 0 || tries <= 0 {
		return 0
	}
	slices.SortStableFunc(open, func(a, b *simNode) int { return cmp.Compare(a.connections, b.connections) })
	limit := w.Model.AcceptRate * dt
	// The water level: nodes below it are filled up to it.
	level, sum := open[0].connections, 0.0
	for i, n := range open {
		sum += n.connections
		level = (sum + tries) / float64(i+1)
		if i+1 == len(open) || level <= open[i+1].connections {
			break
		}
	}
	taken := 0.0
	for _, n := range open {
		room := min(level-n.connections, limit, w.Capacity.Connections-n.connections)
		if room > 0 {
			n.accepted += room
			n.connections += room
			taken += room
		}
	}
	// What the fullest may not take goes to whoever has room.
	for _, n := range open {
		room := min(tries-taken, limit-n.accepted, w.Capacity.Connections-n.connections)
		if room > 1e-9 {
			n.accepted += room
			n.connections += room
			taken += room
		}
	}
	return min(taken, tries)
}

// rebalanceFactor and rebalanceRate: a node above 1.1 times the mean sends at
// most 1% of its clients away each second.
const (
	rebalanceFactor = 1.1
	rebalanceRate   = 0.01
)

func (w *simWorld) rebalance(now time.Time, dt float64, f *Fleet) {
	for _, move := range Rebalance(f, rebalanceFactor) {
		for _, n := range w.nodes {
			if n.name == move.Node && n.serves(now) {
				leave := min(float64(move.Count), n.connections*rebalanceRate*dt)
				n.connections -= leave
				w.returning += leave
			}
		}
	}
}

// incident strikes once, a third into the simulation.
func (w *simWorld) incident(now time.Time) {
	if w.struck || now.Sub(w.Start) < w.Length/3 {
		return
	}
	w.struck = true
	cut := func(n *simNode) {
		w.returning += n.connections
		n.connections = 0
	}
	kill := func(n *simNode) {
		cut(n)
		n.dead, n.backlog = now, 0
	}
	alive := slices.DeleteFunc(slices.Clone(w.nodes), func(n *simNode) bool { return !n.dead.IsZero() })
	switch w.Scenario {
	case ScenarioStorm:
		for _, n := range alive {
			cut(n)
		}
	case ScenarioNodeLoss:
		w.rnd.Shuffle(len(alive), func(i, k int) { alive[i], alive[k] = alive[k], alive[i] })
		for _, n := range alive[:(len(alive)+3)/4] {
			kill(n)
		}
	case ScenarioRegionLoss:
		region := w.Regions[0]
		w.lost[region] = now.Add(30 * time.Minute)
		for _, n := range alive {
			if n.region == region {
				kill(n)
			}
		}
	}
}
