package bench

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	for _, size := range []int{MinPayload, 128, 4096} {
		payload, err := newPayload(size)
		if err != nil {
			t.Fatal(err)
		}
		want := stamp{due: 1795420800123456789, sender: 0xabcde, seq: 0xfedcba98}
		want.put(payload)
		if len(payload) != size || !json.Valid(payload) {
			t.Errorf("size %d: got %q, want that many bytes of JSON", size, payload)
		}
		got, ok := readStamp([]byte(`{"message":{"data":` + string(payload) + `}}`))
		if !ok || got != want {
			t.Errorf("size %d: got %+v, %v, want %+v", size, got, ok, want)
		}
	}
	if _, err := newPayload(MinPayload - 1); err == nil {
		t.Error("got no error for a payload without room, want one")
	}
	for _, broken := range []string{"", marker, marker + strings.Repeat("0", stampLen-len(marker)-1), marker + strings.Repeat("G", stampLen)} {
		if s, ok := readStamp([]byte(broken)); ok {
			t.Errorf("readStamp(%q): got %+v, want none", broken, s)
		}
	}
}

func TestTrack(t *testing.T) {
	tests := []struct {
		name string
		came []uint32
		sent uint32
		want Counts
	}{
		{"in order", []uint32{0, 1, 2, 3}, 4, Counts{}},
		{"one lost", []uint32{0, 2, 3}, 4, Counts{Lost: 1}},
		{"the first lost", []uint32{1, 2}, 3, Counts{Lost: 1}},
		{"the last lost", []uint32{0, 1}, 4, Counts{Lost: 2}},
		{"nothing came", nil, 5, Counts{Lost: 5}},
		{"doubled", []uint32{0, 1, 1, 2, 0}, 3, Counts{Doubled: 2}},
		{"swapped", []uint32{0, 2, 1, 3}, 4, Counts{OutOfOrder: 1}},
		{"late and doubled", []uint32{0, 2, 1, 1, 3}, 4, Counts{OutOfOrder: 1, Doubled: 1}},
		{"a long hole", []uint32{0, 200, 201}, 202, Counts{Lost: 199}},
		{"very late", []uint32{0, 200, 1}, 201, Counts{Lost: 199, OutOfOrder: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tr track
			var got Counts
			for _, seq := range tt.came {
				tr.accept(seq, &got)
			}
			tr.finish(tt.sent, &got)
			if got.Lost != tt.want.Lost || got.Doubled != tt.want.Doubled || got.OutOfOrder != tt.want.OutOfOrder {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestTrackAgainstCounting compares with plain counting, for late messages within
// the window.
func TestTrackAgainstCounting(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		const sent = 300
		var came []uint32
		for seq := range uint32(sent) {
			for range []int{0, 1, 1, 1, 1, 1, 2}[random.IntN(7)] {
				came = append(came, seq)
			}
		}
		for i := range came { // swap near neighbours
			j := min(i+random.IntN(4), len(came)-1)
			came[i], came[j] = came[j], came[i]
		}
		seen := map[uint32]bool{}
		var want, got Counts
		var tr track
		for _, seq := range came {
			if seen[seq] {
				want.Doubled++
			}
			seen[seq] = true
			tr.accept(seq, &got)
		}
		want.Lost = uint64(sent - len(seen))
		tr.finish(sent, &got)
		if got.Lost != want.Lost || got.Doubled != want.Doubled {
			t.Fatalf("%v: got %+v, want lost %d, doubled %d", came, got, want.Lost, want.Doubled)
		}
	}
}

func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var h, half, rest Histogram
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		h.Add(d)
		if i%2 == 0 {
			half.Add(d)
		} else {
			rest.Add(d)
		}
	}
	slices.Sort(all)
	half.Merge(&rest)
	text, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	var read Histogram
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if half != h || read != h {
		t.Error("merging two halves, or JSON and back, gives another histogram")
	}
	for _, q := range []float64{0.001, 0.5, 0.95, 0.99, 0.999, 1} {
		exact := all[max(int(q*float64(len(all)))-1, 0)]
		got := h.Quantile(q)
		if got < exact || float64(got) > 1.035*float64(exact)+1 {
			t.Errorf("quantile %v: got %v, want %v to 3.5%% more", q, got, exact)
		}
	}
	if got := (&Histogram{}).Quantile(0.5); got != 0 {
		t.Errorf("empty: got %v, want 0", got)
	}
	h.Add(-1)
	h.Add(1 << 62)
	if h.Max() != 1<<62 || h.Quantile(1) != 1<<62 {
		t.Errorf("got max %v, want %v", h.Max(), time.Duration(1<<62))
	}
	for _, broken := range []string{`{"slots":[1],"counts":[]}`, `{"slots":[-1],"counts":[1]}`, `{"slots":[99999],"counts":[1]}`, `[]`} {
		if err := json.Unmarshal([]byte(broken), &read); err == nil {
			t.Errorf("read %s: got no error, want one", broken)
		}
	}
}

func TestFrames(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 70000} {
		payload := bytes.Repeat([]byte("abcdefghi"), size/9+1)[:size]
		masked := appendFrame(nil, opText, 0x12345678, payload)
		if masked[0] != 0x81 || masked[1]&0x80 == 0 {
			t.Fatalf("size %d: got first bytes %x, want a masked text frame", size, masked[:2])
		}
		head := len(masked) - size
		got := slices.Clone(masked[head:])
		for i := range got { // by the letter of RFC 6455
			got[i] ^= masked[head-4+i%4]
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("size %d: unmasked payload differs", size)
		}
		if _, _, _, err := nextFrame(masked); err != errMasked {
			t.Errorf("size %d: got error %v for a masked frame, want %v", size, err, errMasked)
		}
		plain := slices.Concat(masked[:head-4], payload)
		plain[1] &= 0x7f
		for cut := range min(len(plain), 12) {
			if _, n, need, err := nextFrame(plain[:cut]); n != 0 || err != nil || need <= cut {
				t.Errorf("size %d, cut at %d: got n %d, need %d, error %v, want to be told to wait", size, cut, n, need, err)
			}
		}
		f, n, _, err := nextFrame(append(slices.Clone(plain), 0x81))
		if err != nil || n != len(plain) || f.op != opText || !f.final || !bytes.Equal(f.payload, payload) {
			t.Errorf("size %d: got op %d, final %v, %d bytes, n %d, error %v", size, f.op, f.final, len(f.payload), n, err)
		}
	}
}

func FuzzNextFrame(f *testing.F) {
	f.Add([]byte{0x81, 3, 'a', 'b', 'c'})
	f.Add([]byte{0x82, 126, 0, 1, 9})
	f.Add([]byte{0x88, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, n, need, err := nextFrame(b)
		switch {
		case err != nil:
		case n == 0 && need <= len(b):
			t.Errorf("got need %d of %d bytes, want more than there are", need, len(b))
		case n > len(b) || len(fr.payload) > n:
			t.Errorf("got n %d and %d payload bytes of %d", n, len(fr.payload), len(b))
		}
	})
}

// FuzzNext feeds both encodings of the protocol's dialect with anything.
func FuzzNext(f *testing.F) {
	f.Add([]byte(`{"message":{"channel":"a","offset":1,"data":"x"}}` + "\n" + `{"id":1,"ok":{}}`))
	f.Add([]byte{4, 0x22, 2, 0x30, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, encoding := range []string{"json", "protobuf"} {
			d := newAgentNet(encoding, "")
			for rest := b; len(rest) > 0; {
				fr, n, err := d.Next(rest)
				if err != nil {
					break
				}
				if n <= 0 || n > len(rest) || len(fr.Data) > len(rest) {
					t.Fatalf("%s: got n %d of %d bytes", encoding, n, len(rest))
				}
				readStamp(fr.Data)
				rest = rest[n:]
			}
		}
	})
}

func TestOptions(t *testing.T) {
	var o Options
	if err := o.Resolve(); err != nil || o.Mode != ModeFanout || o.Connections != 1000 || o.Size != 128 || o.Processes != 1 {
		t.Errorf("got %+v, %v, want the defaults of fanout", o, err)
	}
	faulty := Options{Mode: ModeSlow, Size: 5, Rate: -1, Processes: 9999, URL: "ftp://x", Encoding: "xml"}
	err := faulty.Resolve()
	if err == nil {
		t.Fatal("got no error, want one for each fault")
	}
	for _, flag := range []string{"--size", "--rate", "--processes", "--url", "--encoding"} {
		if !strings.Contains(err.Error(), flag) {
			t.Errorf("got %q, want %s in it", err, flag)
		}
	}
	if err := (&Options{Mode: "x"}).Resolve(); err == nil || !strings.Contains(err.Error(), "fanout") {
		t.Errorf("got %v, want the modes in it", err)
	}
}

func TestListeners(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1
   2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: short
`
	if got := listeners(table, 8080); !slices.Equal(got, []string{"111"}) {
		t.Errorf("got %v, want 111: the one that listens at 8080", got)
	}
	if _, err := findServer(netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Error("got a process that listens at port 1, want none")
	}
}

func TestStatCPU(t *testing.T) {
	stat := "42 (a) b) (c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1"
	if got, err := statCPU([]byte(stat)); err != nil || got != 3*time.Second {
		t.Errorf("got %v, %v, want 3s", got, err)
	}
	for _, broken := range []string{"", "42 (a) S 1", "42 (a) S 1 1 1 0 -1 4194560 100 0 0 0 x 50 0"} {
		if _, err := statCPU([]byte(broken)); err == nil {
			t.Errorf("statCPU(%q): got no error, want one", broken)
		}
	}
}

func TestBusyCPU(t *testing.T) {
	if got, err := busyCPU("cpu  100 1 50 9999 8888 4 5 77 0 0"); err != nil || got != 1600*time.Millisecond {
		t.Errorf("got %v, %v, want 1.6s: all but idle, waiting and stolen time", got, err)
	}
	for _, broken := range []string{"", "intr 1", "cpu 1 2 3", "cpu 1 2 3 4 5 x 7 8"} {
		if _, err := busyCPU(broken); err == nil {
			t.Errorf("busyCPU(%q): got no error, want one", broken)
		}
	}
}

func TestDisturbanceIsTold(t *testing.T) {
	at := func(s, server, self, all float64) moment {
		d := func(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }
		return moment{at: time.Unix(0, 0).Add(d(s)), server: usage{cpu: d(server)}, self: d(self), all: d(all)}
	}
	for _, tt := range []struct {
		name string
		all  float64 // busy seconds of the machine in two seconds
		want float64
	}{{"quiet", 3.1, 0.05}, {"busy", 4, 0.5}, {"less than the parts", 2, 0}} {
		r := &Report{Seconds: 2, Processes: 1}
		r.disturbed(&watch{pids: []int{1}, from: at(0, 0, 0, 0), to: at(2, 2, 1, tt.all)})
		if diff := r.Others - tt.want; diff > 1e-9 || diff < -1e-9 || (len(r.Remarks) > 0) != (tt.want > Disturbed) {
			t.Errorf("%s: got %v and remarks %q, want %v", tt.name, r.Others, r.Remarks, tt.want)
		}
	}
}

func TestCheckUpgrade(t *testing.T) {
	accept := "\r\nsec-websocket-accept:  " + upgradeAccept
	tests := []struct{ name, head, want string }{
		{"good", "HTTP/1.1 101 Switching Protocols" + accept, ""},
		{"no proof", "HTTP/1.1 101 Switching Protocols", "Sec-WebSocket-Accept"},
		{"busy", "HTTP/1.1 503 Busy\r\nRetry-After: 3", "HTTP 503"},
		{"not HTTP", "SSH-2.0", "not HTTP"},
		{"no status", "HTTP/1.1 x", "no status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkUpgrade(tt.head)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNodesOfPairs(t *testing.T) {
	o := Options{Mode: ModeDirect, Pairs: 7, URL: "http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3", Run: "r", Size: 64}
	if err := o.Resolve(); err != nil {
		t.Fatal(err)
	}
	used := map[int]int{}
	for worker := range 2 {
		p, err := newDirect(&o, newAgentNet("json", ""), 0, worker, 2)
		if err != nil {
			t.Fatal(err)
		}
		ps := p.plans()
		for i := 0; i < len(ps); i += 2 {
			if ps[i].node == ps[i+1].node {
				t.Errorf("%s and %s are both on node %d", ps[i].agent, ps[i+1].agent, ps[i].node)
			}
			used[ps[i].node]++
			used[ps[i+1].node]++
		}
	}
	for node := range 3 {
		if used[node] < 4 || used[node] > 6 {
			t.Errorf("node %d has %d of 14 agents, want about a third", node, used[node])
		}
	}
	if alone := (Options{URL: "http://127.0.0.1:1"}); alone.nodeOfPair(5) != 0 {
		t.Errorf("one node: got node %d", alone.nodeOfPair(5))
	}
}
