package bench

// A direct is pairs of agents that send each other messages. Without a rate each
// message is sent when the one before has come; with one, the even agent of each
// pair sends in its turn and the odd one only receives.
type direct struct {
	tally
	opts    *Options
	dialect Dialect
	rate    float64
	payload []byte
	first   int // number of this worker's first pair
	ends    []end

	running   bool
	pace      pace
	turn      int // pair whose turn it is
	sweepAt   int64
	commandID uint64
}

// An end is one agent of a pair.
type end struct {
	conn  *conn
	peer  string
	seq   uint32 // messages that it sent
	track track  // messages that it got
	came  int64  // when it last got one
}

func newDirect(o *Options, d Dialect, rate float64, worker, workers int) (*direct, error) {
	payload, err := newPayload(o.Size)
	if err != nil {
		return nil, err
	}
	from, to := share(o.Pairs, worker, workers)
	return &direct{tally: tally{name: "direct"}, opts: o, dialect: d, rate: portion(rate, to-from, o.Pairs), payload: payload,
		first: from, ends: make([]end, 2*(to-from)), commandID: firstID}, nil
}

func (p *direct) plans() []plan {
	var ps []plan
	for i := range p.ends {
		p.ends[i].peer = agentName(p.opts.Run, "pair", 2*p.first+i^1)
		ps = append(ps, plan{owner: p, index: i, agent: agentName(p.opts.Run, "pair", 2*p.first+i), node: p.opts.nodeOfPair(2*p.first + i)})
	}
	return ps
}

func (p *direct) left(c *conn) { p.ends[c.index].conn = nil }

func (p *direct) returned(c *conn) { p.joined(c) }

func (p *direct) joined(c *conn) { p.ends[c.index].conn = c }

func (p *direct) start(now int64) {
	p.running, p.pace, p.sweepAt = true, newPace(p.rate, now), now+int64(stallAfter)
	if p.rate > 0 {
		return
	}
	for i := 0; i < len(p.ends); i += 2 {
		for range p.opts.Depth {
			p.send(i, now)
		}
		p.ends[i].came, p.ends[i+1].came = now, now
		p.flush(i)
	}
}

func (p *direct) stop() { p.running = false }

// send puts a message of agent i on its way; flush sends it.
func (p *direct) send(i int, due int64) {
	e := &p.ends[i]
	if e.conn == nil {
		return
	}
	stamp{due: due, sender: uint32(2*p.first + i), seq: e.seq}.put(p.payload)
	e.seq++
	p.counts.Sent++
	var id uint64
	if p.opts.Answers {
		p.commandID++
		id = p.commandID
		e.conn.asked++
	}
	e.conn.cmd = p.dialect.AppendSend(e.conn.cmd, id, e.peer, p.payload)
}

func (p *direct) flush(i int) {
	if c := p.ends[i].conn; c != nil {
		c.flush()
	}
}

func (p *direct) frame(c *conn, f *Frame) {
	if f.Kind != FrameDelivery {
		p.other(f)
		return
	}
	s, ok := readStamp(f.Data)
	if !ok || s.sender != uint32(2*p.first+c.index^1) {
		p.counts.Strange++
		return
	}
	e, now := &p.ends[c.index], c.loop.readAt
	p.arrived(s.due, now)
	e.track.accept(s.seq, &p.counts)
	e.came = now
	if p.running && p.rate == 0 {
		p.send(c.index, now) // flushed when all of this read is handled
	}
}

func (p *direct) broken(c *conn, err error) {
	p.tally.broken(c, err)
	p.ends[c.index].conn = nil
}

func (p *direct) tick(now int64) (next int64) {
	switch {
	case !p.running || len(p.ends) == 0:
		return never
	case p.rate > 0:
		// The share of this worker in the rate of all pairs.
		for p.pace.due() <= now {
			p.send(2*p.turn, p.pace.due())
			p.flush(2 * p.turn)
			p.turn = (p.turn + 1) % (len(p.ends) / 2)
			p.pace.take()
		}
		return p.pace.due()
	case now >= p.sweepAt:
		p.sweepAt = now + int64(stallAfter)
		p.sweep(now)
	}
	return p.sweepAt
}

// sweep starts pairs anew in which nothing has come for long.
func (p *direct) sweep(now int64) {
	for i := 0; i < len(p.ends); i += 2 {
		a, b := &p.ends[i], &p.ends[i+1]
		if a.conn == nil || b.conn == nil || now-max(a.came, b.came) < int64(stallAfter) {
			continue
		}
		p.counts.Stalls++
		a.came = now
		p.send(i, now)
		p.flush(i)
	}
}

func (p *direct) missing() (n uint64, known bool) {
	return untilNow(p.counts.Sent, p.counts.Delivered), true
}

func (p *direct) sent() map[uint32]uint32 { return nil }

// finish needs nothing from other workers: both ends of a pair are in one.
func (p *direct) finish(map[uint32]uint32) {
	for i := range p.ends {
		p.ends[i].track.finish(p.ends[i^1].seq, &p.counts)
	}
}
