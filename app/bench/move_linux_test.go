package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"agentnet/app/wire"
)

// otherURL is the relay's second node.
func (f *fakeRelay) otherURL() string { return "http://" + f.another.Addr().String() + "/base" }

// sendAway sends a peer to the other node; p.mu is held.
func (p *fakePeer) sendAway() {
	if p.held != nil {
		_, _ = p.conn.Write(p.held)
		p.held = nil
	}
	n := wire.Notice{Kind: "rebalance", Message: "go", ReconnectInMS: 1}
	if !p.relay.wrong.unnamed {
		n.Endpoints = []string{"https://127.0.0.1:1", p.relay.otherURL()}
	}
	_, _ = p.conn.Write(wire.Seal(p.enc, wire.AppendNotice(make([]byte, wire.HeaderRoom), p.enc, &n)))
	_, _ = p.conn.Write(serverFrame(nil, 0x80|opClose, binary.BigEndian.AppendUint16(nil, uint16(wire.CloseDrain))))
	p.away = true
}

// left tells whether the peer went away from the connection c.
func (p *fakePeer) left(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away || p.conn != c
}

// resumed lets a peer go on that was sent away, if all that it says of its session is true.
func (f *fakeRelay) resumed(p *fakePeer, c *wire.Command) *fakePeer {
	f.mu.Lock()
	f.resumes++
	old := f.peers[p.agent]
	f.mu.Unlock()
	if old == nil || c.Connect.Resume == nil {
		return nil
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	want := *c.Connect.Resume
	if want.Session != "s-"+p.agent || want.Seq != old.last || !old.away || p.conn.LocalAddr().String() == old.conn.LocalAddr().String() {
		f.fault(fmt.Sprintf("resume of %+v at %v, want seq %d at the other node", want, p.conn.LocalAddr(), old.last))
		return nil
	}
	if f.wrong.forget {
		p.frames = f.wrong.moveAfter // it is not sent away again
		return nil
	}
	old.conn, old.away = p.conn, false
	hello := wire.AppendConnected(make([]byte, wire.HeaderRoom), p.enc, &wire.Connected{ID: c.ID, Session: want.Session, Agent: p.agent,
		Resumed: true, Seq: old.last, Node: "n", HeartbeatMS: 25000, Limits: f.limits})
	_, _ = old.conn.Write(wire.Seal(p.enc, hello))
	for _, frame := range old.waiting {
		_, _ = old.conn.Write(frame)
	}
	old.last, old.waiting = max(old.last, old.kept), nil
	return old
}

func (f *fakeRelay) fault(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, text)
}

// TestMovesAreFollowed has every connection sent to another node in the midst of the
// load: it goes there, resumes, and nothing but what was never answered is missing.
func TestMovesAreFollowed(t *testing.T) {
	tests := []struct {
		name    string
		wrong   wrong
		options Options
	}{
		{"direct", wrong{}, Options{Mode: ModeDirect, Pairs: 4, Answers: true}},
		{"direct at a rate", wrong{}, Options{Mode: ModeDirect, Pairs: 4, Rate: 500, Answers: true}},
		{"request", wrong{}, Options{Mode: ModeRequest, Pairs: 4}},
		{"fan-out at a rate", wrong{}, Options{Mode: ModeFanout, Connections: 10, Rate: 200, Answers: true}},
		{"protobuf", wrong{}, Options{Mode: ModeDirect, Pairs: 4, Rate: 500, Answers: true, Encoding: "protobuf"}},
		{"to the next of the given", wrong{unnamed: true}, Options{Mode: ModeDirect, Pairs: 4, Rate: 500, Answers: true}},
		{"several frames at once", wrong{joined: true}, Options{Mode: ModeDirect, Pairs: 4, Rate: 500, Answers: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.wrong.moveAfter = 5
			relay := startFake(t, tt.wrong)
			o := short(tt.options)
			if tt.wrong.unnamed {
				o.URL = strings.Join([]string{relay.url(), relay.otherURL()}, ",")
			}
			r, table, err := relay.bench(t, o)
			if err != nil {
				t.Fatal(err)
			}
			relay.mu.Lock()
			defer relay.mu.Unlock()
			n := r.Total
			if len(relay.faults) > 0 {
				t.Errorf("got %v", relay.faults)
			}
			unsure, want := n.Unanswered, r.Connect.Connections
			if o.Mode == ModeRequest { // a reply has no answer: each move may lose one, and ends that pair's turns
				unsure += n.Moved
				want = min(want, n.Moved)
			}
			if n.Moved == 0 || n.Moved != want || n.Stranded != 0 || n.Fresh != 0 || n.Broken != 0 {
				t.Errorf("got %+v, want %d moved, none of them with a new session, stranded or broken", n, want)
			}
			if n.Lost > unsure || n.Doubled+n.OutOfOrder+n.Strange+n.Refused+n.Gaps != 0 {
				t.Errorf("got %+v, want nothing missing but of %d unanswered commands", n, unsure)
			}
			if a := r.Parts[0].Away; a == nil || a.Count != n.Moved || !strings.Contains(table, "moved to another node") {
				t.Errorf("got times away %+v and table\n%s\nwant one for each move", a, table)
			}
		})
	}
}

// TestMovesToNewSessions has a relay that has forgotten the sessions: all go on with
// new ones, subscribed again.
func TestMovesToNewSessions(t *testing.T) {
	relay := startFake(t, wrong{moveAfter: 5, forget: true})
	o := short(Options{Mode: ModeFanout, Connections: 10, Rate: 200})
	r, _, err := relay.bench(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := r.Total; n.Moved != 10 || n.Fresh != 10 || n.Stranded != 0 || n.Delivered == 0 {
		t.Errorf("got %+v, want 10 moved to new sessions, and deliveries", n)
	}
}
