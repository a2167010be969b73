//go:build linux

package e2e

import (
	"fmt"
	"net"
	"time"

	"agentnet/app/wire"
)

// tick does what is due: an ack, requests that nobody answered.
func (r *rawActor) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ack()
	for id, q := range r.asks {
		if q.lineage == r.lineage && r.sock != nil && r.arena.now() > q.until {
			delete(r.asks, id)
			r.d.mu.Lock()
			r.d.silent++
			r.d.mu.Unlock()
		}
	}
}

// act does one thing.
func (r *rawActor) act() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sock == nil || len(r.asked) > 0 {
		return
	}
	switch x := r.rnd.IntN(100); {
	case x < 70 && len(r.waiting) < 64:
		r.sendLocked(false, r.rnd.IntN(len(r.arena.record.agents)))
	case x < 82 && len(r.waiting) < 64:
		r.sendLocked(true, r.rnd.IntN(len(r.arena.record.channels)))
	case x < 92 || r.arena.gentle:
		r.n++
		r.lastID++
		to := r.rnd.IntN(len(r.arena.record.agents))
		// The relay says when the time is over; not being told for long after is silence.
		r.asks[r.lastID] = ask{r.n, r.lineage, r.arena.now() + int64(25*time.Second)}
		r.d.mu.Lock()
		r.d.questions++
		r.d.mu.Unlock()
		_ = r.sock.write(&wire.Command{ID: r.lastID, Kind: wire.KindRequest, To: []byte(agentName(to)), Method: []byte("echo"),
			TimeoutMS: 3000, Payload: r.arena.question(r.index, to, r.n), Class: wire.Normal})
	case x < 98:
		r.dropLocked(r.rnd.IntN(cutKinds))
	default: // leave for good and come back as somebody who knows nothing
		r.d.tell(r.arena.now(), "left for good, own base %d", r.base)
		r.sock.leave()
		r.sock, r.session = nil, ""
		r.d.mu.Lock()
		r.d.lineages[len(r.d.lineages)-1].ended = r.arena.now()
		r.d.mu.Unlock()
	}
}

func (r *rawActor) sendLocked(channel bool, to int) {
	r.n++
	r.lastID++
	m := &deed{from: r.index, to: to, channel: channel, n: r.n, class: wire.Class(r.rnd.IntN(wire.Classes)), keep: r.rnd.IntN(3) == 0, begun: r.arena.now()}
	e := &errand{deed: m, cmd: wire.Command{ID: r.lastID, Kind: wire.KindSend, Class: m.class, Payload: r.arena.payload(m), Key: fmt.Appendf(nil, "k%d", m.n)}}
	if channel {
		e.cmd.Kind, e.cmd.Channel, m.keep = wire.KindPublish, []byte(channelName(to)), false
	} else {
		e.cmd.To = []byte(agentName(to))
		if m.keep {
			e.cmd.TTLMS = time.Hour.Milliseconds()
		}
	}
	r.waiting = append(r.waiting, e)
	r.d.mu.Lock()
	r.d.deeds = append(r.d.deeds, m)
	r.d.mu.Unlock()
	r.arena.sent.Add(1)
	_ = r.sock.write(&e.cmd)
}

// dropLocked loses the connection in one of the ways of real networks.
func (r *rawActor) dropLocked(how int) {
	s := r.sock
	th := r.arena.proxy.Of(s.conn)
	if th == nil && how >= cutStall {
		how = cutRST
	}
	r.arena.tcpCuts[how].Add(1)
	r.d.tell(r.arena.now(), "lost by way %d, own base %d", how, r.base)
	if r.rnd.IntN(6) == 0 { // some stay away, a few of them longer than their session is kept
		r.away = r.arena.now() + int64(r.rnd.IntN(5500))*int64(time.Millisecond)
	}
	switch how {
	case cutFIN:
		r.sock = nil
		s.conn.Close()
	case cutRST:
		r.sock = nil
		s.reset()
	case cutStall: // half-open: the relay does not hear of it
		th.Silence()
		r.sock = nil
		_ = s.conn.(*net.TCPConn).CloseRead()
		_ = s.conn.SetReadDeadline(time.Now())
	case cutSlow:
		th.Slow(100 * time.Millisecond)
		return
	}
	if len(r.asked) > 0 {
		r.session = ""
	}
}

func (r *rawActor) settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sock != nil && len(r.waiting) == 0 && len(r.asked) == 0 && len(r.asks) == 0
}

func (r *rawActor) listens() map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[int]int{}
	for ch := range r.seats {
		out[ch] = r.lineage
	}
	if len(r.above) > 0 {
		r.holes = fmt.Sprintf("agent %d: seq %d never came, later ones did", r.index, r.base+1)
	}
	return out
}

func (r *rawActor) leave() {
	r.mu.Lock()
	r.ack()
	if r.sock != nil {
		r.sock.leave()
		r.sock = nil
	}
	r.mu.Unlock()
	r.tasks.Wait()
}
