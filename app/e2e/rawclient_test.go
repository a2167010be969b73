package e2e_test

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	pb "agentnet/app/wire/agentnetpb"
)

// The client of these tests shares no code with the product: RFC 6455 by hand,
// JSON by encoding/json, protobuf by the generated code of the schema. What both
// sides of the product get wrong in the same way is seen here.

// patience is how long something that must come may take.
const patience = 20 * time.Second

// Opcodes of RFC 6455.
const (
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// A speaker is one WebSocket connection.
type speaker struct {
	t      testing.TB
	nc     net.Conn
	br     *bufio.Reader
	d      dialect
	upset  http.Header // headers of the 101
	lastID uint64
	kept   []heard // read while another frame was waited for
	pinged int
	ended  *ending // set when the connection is over
	hello  *pb.Connected
	token  string
	at     *apptest.Node // where it is connected
	settle bool          // there are other nodes, from which something may still be under way
}

// An ending is how a connection ended: code 0 is without a close frame.
type ending struct {
	code   int
	reason string
}

// knock connects and sends an upgrade request.
func knock(t testing.TB, url string, lines ...string) *speaker {
	t.Helper()
	return knockWith(t, url, "GET /ws HTTP/1.1", append(upgradeLines(url), lines...)...)
}

// upgradeLines are the headers that an upgrade must have.
func upgradeLines(url string) []string {
	var key [16]byte
	rand.Read(key[:])
	return []string{"Host: " + strings.TrimPrefix(url, "http://"), "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key[:])}
}

// knockWith connects and sends a request of these lines.
func knockWith(t testing.TB, url string, request string, lines ...string) *speaker {
	t.Helper()
	nc, err := net.DialTimeout("tcp", strings.TrimPrefix(url, "http://"), patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() { nc.Close() })
	s := &speaker{t: t, nc: nc, br: bufio.NewReaderSize(nc, 64<<10)}
	s.push([]byte(request + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"))
	return s
}

// answer reads the response to a request.
func (s *speaker) answer() *http.Response {
	s.t.Helper()
	s.nc.SetReadDeadline(time.Now().Add(patience))
	res, err := http.ReadResponse(s.br, nil)
	if err != nil {
		s.t.Fatalf("read the answer to the upgrade: %v", err)
	}
	return res
}

// dialRaw upgrades in the dialect, and nothing more.
func dialRaw(t testing.TB, url string, d dialect, lines ...string) *speaker {
	t.Helper()
	s := knock(t, url, append(lines, "Sec-WebSocket-Protocol: "+d.subprotocol)...)
	res := s.answer()
	if res.StatusCode != 101 {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("upgrade: got %s %s, want 101", res.Status, body)
	}
	if got := res.Header.Get("Sec-WebSocket-Protocol"); got != d.subprotocol {
		t.Fatalf("upgrade: got subprotocol %q, want %q", got, d.subprotocol)
	}
	s.d, s.upset = d, res.Header
	return s
}

// join connects as agent with a token that may do everything as it. It is a JWT,
// because an opaque one costs a write to the disk.
func join(t testing.TB, n *fleet, d dialect, agent string) *speaker {
	t.Helper()
	return joinWith(t, n, d, obj{"token": jwt(t, time.Hour, obj{"agents": agent, "send": "**", "subscribe": "**", "publish": "**"}), "agent": agent})
}

// joinWith connects with the fields of `connect` given.
func joinWith(t testing.TB, n *fleet, d dialect, connect obj) *speaker {
	t.Helper()
	at := n.next()
	s := dialRaw(t, at.URL, d)
	s.at, s.settle = at, len(n.nodes) > 1
	got := s.ask(obj{"connect": connect})
	if got.kind() != "connected" {
		t.Fatalf("connect %v: got %v", connect["agent"], got)
	}
	s.hello = got.GetConnected()
	s.token, _ = connect["token"].(string)
	// The relay looks into the mailbox right behind `connected`; what is sent to this
	// session before it has looked is parked and not delivered at once.
	h := s.ask(obj{"ping": obj{}})
	if h.kind() != "pong" {
		t.Fatalf("ping: got %v", h)
	}
	n.await("route to "+s.hello.Agent, crossing*10, func(other *apptest.Node) bool { return other == at || routes(other, s.hello) })
	return s
}

// resume connects anew in the dialect and asks for the session of s.
func (s *speaker) resume(n *fleet, d dialect, seq uint64, channels ...obj) *speaker {
	s.t.Helper()
	want := obj{"session": s.hello.Session, "seq": seq}
	if len(channels) > 0 {
		want["channels"] = channels
	}
	r := joinWith(s.t, n, d, obj{"token": s.token, "agent": s.hello.Agent, "resume": want})
	r.lastID = max(r.lastID, s.lastID) // replies to the questions of s carry its ids
	return r
}

// push writes bytes to the socket as they are.
func (s *speaker) push(p []byte) {
	s.t.Helper()
	s.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := s.nc.Write(p); err != nil {
		s.t.Fatalf("write: %v", err)
	}
}

// frameBytes is one masked WebSocket frame. first is its first byte.
func frameBytes(first byte, payload []byte) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}
	var mask [4]byte
	rand.Read(mask[:])
	out = append(out, mask[:]...)
	for i, b := range payload {
		out = append(out, b^mask[i%4])
	}
	return out
}

// say sends a payload as one message of the dialect.
func (s *speaker) say(payload []byte) {
	s.t.Helper()
	s.push(frameBytes(0x80|s.d.opcode, payload))
}

// tell sends frames in one message.
func (s *speaker) tell(cmds ...obj) {
	s.t.Helper()
	frames := make([][]byte, len(cmds))
	for i, c := range cmds {
		frames[i] = s.d.encode(s.t, c)
	}
	s.say(s.d.join(frames...))
}

// number returns a fresh frame id.
func (s *speaker) number() uint64 {
	s.lastID++
	return s.lastID
}

// ask sends a command and returns the frame that answers it.
func (s *speaker) ask(cmd obj) heard {
	s.t.Helper()
	id := s.number()
	cmd["id"] = id
	s.tell(cmd)
	return s.await(fmt.Sprintf("the answer %d", id), func(h heard) bool { return h.Id == id })
}

// ok is ask for commands that must succeed.
func (s *speaker) ok(cmd obj) *pb.Ok {
	s.t.Helper()
	got := s.ask(cmd)
	if got.kind() != "ok" {
		s.t.Fatalf("%s: got %v, want ok", appendJSON(nil, cmd), got)
	}
	if s.settle && (cmd["profile"] != nil || cmd["subscribe"] != nil || cmd["unsubscribe"] != nil) {
		time.Sleep(crossing / 5) // the other nodes hear of it, and nobody hears that they have
	}
	return got.GetOk()
}

// refused is ask for commands that must fail with code.
func (s *speaker) refused(code string, cmd obj) *pb.Error {
	s.t.Helper()
	got := s.ask(cmd)
	if got.code() != code || got.GetError().Message == "" {
		s.t.Fatalf("%.300s: got %v, want the error %s with a message", appendJSON(nil, cmd), got, code)
	}
	return got.GetError()
}

// await returns the first frame that matches; those before it are kept.
func (s *speaker) await(what string, match func(heard) bool) heard {
	s.t.Helper()
	for i, h := range s.kept {
		if match(h) {
			s.kept = slices.Delete(s.kept, i, i+1)
			return h
		}
	}
	deadline := time.Now().Add(s.patience())
	for {
		from := len(s.kept)
		if !s.pump(deadline) {
			s.t.Fatalf("wait for %s: the connection ended with %d %q; kept %v", what, s.ended.code, s.ended.reason, s.kept)
		}
		for i := from; i < len(s.kept); i++ {
			if h := s.kept[i]; match(h) {
				s.kept = slices.Delete(s.kept, i, i+1)
				return h
			}
		}
	}
}

// patience is how long this connection waits for what must come. Between nodes
// that is a few seconds, or something was lost.
func (s *speaker) patience() time.Duration {
	if s.settle {
		return patience / 4
	}
	return patience
}

// next returns the next frame, which must be of the kind.
func (s *speaker) next(kind string) heard {
	s.t.Helper()
	h := s.await(kind, func(heard) bool { return true })
	if h.kind() != kind {
		s.t.Fatalf("got %v, want the kind %s", h, kind)
	}
	return h
}

// want returns the next frame of the kind, whatever comes before it.
func (s *speaker) want(kind string) heard {
	s.t.Helper()
	return s.await(kind, func(h heard) bool { return h.kind() == kind })
}

// fence returns all that came before the answer to a ping sent now.
func (s *speaker) fence() []heard {
	s.t.Helper()
	s.ask(obj{"ping": obj{}})
	// What another node has accepted is on its way here without this node knowing:
	// nothing tells when it must have come but its not coming for a while.
	for still := 0; s.settle && still < 10; still++ {
		before := len(s.kept)
		time.Sleep(crossing / 10)
		if s.ask(obj{"ping": obj{}}); len(s.kept) > before {
			still = 0
		}
	}
	out := s.kept
	s.kept = nil
	return out
}

// quiet fails when something came that the test has not taken.
func (s *speaker) quiet() {
	s.t.Helper()
	if left := s.fence(); len(left) > 0 {
		s.t.Fatalf("got %v, want nothing more", left)
	}
}

// pump reads one WebSocket message; false at the end of the connection.
func (s *speaker) pump(deadline time.Time) bool {
	s.t.Helper()
	if s.ended != nil {
		return false
	}
	var msg []byte
	for {
		s.nc.SetReadDeadline(deadline)
		first, p, err := s.frame()
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			s.t.Fatalf("nothing came in %v at node %s; kept %v", s.patience(), s.hello.GetNode(), s.kept)
		}
		if err != nil {
			s.ended = &ending{}
			return false
		}
		switch first & 0x0f {
		case opPing:
			s.pinged++
			s.nc.SetWriteDeadline(time.Now().Add(patience))
			s.nc.Write(frameBytes(0x80|opPong, p)) // a closed socket shows in the next read
			return true
		case opPong:
			return true
		case opClose:
			s.ended = &ending{}
			if len(p) >= 2 {
				s.ended = &ending{int(binary.BigEndian.Uint16(p)), string(p[2:])}
			}
			s.nc.Write(frameBytes(0x80|opClose, p[:min(len(p), 2)]))
			return false
		}
		msg = append(msg, p...)
		if first&0x80 == 0 {
			continue
		}
		got, err := s.d.decode(msg)
		if err != nil {
			s.t.Fatalf("the relay sent a bad message %.500q: %v", msg, err)
		}
		s.kept = append(s.kept, got...)
		return true
	}
}

// frame reads one WebSocket frame.
func (s *speaker) frame() (first byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(s.br, head[:]); err != nil {
		return 0, nil, err
	}
	if head[1]&0x80 != 0 {
		return 0, nil, errors.New("the relay masked a frame")
	}
	n := uint64(head[1])
	var long [8]byte
	switch n {
	case 126:
		_, err = io.ReadFull(s.br, long[6:])
		n = binary.BigEndian.Uint64(long[:])
	case 127:
		_, err = io.ReadFull(s.br, long[:])
		n = binary.BigEndian.Uint64(long[:])
	}
	if err == nil && n > 8<<20 {
		err = fmt.Errorf("a frame of %d bytes", n)
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(s.br, payload)
	return head[0], payload, err
}

// end reads until the connection is over and says how it ended. What came before
// is in kept.
func (s *speaker) end() ending {
	s.t.Helper()
	for deadline := time.Now().Add(patience); s.pump(deadline); {
	}
	return *s.ended
}

// wantClose fails unless the relay closes with code.
func (s *speaker) wantClose(code int) ending {
	s.t.Helper()
	if got := s.end(); got.code != code {
		s.t.Fatalf("the connection ended with %d %q, want %d; kept %v", got.code, got.reason, code, s.kept)
	}
	return *s.ended
}

// leave closes in order.
func (s *speaker) leave() {
	s.t.Helper()
	s.push(frameBytes(0x80|opClose, []byte{0x03, 0xe8}))
	s.wantClose(1000)
	s.nc.Close()
}

// drop cuts the connection without a word, and waits until the relay has noticed:
// its node has one connection less and one more session that can be resumed.
func (s *speaker) drop() {
	s.t.Helper()
	before := s.at.App.Hub().Stats()
	s.nc.(*net.TCPConn).SetLinger(0)
	s.nc.Close()
	eventually(s.t, "the relay to notice that a socket is gone", func() bool {
		now := s.at.App.Hub().Stats()
		return now.Connections < before.Connections && now.Resumable > before.Resumable
	})
}

// eventually polls until ok, where no answer of the relay tells it.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond) // between two looks, not as synchronisation
	}
}

// calmNode starts a node that sheds no load, however busy the machine is, forgives
// failed logins, and takes the tokens of testIssuer.
func calmNode(t testing.TB, change func(*app.Config)) *fleet {
	t.Helper()
	return lone(apptest.Start(t, func(c *app.Config) {
		calm(c)
		if change != nil {
			change(c)
		}
	}))
}

func calm(c *app.Config) {
	o := &c.Overload
	o.LagElevated, o.LagDegraded, o.LagCritical = app.Duration(time.Hour), app.Duration(time.Hour), app.Duration(time.Hour)
	o.UpHold = app.Duration(time.Minute) // for the share of busy time, which has no key
	o.QueueElevated, o.QueueDegraded, o.QueueCritical = 2, 2, 2
	o.MemoryElevated, o.MemoryDegraded, o.MemoryCritical = 2, 2, 2
	c.Limits.AuthFailuresPerS = 0
	c.Auth.JWT = []app.Issuer{testIssuer}
}
