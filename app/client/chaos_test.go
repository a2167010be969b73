package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// A model is a relay of one agent and one channel with the rules of the protocol:
// it keeps direct frames until they are acknowledged, knows dedup keys, and cuts
// the connection at random places, before or after it has handled a command.
type model struct {
	t   testing.TB
	rnd *rand.Rand
	mu  sync.Mutex

	session  int // 0: none yet
	seq      uint64
	unacked  []wire.Message
	keys     map[string]uint64
	accepted []string // payloads of sends, each key once
	channel  []wire.Message
	drops    int
	calm     bool // no more cuts
}

func (m *model) serve(p *peer) {
	defer p.drop()
	for cmd := range p.commands {
		m.mu.Lock()
		cutBefore, cutAfter := m.cut(), m.cut()
		if cutBefore || !m.handle(p, cmd, cutAfter) || cutAfter {
			m.drops++
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
	}
}

func (m *model) cut() bool { return !m.calm && m.rnd.IntN(25) == 0 }

// handle does what the relay does for a command; mute swallows the answer.
func (m *model) handle(p *peer, cmd wire.Command, mute bool) bool {
	answer := func(frames ...[]byte) {
		if !mute {
			p.send(frames...)
		}
	}
	switch cmd.Kind {
	case wire.KindConnect:
		m.connect(p, cmd)
	case wire.KindSend:
		key := string(cmd.Key)
		if _, again := m.keys[key]; !again {
			m.keys[key] = uint64(len(m.keys) + 1)
			m.accepted = append(m.accepted, string(cmd.Payload.Data))
		}
		answer(wire.AppendOK(nil, p.encoding, &wire.OK{ID: cmd.ID, For: cmd.Kind, Outcome: wire.Delivered, MessageID: fmt.Sprint(m.keys[key])}))
	case wire.KindSubscribe:
		frames := [][]byte{wire.AppendOK(nil, p.encoding, &wire.OK{
			ID: cmd.ID, For: cmd.Kind, Epoch: "e", Offset: uint64(len(m.channel)), Recovered: cmd.HasSince})}
		if cmd.HasSince {
			frames = append(frames, m.after(p, cmd.Since.Offset)...)
		}
		answer(frames...)
	case wire.KindAck:
		m.unacked = slices.DeleteFunc(m.unacked, func(v wire.Message) bool { return v.Seq <= cmd.Seq })
	case wire.KindPing:
		answer(wire.AppendPong(nil, p.encoding, &wire.Pong{ID: cmd.ID, TimeMS: 1}))
	default:
		m.t.Errorf("got a %v command", cmd.Kind)
	}
	return true
}

func (m *model) connect(p *peer, cmd wire.Command) {
	r := cmd.Connect.Resume
	resumed := r != nil && r.Session == fmt.Sprint(m.session)
	if !resumed {
		if r != nil {
			m.t.Errorf("got a resume of session %s, the last is %d", r.Session, m.session)
		}
		m.session++
	}
	frames := [][]byte{wire.AppendConnected(nil, p.encoding, &wire.Connected{
		ID: cmd.ID, Session: fmt.Sprint(m.session), Resumed: resumed, Seq: m.seq, HeartbeatMS: 25000,
		Agent: "alice", Limits: wire.DefaultLimits(),
	})}
	if resumed {
		m.unacked = slices.DeleteFunc(m.unacked, func(v wire.Message) bool { return v.Seq <= r.Seq })
		for i := range m.unacked {
			frames = append(frames, wire.AppendMessage(nil, p.encoding, &m.unacked[i]))
		}
		for _, c := range r.Channels {
			frames = append(frames, m.after(p, c.Offset)...)
		}
	}
	p.send(frames...)
}

func (m *model) after(p *peer, offset uint64) (frames [][]byte) {
	for i := range m.channel[offset:] {
		frames = append(frames, wire.AppendMessage(nil, p.encoding, &m.channel[offset:][i]))
	}
	return frames
}

// push makes one direct message or publication and writes it to whoever is there.
func (m *model) push(p *peer, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := wire.Message{From: "bob", MessageID: fmt.Sprint("id", n), Class: wire.Normal, Payload: text(fmt.Sprint(n))}
	if n%2 == 0 {
		m.seq++
		v.Seq, v.To = m.seq, "alice"
		m.unacked = append(m.unacked, v)
	} else {
		v.Channel, v.Offset = "news", uint64(len(m.channel)+1)
		m.channel = append(m.channel, v)
	}
	if p != nil && !m.cut() {
		p.send(wire.AppendMessage(nil, p.encoding, &v))
	} else if p != nil {
		p.drop()
		m.drops++
	}
}

// TestNothingLostOrDoubledAcrossDrops sends and receives over a connection that is
// cut all the time.
func TestNothingLostOrDoubledAcrossDrops(t *testing.T) {
	const messages = 1500
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeRelay(t)
				f.forgiving = true
				defer f.stop()
				m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), keys: map[string]uint64{}}
				var (
					mu      sync.Mutex
					current *peer
				)
				done := make(chan struct{})
				go func() {
					for p := range f.peers {
						mu.Lock()
						current = p
						mu.Unlock()
						m.serve(p)
					}
					close(done)
				}()
				defer func() { close(f.peers); <-done }()
				direct, news := &inbasket{}, &inbasket{}
				c, err := Dial(t.Context(), Config{
					URL: "http://relay.test", NetDial: f.dial, Token: "t", Patient: true, Backoff: Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}, Encoding: wire.Encoding(seed % 2),
					OnMessage: direct.message, OnGap: func(g Gap) { t.Errorf("got gap %+v", g) },
				})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := c.Subscribe(t.Context(), "news", SubscribeOptions{}, news.message); err != nil {
					t.Fatal(err)
				}
				var pending []*Pending
				for n := range messages {
					p, err := c.SendAsync(t.Context(), "bob", text(fmt.Sprint(n)))
					if err != nil {
						t.Fatal(err)
					}
					pending = append(pending, p)
					mu.Lock()
					at := current
					mu.Unlock()
					if c.State() != Connected {
						at = nil
					}
					m.push(at, n)
					if n%7 == 0 {
						time.Sleep(time.Duration(m.random(400)) * time.Millisecond)
					}
				}
				m.mu.Lock()
				m.calm = true
				m.mu.Unlock()
				for n, p := range pending {
					if _, err := p.Sent(t.Context()); err != nil && !errors.Is(err, ErrUncertain) {
						t.Fatalf("send %d: %v", n, err)
					} else if err != nil {
						t.Fatalf("send %d is uncertain within the memory of keys: %v", n, err)
					}
				}
				// One last drop, so that the very last pushes are replayed too.
				mu.Lock()
				current.drop()
				mu.Unlock()
				time.Sleep(time.Minute)
				m.check(t, direct.all(), news.all())
			})
		})
	}
}

func (m *model) random(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rnd.IntN(n)
}

func (m *model) check(t *testing.T, direct, news []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drops < 20 {
		t.Errorf("only %d drops: the test proves nothing", m.drops)
	}
	var want, wantDirect, wantNews []string
	for n := range 1500 {
		v := fmt.Sprintf("%q", fmt.Sprint(n))
		want = append(want, v)
		if n%2 == 0 {
			wantDirect = append(wantDirect, v)
		} else {
			wantNews = append(wantNews, v)
		}
	}
	if !slices.Equal(m.accepted, want) {
		t.Errorf("the relay accepted %d sends, want 1500, each once and in order; %s", len(m.accepted), difference(m.accepted, want))
	}
	if !slices.Equal(direct, wantDirect) {
		t.Errorf("the handler got %d direct messages, want %d; %s", len(direct), len(wantDirect), difference(direct, wantDirect))
	}
	if !slices.Equal(news, wantNews) {
		t.Errorf("the handler got %d channel messages, want %d; %s", len(news), len(wantNews), difference(news, wantNews))
	}
	if len(m.unacked) != 0 {
		t.Errorf("%d direct messages were never acknowledged", len(m.unacked))
	}
}

func difference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("at %d: got %s, want %s", i, got[i], want[i])
		}
	}
	return "one is the beginning of the other"
}

// FuzzFramesFromTheRelay feeds a connected client anything: it may not panic, nor
// hang.
func FuzzFramesFromTheRelay(f *testing.F) {
	f.Add(uint8(0), []byte(`{"id":1,"ok":{"outcome":"delivered"}}`+"\n"+`{"message":{"seq":1,"from":"b","to":"a","data":1}}`))
	f.Add(uint8(0), []byte(`{"request":{"seq":18446744073709551615,"request":1,"from":"b","method":"m","deadline":-1}}`))
	f.Add(uint8(0), []byte(`{"gap":{"channel":"news","missed":9}} {"cancel":{"request":1}} {"reply":{"id":1,"more":true}}`))
	f.Add(uint8(0), []byte(`{"notice":{"kind":"drain","reconnect_in_ms":9007199254740991,"endpoints":["http://x","::"]}}`))
	f.Add(uint8(1), []byte{3, 8, 1, 0, 0xff})
	f.Fuzz(func(t *testing.T, enc uint8, msg []byte) {
		cfg, err := Config{URL: "http://x", Token: "t", Encoding: wire.Encoding(enc % wire.Encodings),
			OnMessage: func(context.Context, *Message) {}, OnNotice: func(wire.Notice) {}}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t.Context(), cfg)
		defer c.cancel()
		c.subs["news"] = &Subscription{client: c, channel: "news", active: true, ids: newRecent(4)}
		l := &link{encoding: cfg.Encoding}
		_ = c.readFrames(l, msg)
		_ = c.readFrames(l, msg)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.ackTimer != nil {
			c.ackTimer.Stop()
		}
		if len(c.got.above) > c.seqWindow() {
			t.Errorf("the window holds %d numbers", len(c.got.above))
		}
	})
}
