package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// A fakeRelay speaks the protocol over real sockets, as plainly as it can be
// done, and does on purpose the wrong that a test asks for.
type fakeRelay struct {
	listener net.Listener
	another  net.Listener // the relay's second node
	limits   wire.Limits
	wrong    wrong

	mu       sync.Mutex
	peers    map[string]*fakePeer
	channels map[string][]*fakePeer
	offsets  map[string]uint64
	asked    map[uint64]question
	number   uint64
	upgrades int
	acks     int
	pings    int
	resumes  int
	faults   []string

	wg sync.WaitGroup
}

// wrong says what the relay shall do wrong.
type wrong struct {
	dropEvery   uint64 // of the channel's messages, do not deliver each so-manieth
	doubleEvery uint64
	refuseFirst int           // upgrades that are told to come back
	badToken    bool          // refuses every connect
	joined      bool          // sends two frames in one message, and messages in fragments
	misdirect   bool          // gives direct messages to the sender itself
	lateBy      time.Duration // how late every message of a channel is delivered
	moveAfter   int           // sends each connection to the other node after so many frames, once
	unnamed     bool          // does not say where that is
	forget      bool          // opens a new session there
}

// A question is a request that waits for its reply.
type question struct {
	asker *fakePeer
	id    uint64
}

type fakePeer struct {
	relay *fakeRelay
	conn  net.Conn
	enc   wire.Encoding
	agent string
	mu    sync.Mutex
	seq   uint64
	held  []byte // an answer that goes out together with the next

	frames  int // that were written, and how many of them were sequenced
	last    uint64
	away    bool     // it was sent to the other node and has not come there yet
	waiting [][]byte // frames for it meanwhile, the last sequenced one of them being kept
	kept    uint64
}

func startFake(t *testing.T, w wrong) *fakeRelay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeRelay{listener: ln, limits: wire.DefaultLimits(), wrong: w, peers: map[string]*fakePeer{},
		channels: map[string][]*fakePeer{}, offsets: map[string]uint64{}, asked: map[uint64]question{}}
	if f.another, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f.wg.Go(func() { f.accept(f.listener) })
	f.wg.Go(func() { f.accept(f.another) })
	t.Cleanup(func() {
		_ = ln.Close()
		_ = f.another.Close()
		f.wg.Wait()
	})
	return f
}

func (f *fakeRelay) url() string { return "http://" + f.listener.Addr().String() + "/base" }

func (f *fakeRelay) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		f.wg.Go(func() {
			defer c.Close()
			if err := f.serve(c); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				_, _ = c.Write([]byte{0x88, 2, 0x03, 0xea})
			}
		})
	}
}

// serve upgrades one connection and reads its messages.
func (f *fakeRelay) serve(c net.Conn) error {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.upgrades++
	busy := f.upgrades <= f.wrong.refuseFirst
	f.mu.Unlock()
	if busy || req.URL.Path != "/base/ws" || req.Header.Get("Sec-WebSocket-Key") != upgradeKey {
		status := "503 Service Unavailable"
		if !busy {
			status = "404 Not Found"
		}
		_, err = fmt.Fprintf(c, "HTTP/1.1 %s\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", status)
		return err
	}
	p := &fakePeer{relay: f, conn: c}
	protocol := req.Header.Get("Sec-WebSocket-Protocol")
	if protocol == wire.SubprotocolProtobuf {
		p.enc = wire.Protobuf
	}
	if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		upgradeAccept, protocol); err != nil {
		return err
	}
	defer func() { f.leave(p, c) }()
	for {
		op, msg, err := readMasked(r)
		if err != nil {
			return err
		}
		if op == opPong {
			continue
		}
		var cmd wire.Command
		for len(msg) > 0 {
			n, err := cmd.Read(p.enc, msg, &f.limits)
			var bad *wire.FrameError
			switch {
			case errors.As(err, &bad):
				p.refuse(bad.ID, bad.Err.Code)
			case err != nil:
				return err
			case cmd.Kind == wire.KindConnect:
				p = f.connect(p, &cmd)
			case cmd.Kind != wire.KindNone && !p.left(c): // what comes after its close is not read
				f.command(p, &cmd)
			}
			msg = msg[n:]
		}
	}
}

// readMasked reads one unfragmented client message.
func readMasked(r *bufio.Reader) (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[1]&0x80 == 0 {
		return 0, nil, errors.New("the client did not mask its frame")
	}
	size := uint64(head[1] & 0x7f)
	var long [8]byte
	switch size {
	case 126:
		if _, err := io.ReadFull(r, long[6:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(long[:])
	case 127:
		if _, err := io.ReadFull(r, long[:]); err != nil {
			return 0, nil, err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	buf := make([]byte, 4+size)
	if _, err := io.ReadFull(r, buf); err != nil {
		return 0, nil, err
	}
	for i := range buf[4:] {
		buf[4+i] ^= buf[i%4]
	}
	return head[0] & 0x0f, buf[4:], nil
}

// write sends one frame.
func (p *fakePeer) write(frame func(dst []byte) []byte) {
	p.deliver(0, frame)
}

// deliver sends one frame, which is sequenced unless seq is 0.
func (p *fakePeer) deliver(seq uint64, frame func(dst []byte) []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sealed := wire.Seal(p.enc, frame(make([]byte, wire.HeaderRoom)))
	if p.away {
		p.waiting, p.kept = append(p.waiting, sealed), max(p.kept, seq)
		return
	}
	p.last = max(p.last, seq)
	if p.frames++; p.frames == p.relay.wrong.moveAfter {
		defer p.sendAway()
	}
	if !p.relay.wrong.joined {
		_, _ = p.conn.Write(sealed)
		return
	}
	if p.held == nil {
		p.held = sealed
		p.relay.wg.Go(p.release)
		return
	}
	joined := wire.AppendJoined(nil, p.enc, [][]byte{p.held, sealed})
	p.held = nil
	_, _ = p.conn.Write(fragment(joined))
}

// release sends an answer that found no company.
func (p *fakePeer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held != nil {
		_, _ = p.conn.Write(p.held)
		p.held = nil
	}
}

// fragment splits a message in two, with a ping in between.
func fragment(msg []byte) []byte {
	payload := wire.Body(msg)
	half := len(payload) / 2
	out := serverFrame(nil, msg[0]&0x0f, payload[:half])
	out = serverFrame(out, 0x80|opPing, []byte("hi"))
	return serverFrame(out, 0x80|opContinuation, payload[half:])
}

func serverFrame(dst []byte, first byte, payload []byte) []byte {
	dst = append(dst, first)
	if len(payload) < 126 {
		dst = append(dst, byte(len(payload)))
	} else {
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(len(payload)))
	}
	return append(dst, payload...)
}

func (f *fakeRelay) leave(p *fakePeer, c net.Conn) {
	if p.left(c) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.peers, p.agent)
}

// command carries out one command.
func (f *fakeRelay) command(p *fakePeer, c *wire.Command) {
	switch c.Kind {
	case wire.KindSubscribe:
		f.mu.Lock()
		f.channels[string(c.Channel)] = append(f.channels[string(c.Channel)], p)
		f.mu.Unlock()
		p.ok(&wire.OK{ID: c.ID, For: c.Kind, Epoch: "e"})
	case wire.KindPublish:
		f.publish(p, c)
	case wire.KindSend:
		f.send(p, c)
	case wire.KindRequest:
		f.request(p, c)
	case wire.KindReply:
		f.reply(p, c)
	case wire.KindAck:
		f.mu.Lock()
		f.acks++
		f.mu.Unlock()
	case wire.KindPing:
		f.mu.Lock()
		f.pings++
		f.mu.Unlock()
		p.write(func(dst []byte) []byte { return wire.AppendPong(dst, p.enc, &wire.Pong{TimeMS: 1}) })
	default:
		p.refuse(c.ID, wire.BadFrame)
	}
}

func (p *fakePeer) ok(v *wire.OK) {
	if v.ID > 0 {
		p.write(func(dst []byte) []byte { return wire.AppendOK(dst, p.enc, v) })
	}
}

func (p *fakePeer) refuse(id uint64, code wire.Code) {
	p.write(func(dst []byte) []byte {
		return wire.AppendError(dst, p.enc, &wire.ErrorFrame{ID: id, Err: wire.Error{Code: code, Message: "no"}})
	})
}

// connect answers the peer that the connection is of: the old one where it resumes.
func (f *fakeRelay) connect(p *fakePeer, c *wire.Command) *fakePeer {
	if f.wrong.badToken || c.Connect.Token != "secret" {
		p.refuse(c.ID, wire.Unauthorized)
		return p
	}
	p.agent = c.Connect.Agent
	if old := f.resumed(p, c); old != nil {
		return old
	}
	f.mu.Lock()
	f.peers[p.agent] = p
	f.mu.Unlock()
	p.write(func(dst []byte) []byte {
		return wire.AppendConnected(dst, p.enc, &wire.Connected{ID: c.ID, Session: "s-" + p.agent, Agent: p.agent, Node: "n", HeartbeatMS: 25000, Limits: f.limits})
	})
	return p
}

func (f *fakeRelay) publish(p *fakePeer, c *wire.Command) {
	f.mu.Lock()
	f.offsets[string(c.Channel)]++
	offset := f.offsets[string(c.Channel)]
	subs := f.channels[string(c.Channel)]
	f.mu.Unlock()
	times := 1
	if n := f.wrong.doubleEvery; n > 0 && offset%n == 0 {
		times = 2
	}
	if n := f.wrong.dropEvery; n > 0 && offset%n == 0 {
		times = 0
	}
	m := wire.Message{Channel: string(c.Channel), Offset: offset, From: p.agent, Payload: c.Payload, MessageID: "01J", TimeMS: 1, Class: wire.Normal}
	if f.wrong.lateBy > 0 {
		time.Sleep(f.wrong.lateBy) // a slow relay, not a wait for something
	}
	for range times {
		for _, sub := range subs {
			sub.write(func(dst []byte) []byte { return wire.AppendMessage(dst, sub.enc, &m) })
		}
	}
	p.ok(&wire.OK{ID: c.ID, For: c.Kind, Epoch: "e", Offset: offset})
}

// find is the peer with that name and its next sequence number.
func (f *fakeRelay) find(agent string) (*fakePeer, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[agent]
	if p == nil {
		return nil, 0
	}
	p.seq++
	return p, p.seq
}

func (f *fakeRelay) send(p *fakePeer, c *wire.Command) {
	to := string(c.To)
	if f.wrong.misdirect {
		to = p.agent
	}
	peer, seq := f.find(to)
	if peer == nil {
		p.refuse(c.ID, wire.AgentOffline)
		return
	}
	m := wire.Message{Seq: seq, From: p.agent, To: string(c.To), Payload: c.Payload, MessageID: "01J", TimeMS: 1, Class: wire.Normal}
	peer.deliver(seq, func(dst []byte) []byte { return wire.AppendMessage(dst, peer.enc, &m) })
	p.ok(&wire.OK{ID: c.ID, For: c.Kind, MessageID: "01J", Outcome: wire.Delivered, Sessions: 1})
}

func (f *fakeRelay) request(p *fakePeer, c *wire.Command) {
	peer, seq := f.find(string(c.To))
	if peer == nil {
		p.refuse(c.ID, wire.AgentOffline)
		return
	}
	f.mu.Lock()
	f.number++
	number := f.number
	f.asked[number] = question{asker: p, id: c.ID}
	f.mu.Unlock()
	q := wire.Request{Seq: seq, Request: number, From: p.agent, Method: string(c.Method), Payload: c.Payload, DeadlineMS: c.TimeoutMS}
	peer.deliver(seq, func(dst []byte) []byte { return wire.AppendRequest(dst, peer.enc, &q) })
}

func (f *fakeRelay) reply(p *fakePeer, c *wire.Command) {
	f.mu.Lock()
	q, known := f.asked[c.Request]
	delete(f.asked, c.Request)
	f.mu.Unlock()
	if !known {
		p.refuse(c.ID, wire.Gone)
		return
	}
	_, seq := f.find(q.asker.agent)
	a := wire.Reply{ID: q.id, Seq: seq, From: p.agent, Payload: c.Payload}
	q.asker.deliver(seq, func(dst []byte) []byte { return wire.AppendReply(dst, q.asker.enc, &a) })
}

// bench runs a load against the relay.
func (f *fakeRelay) bench(t *testing.T, o Options) (*Report, string, error) {
	t.Helper()
	if o.URL == "" {
		o.URL = f.url()
	}
	o.Token = "secret"
	var out strings.Builder
	r, err := Run(context.Background(), o, &out)
	return r, out.String(), err
}
