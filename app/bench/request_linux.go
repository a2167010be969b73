package bench

// A request is pairs of agents of which the even one asks and the odd one
// answers with the very payload of the question, so that the stamp measures the
// whole way there and back.
type request struct {
	tally
	opts    *Options
	dialect Dialect
	asker   Asker
	rate    float64
	payload []byte
	first   int // number of this worker's first pair
	ends    []end

	running   bool
	pace      pace
	turn      int
	sweepAt   int64
	commandID uint64
}

func newRequest(o *Options, d Dialect, rate float64, worker, workers int) (*request, error) {
	asker, ok := d.(Asker)
	if !ok {
		return nil, errNoRequests
	}
	payload, err := newPayload(o.Size)
	if err != nil {
		return nil, err
	}
	from, to := share(o.Pairs, worker, workers)
	return &request{tally: tally{name: "request"}, opts: o, dialect: d, asker: asker, rate: portion(rate, to-from, o.Pairs), payload: payload,
		first: from, ends: make([]end, 2*(to-from)), commandID: firstID}, nil
}

func (r *request) plans() []plan {
	var ps []plan
	for i := range r.ends {
		r.ends[i].peer = agentName(r.opts.Run, "ask", 2*r.first+i^1)
		ps = append(ps, plan{owner: r, index: i, agent: agentName(r.opts.Run, "ask", 2*r.first+i), node: r.opts.nodeOfPair(2*r.first + i)})
	}
	return ps
}

func (r *request) left(c *conn) { r.ends[c.index].conn = nil }

func (r *request) returned(c *conn) { r.joined(c) }

func (r *request) joined(c *conn) { r.ends[c.index].conn = c }

func (r *request) start(now int64) {
	r.running, r.pace, r.sweepAt = true, newPace(r.rate, now), now+int64(stallAfter)
	if r.rate > 0 {
		return
	}
	for i := 0; i < len(r.ends); i += 2 {
		for range r.opts.Depth {
			r.ask(i, now)
		}
		r.ends[i].came = now
		r.flush(i)
	}
}

func (r *request) stop() { r.running = false }

// ask puts a question of agent i on its way; flush sends it.
func (r *request) ask(i int, due int64) {
	e := &r.ends[i]
	if e.conn == nil {
		return
	}
	stamp{due: due, sender: uint32(2*r.first + i), seq: e.seq}.put(r.payload)
	e.seq++
	r.counts.Sent++
	r.commandID++
	e.conn.asked++
	e.conn.cmd = r.asker.AppendRequest(e.conn.cmd, r.commandID, e.peer, r.payload)
}

func (r *request) flush(i int) {
	if c := r.ends[i].conn; c != nil {
		c.flush()
	}
}

func (r *request) frame(c *conn, f *Frame) {
	if f.Kind != FrameRequest && f.Kind != FrameReply {
		r.other(f)
		return
	}
	asker := c.index &^ 1
	s, ok := readStamp(f.Data)
	if !ok || s.sender != uint32(2*r.first+asker) || (f.Kind == FrameReply) != (c.index == asker) {
		r.counts.Strange++
		return
	}
	e, now := &r.ends[c.index], c.loop.readAt
	if f.Kind == FrameRequest {
		var seen Counts // what is lost here is counted by the missing answer
		e.track.accept(s.seq, &seen)
		r.counts.Doubled += seen.Doubled
		r.counts.OutOfOrder += seen.OutOfOrder
		r.counts.Delivered++
		s.put(r.payload)
		c.cmd = r.asker.AppendReply(c.cmd, f.Number, r.payload)
		return
	}
	r.arrived(s.due, now)
	r.counts.Answered++
	e.track.accept(s.seq, &r.counts)
	e.came = now
	if r.running && r.rate == 0 {
		r.ask(c.index, now)
	}
}

func (r *request) broken(c *conn, err error) {
	r.tally.broken(c, err)
	r.ends[c.index].conn = nil
}

func (r *request) tick(now int64) (next int64) {
	switch {
	case !r.running || len(r.ends) == 0:
		return never
	case r.rate > 0:
		for r.pace.due() <= now {
			r.ask(2*r.turn, r.pace.due())
			r.flush(2 * r.turn)
			r.turn = (r.turn + 1) % (len(r.ends) / 2)
			r.pace.take()
		}
		return r.pace.due()
	case now >= r.sweepAt:
		r.sweepAt = now + int64(stallAfter)
		r.sweep(now)
	}
	return r.sweepAt
}

// sweep lets askers go on whose answer has not come for long.
func (r *request) sweep(now int64) {
	for i := 0; i < len(r.ends); i += 2 {
		e := &r.ends[i]
		if e.conn == nil || r.ends[i+1].conn == nil || now-e.came < int64(stallAfter) {
			continue
		}
		r.counts.Stalls++
		e.came = now
		r.ask(i, now)
		r.flush(i)
	}
}

func (r *request) missing() (n uint64, known bool) {
	return untilNow(r.counts.Sent, r.counts.Answered), true
}

func (r *request) sent() map[uint32]uint32 { return nil }

// finish counts the questions that never got an answer. A question that was lost
// on its way has no answer either and counts once.
func (r *request) finish(map[uint32]uint32) {
	for i := 0; i < len(r.ends); i += 2 {
		r.ends[i].track.finish(r.ends[i].seq, &r.counts)
	}
}
