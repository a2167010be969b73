//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// A member is an agent that uses app/client, whose connections are cut below it.
type member struct {
	arena *arena
	index int
	d     *diary
	rnd   *rand.Rand // owned by live
	rate  float64
	n     int // owned by live
	tasks sync.WaitGroup
	open  atomic.Int64 // commands and requests without an answer yet
	links atomic.Int64 // connections made

	mu      sync.Mutex
	conn    net.Conn // the latest
	lineage int
	life    int // clients made, each with hearing of its own
	eras    map[int]*era
	client  *client.Client
}

func newMember(a *arena, i int, seed uint64, rate float64) *member {
	return &member{arena: a, index: i, d: a.record.agents[i], rnd: rand.New(rand.NewPCG(seed, uint64(i))), rate: rate, lineage: -1}
}

func (m *member) channels() []int {
	n := len(m.arena.record.channels)
	return slices.Compact([]int{m.index % n, (m.index*7 + 3) % n})
}

// begin makes a client: a lineage of its own. Channels are heard by lives, which the
// client joins over its sessions.
func (m *member) begin() {
	m.mu.Lock()
	m.life++
	hearing := -m.life
	m.mu.Unlock()
	direct := m.rnd.IntN(2) == 0
	arriving, cancel := context.WithTimeout(context.Background(), gathering)
	defer cancel()
	c, err := client.Dial(arriving, client.Config{
		URL: m.arena.p.url, Token: m.arena.p.token, Agent: agentName(m.index), Encoding: wire.Encoding(m.rnd.IntN(wire.Encodings)), Patient: true,
		Backoff: client.Backoff{Min: 20 * time.Millisecond, Max: 300 * time.Millisecond}, CloseTimeout: time.Second,
		NetDial: func(_ context.Context, _, at string) (net.Conn, error) {
			addr := at
			if !m.arena.led || at == m.arena.p.addr {
				addr = m.arena.door(m.index, !direct && !m.arena.calm.Load())
			}
			conn, err := dial(addr, 0, 0)
			if err == nil {
				m.links.Add(1)
				m.mu.Lock()
				m.conn = conn
				m.mu.Unlock()
			}
			return conn, err
		},
		OnMessage: func(_ context.Context, msg *client.Message) { m.arena.note(m.index, &msg.Message, m.present()) },
		OnRequest: func(_ context.Context, q *client.Request) (wire.Payload, error) {
			return m.arena.echo(m.index, q.Payload), nil
		},
		OnGap: func(g client.Gap) { m.lost(g, hearing) },
		OnState: func(s client.StateChange) {
			m.d.tell(m.arena.now(), "client is %v, resumed %v, cause %v", s.State, s.Resumed, s.Cause)
			if s.State == client.Connected && !s.Resumed {
				m.newLineage()
			} else if s.State == client.Connected {
				m.arena.resumes.Add(1)
			}
		},
	})
	if err != nil {
		m.arena.t.Errorf("agent %d: %v", m.index, err)
		return
	}
	m.newLineageIfNone()
	m.mu.Lock()
	m.client = c
	m.mu.Unlock()
	for _, ch := range m.channels() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		sub, err := c.Subscribe(ctx, channelName(ch), client.SubscribeOptions{}, func(_ context.Context, msg *client.Message) {
			m.hear(ch, &msg.Message, hearing)
		})
		cancel()
		if err != nil {
			m.arena.t.Errorf("agent %d: %v", m.index, err)
			continue
		}
		m.d.mu.Lock()
		m.d.listenings = append(m.d.listenings, listening{lineage: hearing, channel: ch, after: sub.Position().Offset})
		m.d.mu.Unlock()
	}
}

// newLineageIfNone covers a first connection, should the client not tell it.
func (m *member) newLineageIfNone() {
	m.d.mu.Lock()
	n := len(m.d.lineages)
	none := n == 0 || m.d.lineages[n-1].ended != 0
	m.d.mu.Unlock()
	if none {
		m.newLineage()
	}
}

func (m *member) newLineage() {
	m.arena.fresh.Add(1)
	m.endLineage()
	m.d.mu.Lock()
	m.d.lineages = append(m.d.lineages, lineage{begun: m.arena.now()})
	m.d.mu.Unlock()
	m.mu.Lock()
	m.lineage++
	m.mu.Unlock()
}

func (m *member) endLineage() {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if n := len(m.d.lineages); n > 0 && m.d.lineages[n-1].ended == 0 {
		m.d.lineages[n-1].ended = m.arena.now()
	}
}

func (m *member) present() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lineage
}

func (m *member) lost(g client.Gap, hearing int) {
	if g.SessionLost {
		return // a lineage has ended, which OnState tells
	}
	l := loss{lineage: m.present(), channel: -1, missed: g.Missed}
	if g.Channel != "" {
		l.lineage = hearing
		if _, err := fmt.Sscanf(g.Channel, "e2e/c/%d", &l.channel); err != nil {
			return
		}
		m.mu.Lock()
		if e := m.eras[l.channel]; e != nil && g.Missed == 0 {
			e.gap = true
		}
		m.mu.Unlock()
	}
	m.d.mu.Lock()
	m.d.losses = append(m.d.losses, l)
	m.d.mu.Unlock()
}

// hear notes a message of a channel.
func (m *member) hear(ch int, msg *wire.Message, hearing int) {
	m.mu.Lock()
	e := m.eras[ch]
	if e == nil {
		e = &era{}
		if m.eras == nil {
			m.eras = map[int]*era{}
		}
		m.eras[ch] = e
	}
	in := *msg
	in.Offset = e.place(in.Offset)
	m.mu.Unlock()
	m.arena.note(m.index, &in, hearing)
}

// An era counts the epochs of a channel that an agent lives through: the offsets of
// a later one are behind all of an earlier one. That a new one has begun shows in a
// gap of unknown size before an offset that was there already.
type era struct {
	number uint64
	last   uint64
	gap    bool
}

func (e *era) place(offset uint64) uint64 {
	if e.gap && offset <= e.last {
		e.number++
	}
	e.gap, e.last = false, offset
	return e.number<<40 + offset
}

func (m *member) live(ctx context.Context) {
	m.begin()
	for ctx.Err() == nil {
		m.act(ctx)
		pause(ctx, time.Duration(m.rnd.ExpFloat64()/m.rate*float64(time.Second)))
	}
	// The last connection may be one that goes nowhere.
	m.drop(cutRST)
}

func (m *member) act(ctx context.Context) {
	if m.client == nil || m.open.Load() > 64 {
		return
	}
	switch x := m.rnd.IntN(100); {
	case x < 70:
		m.send(false, m.rnd.IntN(len(m.arena.record.agents)))
	case x < 82:
		m.send(true, m.rnd.IntN(len(m.arena.record.channels)))
	case x < 92 || m.arena.gentle:
		m.ask(m.rnd.IntN(len(m.arena.record.agents)))
	case x < 98:
		m.drop(m.rnd.IntN(cutKinds))
	default:
		m.client.Close()
		m.endLineage()
		<-m.client.Done()
		m.begin()
	}
}

func (m *member) send(channel bool, to int) {
	m.n++
	what := &deed{from: m.index, to: to, channel: channel, n: m.n, class: wire.Class(m.rnd.IntN(wire.Classes)), keep: !channel && m.rnd.IntN(3) == 0, begun: m.arena.now()}
	m.d.mu.Lock()
	m.d.deeds = append(m.d.deeds, what)
	m.d.mu.Unlock()
	opts := []client.Option{client.Priority(what.class)}
	if what.keep {
		opts = append(opts, client.TTL(time.Hour))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	links := m.links.Load()
	var p *client.Pending
	var err error
	if channel {
		p, err = m.client.PublishAsync(ctx, channelName(to), m.arena.payload(what), opts...)
	} else {
		p, err = m.client.SendAsync(ctx, agentName(to), m.arena.payload(what), opts...)
	}
	m.arena.sent.Add(1)
	m.open.Add(1)
	m.tasks.Go(func() {
		defer cancel()
		defer m.open.Add(-1)
		var sent client.Sent
		var at wire.Since
		if err == nil && channel {
			at, err = p.Published(ctx)
		} else if err == nil {
			sent, err = p.Sent(ctx)
		}
		m.d.mu.Lock()
		defer m.d.mu.Unlock()
		what.ended, what.again = m.arena.now(), m.links.Load() != links
		refusal := (*wire.Error)(nil)
		switch {
		case errors.As(err, &refusal):
			what.verdict = refused
		case errors.Is(err, client.ErrUncertain), errors.Is(err, client.ErrClosed):
			what.verdict = uncertain
		case err != nil: // stays unanswered, which is a fault
		case channel:
			what.verdict, what.offset = published, at.Offset
		case sent.Outcome == wire.Parked:
			what.verdict, what.id = parked, sent.MessageID
		default:
			what.verdict, what.id = delivered, sent.MessageID
		}
	})
}

func (m *member) ask(to int) {
	m.n++
	n, c := m.n, m.client
	m.d.mu.Lock()
	m.d.questions++
	m.d.mu.Unlock()
	m.open.Add(1)
	m.tasks.Go(func() {
		defer m.open.Add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		reply, err := c.Request(ctx, agentName(to), "echo", m.arena.question(m.index, to, n), client.Timeout(3*time.Second))
		if err == nil {
			m.arena.answered(m.index, n, reply.Payload)
		} else if ctx.Err() != nil {
			m.d.mu.Lock()
			m.d.silent++
			m.d.mu.Unlock()
		}
	})
}

func (m *member) drop(how int) {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn == nil {
		return
	}
	th := m.arena.proxy.Of(conn)
	if th == nil && how >= cutStall {
		how = cutRST
	}
	m.arena.tcpCuts[how].Add(1)
	m.d.tell(m.arena.now(), "lost by way %d", how)
	switch how {
	case cutFIN:
		_ = conn.(*net.TCPConn).CloseWrite()
	case cutRST:
		cut(conn)
	case cutStall: // the client cannot notice; its own end is closed as a network change does
		th.Silence()
		_ = conn.SetReadDeadline(time.Now())
		conn.Close()
	case cutSlow:
		th.Slow(100 * time.Millisecond)
	}
}

func (m *member) settled() bool {
	return m.client != nil && m.open.Load() == 0 && m.client.State() == client.Connected
}

func (m *member) listens() map[int]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[int]int{}
	for _, ch := range m.channels() {
		out[ch] = -m.life
	}
	return out
}

func (m *member) leave() {
	if m.client != nil {
		m.client.Close()
		<-m.client.Done()
	}
	m.tasks.Wait()
}
