package ws

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"agentnet/app/wire"

	"github.com/klauspost/compress/flate"
)

func TestNegotiateDeflate(t *testing.T) {
	const plain = deflateAnswer
	cases := []struct {
		offer  string
		answer string // "" when it is declined
	}{
		{"permessage-deflate", plain},
		{"Permessage-Deflate", plain},
		{"permessage-deflate; client_max_window_bits", plain},
		{"permessage-deflate; client_max_window_bits=10", plain},
		{`permessage-deflate; client_max_window_bits="10"`, plain},
		{"permessage-deflate; client_no_context_takeover; server_no_context_takeover", plain},
		{"permessage-deflate; server_max_window_bits=15", plain + "; server_max_window_bits=15"},
		{"permessage-deflate; server_max_window_bits=9, permessage-deflate", plain},
		{"x-other; a=\"b,c;d\", permessage-deflate", plain},
		{"", ""},
		{"permessage-deflate-2", ""},
		{"x-webkit-deflate-frame", ""},
		{"permessage-deflate; server_max_window_bits=9", ""},
		{"permessage-deflate; server_max_window_bits", ""},
		{"permessage-deflate; client_max_window_bits=7", ""},
		{"permessage-deflate; client_max_window_bits=16", ""},
		{"permessage-deflate; client_max_window_bits=08", ""},
		{"permessage-deflate; unknown", ""},
		{"permessage-deflate; server_no_context_takeover=1", ""},
		{"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
	}
	for _, tc := range cases {
		got, ok := negotiateDeflate([]string{tc.offer})
		if got != tc.answer || ok != (tc.answer != "") {
			t.Errorf("offer %q: got %q, %v, want %q", tc.offer, got, ok, tc.answer)
		}
	}
}

func compressing(c *Config, _ *timeouts) { c.Compression, c.Limits.MessageBytes = true, 1<<20 }

// inflated reads one message of the server, which must be compressed or not.
func (c *client) inflated(compressed bool) string {
	c.t.Helper()
	first, p, err := c.frame()
	if err != nil {
		c.t.Fatalf("read a frame: %v", err)
	}
	if got := first&bitRSV1 != 0; got != compressed {
		c.t.Fatalf("frame %#x: compressed %v, want %v", first, got, compressed)
	}
	if !compressed {
		return string(p)
	}
	out, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(p), strings.NewReader(flateEnd))))
	if err != nil {
		c.t.Fatalf("inflate what the server sent: %v", err)
	}
	return string(out)
}

const offerDeflate = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"

func TestDeflateEcho(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS, compressing)
		c := n.connect()
		res := c.upgrade(upgradeRequest(offerDeflate))
		if got := res.Header.Get("Sec-WebSocket-Extensions"); got != deflateAnswer {
			t.Fatalf("answer to the offer: got %q, want %q", got, deflateAnswer)
		}
		for _, size := range []int{0, 16, 64, 256, 1023, 1024, 4096, 65536, 1 << 20} {
			for _, level := range []int{0, 1, 9} {
				s := strings.Repeat("{\"key\":\"värde\"},", size/16+1)[:size]
				if size == 1023 {
					s = strings.Repeat("x", size)
				}
				s = strings.ToValidUTF8(s, "?")
				c.send(masked(bitFin|bitRSV1|opText, []byte(deflated(s, level))))
				if got := c.inflated(len(s) >= defaultCompressMin); got != s {
					t.Fatalf("size %d, level %d: got %s, want %s", size, level, short([]byte(got)), short([]byte(s)))
				}
			}
		}
		// A plain message is allowed at any time; RSV1 is on the first fragment only.
		c.send(text("plain"))
		c.want(bitFin|opText, "plain")
		z := deflated("in three fragments", 9)
		c.send(seq(frag(bitRSV1|opText, string(z[:3])), ping("p"), frag(opContinuation, string(z[3:9])), frag(bitFin|opContinuation, string(z[9:]))))
		c.want(bitFin|opPong, "p")
		c.want(bitFin|opText, "in three fragments")
		c.send(closing(codeBytes(1000)))
		c.wantClose(1000)
	})
}

func TestDeflateFaults(t *testing.T) {
	bomb := deflated(strings.Repeat("\x00", 64<<20), 9)
	cases := []struct {
		name string
		in   []byte
		code wire.CloseCode
	}{
		{"rsv1 on a continuation", seq(frag(bitRSV1|opText, "a"), frag(bitFin|bitRSV1|opContinuation, "b")), 1002},
		{"rsv1 on a ping", masked(bitFin|bitRSV1|opPing, nil), 1002},
		{"rsv2", masked(bitFin|0x20|opText, nil), 1002},
		{"not deflate data", frag(bitFin|bitRSV1|opText, "\xff\xff\xff\xff\xff"), 1007},
		{"not text when inflated", masked(bitFin|bitRSV1|opText, deflated("\xff\xfe", 1)), 1007},
		{"one byte over the limit", masked(bitFin|bitRSV1|opText, deflated(strings.Repeat("x", 1<<20+1), 9)), 1009},
		{"bomb", masked(bitFin|bitRSV1|opText, bomb), 1009},
	}
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS, compressing)
		for _, tc := range cases {
			t.Run(tc.name, func(t *testing.T) {
				c := n.dial(offerDeflate)
				c.t = t
				c.offer(tc.in)
				c.wantClose(tc.code)
			})
		}
	})
}

// TestDeflateBombMemory holds what inflating may allocate against the limit.
func TestDeflateBombMemory(t *testing.T) {
	n := startNode(t, false, compressing)
	bomb := deflated(strings.Repeat("\x00", 64<<20), 9)
	before := allocated()
	const rounds = 20
	for range rounds {
		if _, f := n.srv.deflater.inflate(bomb, 1<<20); f.code != wire.CloseTooBig {
			t.Fatalf("got %+v, want code 1009", f)
		}
	}
	if got := (allocated() - before) / rounds; got > 4<<20 {
		t.Errorf("a bomb of 64 MiB makes %d bytes of garbage, want at most 4 MiB at a limit of 1 MiB", got)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestSealJoined gives several frames in one Write, as the relay does.
func TestSealJoined(t *testing.T) {
	var bufs buffers
	d := deflater{bufs: &bufs}
	long := strings.Repeat("all work and no play ", 200)
	noise := make([]byte, 2000)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	in := seq(sealed(opText, []byte("short")), sealed(opText, []byte(long)), sealed(opBinary, noise), []byte{bitFin | opPing, 0}, sealed(opText, []byte(long)))
	out, lent := d.seal(in, 1024)
	if !lent || len(out) >= len(in) {
		t.Fatalf("got %d bytes, lent %v, want fewer than %d in a lent buffer", len(out), lent, len(in))
	}
	want := []struct {
		first   byte
		payload string
	}{{0x81, "short"}, {0xc1, long}, {0x82, string(noise)}, {0x89, ""}, {0xc1, long}}
	for i, w := range want {
		first, start, end, ok := serverFrame(out)
		if !ok || first != w.first {
			t.Fatalf("frame %d: got %#x, %v, want %#x", i, first, ok, w.first)
		}
		p := string(out[start:end])
		if first&bitRSV1 != 0 {
			whole, f := d.inflate([]byte(p), 1<<20)
			p = string(whole)
			if f.bad() {
				t.Fatalf("frame %d: %+v", i, f)
			}
		}
		if p != w.payload {
			t.Fatalf("frame %d: got %s, want %s", i, short([]byte(p)), short([]byte(w.payload)))
		}
		out = out[end:]
	}
	if len(out) != 0 {
		t.Errorf("%d bytes are left over", len(out))
	}
	if got, lent := d.seal(in[:7], 1024); lent || !bytes.Equal(got, in[:7]) {
		t.Errorf("a short message: got %q, lent %v, want it unchanged", got, lent)
	}
}

func FuzzInflate(f *testing.F) {
	f.Add(deflated("hello", 9))
	f.Add([]byte("\xff\xff"))
	f.Add(deflated(strings.Repeat("\x00", 100_000), 9))
	var bufs buffers
	d := deflater{bufs: &bufs}
	f.Fuzz(func(t *testing.T, p []byte) {
		const limit = 10_000
		out, flt := d.inflate(p, limit)
		if flt.bad() {
			return
		}
		if len(out) > limit {
			t.Fatalf("got %d bytes, want at most %d", len(out), limit)
		}
		bufs.put(out)
	})
}

func TestCompressionOff(t *testing.T) {
	n := startNode(t, false)
	c := n.connect()
	res := c.upgrade(upgradeRequest(offerDeflate))
	if got, given := res.Header["Sec-Websocket-Extensions"]; given {
		t.Fatalf("extension answered: got %q, want none", got)
	}
	c.send(masked(bitFin|bitRSV1|opText, deflated("x", 1)))
	c.wantClose(1002)
}
