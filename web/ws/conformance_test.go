package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"agentnet/app/wire"

	"github.com/klauspost/compress/flate"
)

// A conformance case is raw bytes of a client and what must come back. The groups
// are those of the Autobahn test suite.
type conformance struct {
	name   string
	binary bool // agentnet.v1.protobuf, whose messages are binary
	in     []byte
	want   []answer
	end    wire.CloseCode // close code that ends it; stays: the connection lives
}

const (
	stays  wire.CloseCode = 1
	noCode wire.CloseCode = 0
)

type answer struct {
	first   byte
	payload string
}

func echoed(s string) answer { return answer{bitFin | opText, s} }
func ponged(s string) answer { return answer{bitFin | opPong, s} }

// seq joins frames.
func seq(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func frag(first byte, s string) []byte { return masked(first, []byte(s)) }
func ping(s string) []byte             { return masked(bitFin|opPing, []byte(s)) }
func closing(p string) []byte          { return masked(bitFin|opClose, []byte(p)) }
func codeBytes(code int) string        { return string([]byte{byte(code >> 8), byte(code)}) }
func times(n int, p []byte) []byte     { return bytes.Repeat(p, n) }
func withHead(head ...byte) []byte     { return head }

// TestConformance sends each case whole, byte by byte, and in one segment with the
// upgrade request, to both kinds of connections.
func TestConformance(t *testing.T) {
	large := func(c *Config, _ *timeouts) { c.Limits.MessageBytes = 8 << 20 }
	ways(t, func(t *testing.T, useTLS bool) { conform(t, startNode(t, useTLS, large)) })
	t.Run("stream", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n := startNodeOn(t, dressedListener{ln}, false, large)
		conform(t, n)
		if got := n.srv.streams.load.messagesIn.Load(); got == 0 {
			t.Error("nothing was served as a stream")
		}
	})
}

func conform(t *testing.T, n *node) {
	var cases []conformance
	for _, group := range [][]conformance{
		framingCases(), pingCases(), reservedCases(), fragmentCases(), textCases(), closeCases(), lengthCases(), sizeCases(),
	} {
		cases = append(cases, group...)
	}
	for _, tc := range cases {
		t.Run(tc.name+"/whole", func(t *testing.T) {
			tc.run(t, n, func(c *client) {
				c.upgradeTo(tc.binary)
				c.offer(tc.in)
			})
		})
		t.Run(tc.name+"/pipelined", func(t *testing.T) {
			tc.run(t, n, func(c *client) {
				// The rest after a fault may meet a closed socket.
				c.offer(append([]byte(upgradeRequest(protocolHeader(tc.binary))), tc.in...))
				c.wantUpgraded()
			})
		})
		if len(tc.in) > 2048 {
			continue
		}
		t.Run(tc.name+"/split", func(t *testing.T) {
			tc.run(t, n, func(c *client) {
				c.upgradeTo(tc.binary)
				c.offer(bytesOf(tc.in)...)
			})
		})
	}
}

func protocolHeader(binary bool) string {
	if binary {
		return "Sec-WebSocket-Protocol: " + wire.SubprotocolProtobuf
	}
	return "Sec-WebSocket-Protocol: " + wire.SubprotocolJSON
}

func (c *client) upgradeTo(binary bool) {
	c.t.Helper()
	if res := c.upgrade(upgradeRequest(protocolHeader(binary))); res.StatusCode != 101 {
		c.t.Fatalf("upgrade: got status %d, want 101", res.StatusCode)
	}
}

// offer sends without minding that the server may stop reading.
func (c *client) offer(parts ...[]byte) {
	c.offered = make(chan struct{})
	go func() {
		defer close(c.offered)
		for _, p := range parts {
			if _, err := c.nc.Write(p); err != nil {
				return
			}
		}
	}()
}

func bytesOf(p []byte) (out [][]byte) {
	for i := range p {
		out = append(out, p[i:i+1])
	}
	return out
}

func (tc conformance) run(t *testing.T, n *node, start func(*client)) {
	c := n.connect()
	c.t = t
	start(c)
	for _, a := range tc.want {
		first := a.first
		if tc.binary && first == bitFin|opText {
			first = bitFin | opBinary
		}
		c.want(first, a.payload)
	}
	if tc.end == stays {
		<-c.offered
		c.send(ping("alive?"))
		c.want(bitFin|opPong, "alive?")
		c.send(closing(codeBytes(1000)))
		c.wantClose(1000)
		c.wantEOF()
		return
	}
	first, p, err := c.frame()
	if err != nil || first != bitFin|opClose {
		t.Fatalf("got frame %#x %s and %v, want a close frame", first, short(p), err)
	}
	got := noCode
	if len(p) >= 2 {
		got = wire.CloseCode(binary.BigEndian.Uint16(p))
	}
	if got != tc.end {
		t.Fatalf("got close code %d %q, want %d", got, p, tc.end)
	}
	c.wantEOF()
}

func framingCases() (out []conformance) {
	for _, size := range []int{0, 1, 125, 126, 127, 128, 65535, 65536, 1 << 20} {
		s := strings.Repeat("*", size)
		out = append(out,
			conformance{name: fmt.Sprintf("1.1/text-%d", size), in: text(s), want: []answer{echoed(s)}, end: stays},
			conformance{name: fmt.Sprintf("1.2/binary-%d", size), binary: true, in: masked(bitFin|opBinary, []byte(s)), want: []answer{echoed(s)}, end: stays})
	}
	return append(out,
		conformance{name: "1.3/binary-on-json", in: masked(bitFin|opBinary, []byte("x")), end: 1003},
		conformance{name: "1.3/text-on-protobuf", binary: true, in: text("x"), end: 1003},
		conformance{name: "1.4/unmasked", in: withHead(bitFin|opText, 1, 'x'), end: 1002},
		conformance{name: "1.4/unmasked-ping", in: withHead(bitFin|opPing, 0), end: 1002},
	)
}

func pingCases() []conformance {
	long := strings.Repeat("\xfe", 125)
	var ten []answer
	for range 10 {
		ten = append(ten, ponged("p"))
	}
	return []conformance{
		{name: "2.1/empty", in: ping(""), want: []answer{ponged("")}, end: stays},
		{name: "2.2/text", in: ping("Hello, world!"), want: []answer{ponged("Hello, world!")}, end: stays},
		{name: "2.3/binary", in: ping("\x00\xff\xfe\xfd"), want: []answer{ponged("\x00\xff\xfe\xfd")}, end: stays},
		{name: "2.4/125", in: ping(long), want: []answer{ponged(long)}, end: stays},
		{name: "2.5/126", in: masked(bitFin|opPing, []byte(long+"x")), end: 1002},
		{name: "2.7/pong", in: masked(bitFin|opPong, nil), end: stays},
		{name: "2.8/pong-text", in: masked(bitFin|opPong, []byte("unasked")), end: stays},
		{name: "2.9/pong-ping", in: seq(masked(bitFin|opPong, []byte("x")), ping("y")), want: []answer{ponged("y")}, end: stays},
		{name: "2.10/ten", in: times(10, ping("p")), want: ten, end: stays},
	}
}

func reservedCases() (out []conformance) {
	for rsv := byte(1); rsv <= 7; rsv++ {
		bits := rsv << 4
		out = append(out,
			conformance{name: fmt.Sprintf("3/text-rsv%d", rsv), in: seq(text("a"), masked(bitFin|bits|opText, []byte("b")), ping("")), want: []answer{echoed("a")}, end: 1002},
			conformance{name: fmt.Sprintf("3/ping-rsv%d", rsv), in: masked(bitFin|bits|opPing, nil), end: 1002},
			conformance{name: fmt.Sprintf("3/close-rsv%d", rsv), in: masked(bitFin|bits|opClose, nil), end: 1002})
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		out = append(out,
			conformance{name: fmt.Sprintf("4/opcode%d", op), in: masked(bitFin|op, nil), end: 1002},
			conformance{name: fmt.Sprintf("4/opcode%d-after-text", op), in: seq(text("a"), masked(bitFin|op, []byte("b"))), want: []answer{echoed("a")}, end: 1002})
	}
	return out
}

func fragmentCases() []conformance {
	const fin = bitFin
	return []conformance{
		{name: "5.1/ping-in-two", in: seq(frag(opPing, "a"), frag(fin|opContinuation, "b")), end: 1002},
		{name: "5.2/pong-in-two", in: seq(frag(opPong, "a"), frag(fin|opContinuation, "b")), end: 1002},
		{name: "5.3/text-in-two", in: seq(frag(opText, "a"), frag(fin|opContinuation, "b")), want: []answer{echoed("ab")}, end: stays},
		{name: "5.6/ping-between", in: seq(frag(opText, "a"), ping("p"), frag(fin|opContinuation, "b")), want: []answer{ponged("p"), echoed("ab")}, end: stays},
		{name: "5.9/continuation-first", in: seq(frag(fin|opContinuation, "a"), text("b")), end: 1002},
		{name: "5.10/continuation-first-unfinished", in: seq(frag(opContinuation, "a"), text("b")), end: 1002},
		{name: "5.15/continuation-after-end", in: seq(frag(opText, "a"), frag(fin|opContinuation, "b"), frag(opContinuation, "c")), want: []answer{echoed("ab")}, end: 1002},
		{name: "5.18/text-in-text", in: seq(frag(opText, "a"), frag(fin|opText, "b")), end: 1002},
		{
			name: "5.19/pings-between", want: []answer{ponged("1"), ponged("2"), echoed("abcde")}, end: stays,
			in: seq(frag(opText, "a"), frag(opContinuation, "b"), ping("1"), frag(opContinuation, "c"), frag(opContinuation, "d"), ping("2"), frag(fin|opContinuation, "e")),
		},
		{name: "5.x/empty-fragments", in: seq(frag(opText, ""), frag(opContinuation, ""), frag(fin|opContinuation, "")), want: []answer{echoed("")}, end: stays},
		{name: "5.x/empty-then-full", in: seq(frag(opText, ""), frag(opContinuation, "a"), frag(fin|opContinuation, "")), want: []answer{echoed("a")}, end: stays},
		{name: "5.x/close-between", in: seq(frag(opText, "a"), closing(codeBytes(1000))), end: 1000},
		{name: "5.x/fragment-on-protobuf", binary: true, in: seq(frag(opBinary, "a"), frag(fin|opContinuation, "b")), want: []answer{echoed("ab")}, end: stays},
		{name: "5.x/flood-of-empty", in: seq(frag(opText, ""), times(2*floodBurst, frag(opContinuation, ""))), end: 1008},
		{name: "5.x/flood-of-pongs", in: times(4*floodBurst, masked(bitFin|opPong, nil)), end: 1008},
	}
}

func textCases() (out []conformance) {
	valid := []string{
		"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\u0080", "ࠀ", "\U00010000", "\x7f", "\u07ff", "\uffff", "\U0010ffff",
		"\ud7ff", "\ue000", "\ufffd", "\ufdd0", "\U0001fffe", "日本語テキスト", strings.Repeat("é", 5000),
	}
	for i, s := range valid {
		out = append(out, conformance{name: fmt.Sprintf("6.v/%d", i), in: text(s), want: []answer{echoed(s)}, end: stays})
		if len(s) > 1 && len(s) < 100 {
			var one []byte // a fragment for each byte: characters are cut
			for j := range len(s) {
				first, op := byte(0), byte(opContinuation)
				if j == 0 {
					op = opText
				}
				if j == len(s)-1 {
					first = bitFin
				}
				one = append(one, masked(first|op, []byte(s[j:j+1]))...)
			}
			out = append(out, conformance{name: fmt.Sprintf("6.v/%d-in-bytes", i), in: one, want: []answer{echoed(s)}, end: stays})
		}
	}
	invalid := []string{
		"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", "\x80", "\xbf", "\xc0 ", "\xfe", "\xff", "\xfe\xfe\xff\xff",
		"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
		"\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\x80\xed\xb0\x80", "\xf4\x90\x80\x80", "\xf7\xbf\xbf\xbf", "\xce", "\xe1\xbd", "\xf0\x9f\x98", "ok\xe2\x82",
		strings.Repeat("a", 10_000) + "\xff",
	}
	for i, s := range invalid {
		out = append(out, conformance{name: fmt.Sprintf("6.i/%d", i), in: text(s), end: 1007})
		if len(s) > 1 && len(s) < 100 {
			out = append(out, conformance{name: fmt.Sprintf("6.i/%d-in-two", i), in: seq(frag(opText, s[:1]), frag(bitFin|opContinuation, s[1:])), end: 1007})
		}
	}
	// Bytes are not text on the binary subprotocol.
	return append(out, conformance{name: "6.b/binary", binary: true, in: masked(bitFin|opBinary, []byte("\xff\xfe")), want: []answer{echoed("\xff\xfe")}, end: stays})
}

func closeCases() (out []conformance) {
	out = []conformance{
		{name: "7.1.1/after-text", in: seq(text("a"), closing(codeBytes(1000))), want: []answer{echoed("a")}, end: 1000},
		{name: "7.1.2/twice", in: seq(closing(codeBytes(1000)), closing(codeBytes(1000))), end: 1000},
		{name: "7.1.3/ping-after", in: seq(closing(codeBytes(1000)), ping("x")), end: 1000},
		{name: "7.1.4/text-after", in: seq(closing(codeBytes(1000)), text("x")), end: 1000},
		{name: "7.1.6/much-after", in: seq(text("a"), closing(codeBytes(1000)), times(100, text(strings.Repeat("z", 4096)))), want: []answer{echoed("a")}, end: 1000},
		{name: "7.3.1/empty", in: closing(""), end: noCode},
		{name: "7.3.2/one-byte", in: closing("\x03"), end: 1002},
		{name: "7.3.3/code", in: closing(codeBytes(1000)), end: 1000},
		{name: "7.3.4/reason", in: closing(codeBytes(1000) + "Hello, world!"), end: 1000},
		{name: "7.3.5/longest", in: closing(codeBytes(1000) + strings.Repeat("x", 123)), end: 1000},
		{name: "7.3.6/too-long", in: closing(codeBytes(1000) + strings.Repeat("x", 124)), end: 1002},
		{name: "7.5.1/reason-not-text", in: closing(codeBytes(1000) + "\xce\xba\xed\xa0\x80"), end: 1007},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		out = append(out, conformance{name: fmt.Sprintf("7.7/%d", code), in: closing(codeBytes(code)), end: wire.CloseCode(code)})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		out = append(out, conformance{name: fmt.Sprintf("7.9/%d", code), in: closing(codeBytes(code)), end: 1002})
	}
	return out
}

func lengthCases() []conformance {
	key := []byte{1, 2, 3, 4}
	head := func(first byte, length ...byte) []byte { return append(append([]byte{first}, length...), key...) }
	return []conformance{
		{name: "8/top-bit", in: head(bitFin|opText, bitMask|127, 0x80, 0, 0, 0, 0, 0, 0, 1), end: 1002},
		{name: "8/all-bits", in: head(bitFin|opText, bitMask|127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), end: 1002},
		{name: "8/huge", in: head(bitFin|opText, bitMask|127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), end: 1009},
		{name: "8/over-limit", in: head(bitFin|opText, bitMask|127, 0, 0, 0, 0, 0, 0x80, 0, 1), end: 1009},
		{name: "8/long-form-16", in: head(bitFin|opText, bitMask|126, 0, 125), end: 1002},
		{name: "8/long-form-64", in: head(bitFin|opText, bitMask|127, 0, 0, 0, 0, 0, 0, 0xff, 0xff), end: 1002},
		{name: "8/sum-over-limit", in: seq(frag(opText, strings.Repeat("x", 5<<20)), frag(bitFin|opContinuation, strings.Repeat("x", 4<<20))), end: 1009},
	}
}

func sizeCases() (out []conformance) {
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20} {
		s := strings.Repeat("BAsd7&jh23", size/10+1)[:size]
		out = append(out, conformance{name: fmt.Sprintf("9.1/%d", size), in: text(s), want: []answer{echoed(s)}, end: stays})
		for _, piece := range []int{64, 1300, 65536} {
			if piece == 64 && size > 1<<20 {
				continue
			}
			out = append(out, conformance{name: fmt.Sprintf("9.3/%d-by-%d", size, piece), in: inFragments(opText, s, piece), want: []answer{echoed(s)}, end: stays})
		}
	}
	return out
}

func inFragments(op byte, s string, piece int) (out []byte) {
	for from := 0; from < len(s); from += piece {
		to := min(from+piece, len(s))
		first := byte(opContinuation)
		if from == 0 {
			first = op
		}
		if to == len(s) {
			first |= bitFin
		}
		out = append(out, masked(first, []byte(s[from:to]))...)
	}
	return out
}

// deflated compresses as a client without context takeover does.
func deflated(p string, level int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	w.Write([]byte(p))
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte(flateEnd[:4]))
}
