package drill

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// A party is clients at one place, with what was sent to each.
type party struct {
	name    string
	members []*guest
}

// A guest is one client of a party.
type guest struct {
	c       *client.Client
	agent   string
	tally   *tally
	cuts    atomic.Int64
	gaps    atomic.Int64 // told losses of its session
	resumed atomic.Int64
	home    atomic.Bool // is connected now
	backAt  atomic.Int64
	next    uint64 // owned by who talks to it
}

// invite connects clients to url; urls are where they may go else.
func (s *stage) invite(ctx context.Context, n Node, name, url string, urls ...string) (*party, error) {
	p := &party{name: name}
	for i := range perPlace {
		g := &guest{agent: fmt.Sprintf("drill/%s%d", name, i), tally: newTally()}
		c, err := s.dial(ctx, n, url, strings.TrimPrefix(g.agent, "drill/"), func(cfg *client.Config) {
			cfg.URLs, cfg.OnMessage = urls, g.tally.take
			cfg.OnGap = func(l client.Gap) {
				if l.SessionLost || l.Channel == "" {
					g.gaps.Add(1)
				}
			}
			cfg.OnState = func(st client.StateChange) {
				up := st.State == client.Connected
				if was := g.home.Swap(up); was && !up {
					g.cuts.Add(1)
				}
				if up {
					g.backAt.Store(time.Now().UnixNano())
					if st.Resumed {
						g.resumed.Add(1)
					}
				}
			}
		})
		if err != nil {
			return nil, err
		}
		g.c = c
		p.members = append(p.members, g)
	}
	return p, nil
}

// talk sends to each member in turn until ctx ends. A message that is under way then
// still gets its answer: to give up on it would look like a refusal.
func (p *party) talk(ctx context.Context, from *client.Client, every time.Duration) {
	for i := 0; ctx.Err() == nil; i++ {
		g := p.members[i%len(p.members)]
		_ = g.send(context.WithoutCancel(ctx), from)
		_ = rest(ctx, every)
	}
}

// send sends the next number to a guest.
func (g *guest) send(ctx context.Context, from *client.Client) error {
	n := g.next
	g.next++
	return g.tally.try(n, func() error {
		one, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := from.Send(one, g.agent, wire.Payload{Data: number(n)})
		return err
	})
}

// totals adds the tallies of a party up; silent counts missing messages of those who
// were told of no loss.
func (p *party) totals() (promised, missing, silent, twice, refused int) {
	for _, g := range p.members {
		pr, mi, tw := g.tally.count()
		promised, missing, twice = promised+pr, missing+mi, twice+tw
		if g.gaps.Load() == 0 {
			silent += mi
		}
		re, _ := g.tally.refusals()
		refused += re
	}
	return promised, missing, silent, twice, refused
}

// word counts members that were told of a loss, and others whose session went on.
func (p *party) word() (told, resumed int) {
	for _, g := range p.members {
		switch {
		case g.gaps.Load() > 0:
			told++
		case g.resumed.Load() > 0:
			resumed++
		}
	}
	return told, resumed
}

// cuts counts the connections of members that were lost.
func (p *party) cuts() (n int64) {
	for _, g := range p.members {
		n += g.cuts.Load()
	}
	return n
}

// returned counts members that have been cut and are connected again.
func (p *party) returned() (n int) {
	for _, g := range p.members {
		if g.cuts.Load() > 0 && g.home.Load() {
			n++
		}
	}
	return n
}

// A loss is a place that goes away under load, and what is left.
type loss struct {
	what        string
	lost, left  *party
	voice       *client.Client // talks from what is left
	watch       Node           // a node that is left
	alert       string         // key of the alert that must fire
	strike      func() error
	unhurtParty string
}

// rehearse lets the place go while all are talked to, and checks what is promised.
func (s *stage) rehearse(ctx context.Context, l *loss) error {
	work, quiet := context.WithCancel(ctx)
	defer quiet()
	var talking sync.WaitGroup
	talking.Go(func() { l.lost.talk(work, l.voice, 5*time.Millisecond) })
	talking.Go(func() { l.left.talk(work, l.voice, 5*time.Millisecond) })
	defer talking.Wait()
	defer quiet()
	if err := rest(ctx, s.Span/4); err != nil {
		return err
	}
	struck := time.Now()
	if err := l.strike(); err != nil {
		return err
	}
	s.Say("%s", l.what)
	_, ok := until(ctx, 3*backWithin, func() bool { return l.lost.returned() == perPlace })
	last := time.Duration(0)
	for _, g := range l.lost.members {
		last = max(last, time.Unix(0, g.backAt.Load()).Sub(struck))
	}
	s.check("clients that are back elsewhere", fmt.Sprintf("all %d within %v", perPlace, backWithin), ok && last <= backWithin, "%d, the last after %v", l.lost.returned(), last.Round(time.Millisecond))
	_, ok = until(ctx, alertWithin-time.Since(struck), func() bool { return alerted(ctx, l.watch, l.alert) })
	s.check("the alert "+l.alert, fmt.Sprintf("fires within %v", alertWithin), ok, "%v, %v after the loss", firing(ok), time.Since(struck).Round(100*time.Millisecond))
	if err := rest(ctx, s.Span/4); err != nil {
		return err
	}
	quiet()
	talking.Wait()
	return s.settle(ctx, l)
}

func firing(ok bool) string {
	if ok {
		return "it fires"
	}
	return "it does not fire"
}

// settle sends each client one more message and adds up.
func (s *stage) settle(ctx context.Context, l *loss) error {
	reached := 0
	for _, g := range l.lost.members {
		if _, ok := until(ctx, 10*time.Second, func() bool { return g.send(ctx, l.voice) == nil }); ok {
			reached++
		}
	}
	until(ctx, 10*time.Second, func() bool { _, _, silent, _, _ := l.lost.totals(); return silent == 0 })
	until(ctx, 5*time.Second, func() bool { _, missing, _, _, _ := l.left.totals(); return missing == 0 })
	s.check("clients that can be written to again", fmt.Sprintf("all %d", perPlace), reached == perPlace, "%d", reached)
	promised, missing, silent, twice, refused := l.lost.totals()
	told, resumed := l.lost.word()
	s.check("those whose session ended", "each is told, or its session went on", told+resumed == perPlace, "%d told of a gap, %d resumed", told, resumed)
	s.check("accepted messages that are missing without a word", "none", promised > 0 && silent == 0, "%d of %d; %d more were told of", silent, promised, missing-silent)
	s.check("messages that came twice", "none", twice == 0, "%d", twice)
	s.fact("messages refused while the clients were away", "%d", refused)
	promised, missing, _, twice, refused = l.left.totals()
	cuts := l.left.cuts()
	late, because := time.Duration(0), error(nil)
	for _, g := range l.left.members {
		late = max(late, g.tally.quantile(0.99))
		if n, why := g.tally.refusals(); n > 0 {
			because = why
		}
	}
	s.check(l.unhurtParty+": messages", "all arrive, each once", promised > 0 && missing == 0 && twice == 0 && refused == 0, "%d sent, %s, %d missing, %d twice", promised, refusals(refused, because), missing, twice)
	s.check(l.unhurtParty+": connections that were cut", "none", cuts == 0, "%d", cuts)
	s.check(l.unhurtParty+": how late (p99 of the worst client)", "below 1 s", late < time.Second, "%v", late)
	return nil
}
