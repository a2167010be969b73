package bench

import "fmt"

// An idle is agents that only stay connected.
type idle struct {
	tally
	opts     *Options
	from, to int
}

func newIdle(o *Options, worker, workers int) *idle {
	from, to := share(o.Connections, worker, workers)
	return &idle{tally: tally{name: "idle"}, opts: o, from: from, to: to}
}

func (p *idle) plans() []plan {
	ps := make([]plan, 0, p.to-p.from)
	for i := p.from; i < p.to; i++ {
		one := plan{owner: p, index: i - p.from, agent: agentName(p.opts.Run, "idle", i), node: p.opts.nodeOf(i)}
		if p.opts.Subscribe {
			one.channels = []string{fmt.Sprintf("bench/%s/own/%d", p.opts.Run, i)}
		}
		ps = append(ps, one)
	}
	return ps
}

func (p *idle) frame(_ *conn, f *Frame) {
	if f.Kind == FrameDelivery || f.Kind == FrameRequest || f.Kind == FrameReply {
		p.counts.Strange++ // nobody sends to these agents
		return
	}
	p.other(f)
}

func (p *idle) joined(*conn)             {}
func (p *idle) left(*conn)               {}
func (p *idle) returned(*conn)           {}
func (p *idle) start(int64)              {}
func (p *idle) stop()                    {}
func (p *idle) tick(int64) int64         { return never }
func (p *idle) sent() map[uint32]uint32  { return nil }
func (p *idle) missing() (uint64, bool)  { return 0, true }
func (p *idle) finish(map[uint32]uint32) {}
