package main

import (
	"context"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"agentnet/app/bench"
)

// serveEnv makes the test program a peer: so it runs in a process of its own, as
// in a real comparison.
const serveEnv = "AGENTNET_BENCH_TEST_SERVE"

func TestMain(m *testing.M) {
	if peer := os.Getenv(serveEnv); peer != "" {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // the parent's end of standard input closes when the test is over
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		name, small := strings.CutSuffix(peer, " small")
		c := serveCommand{Peer: name, Listen: "127.0.0.1:0", Small: small}
		if err := c.Run(ctx); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// startPeer runs a real peer for the length of a test.
func startPeer(t *testing.T, peer string) (url string, pid int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serveEnv+"="+peer)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		kill := time.AfterFunc(startPatience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("stop %s: %v", peer, err)
		}
	})
	if url, err = listening(out, startPatience); err != nil {
		t.Fatal(err)
	}
	return url, cmd.Process.Pid
}

// TestPeers runs real load through the real peers and wants every message once.
func TestPeers(t *testing.T) {
	dialects := map[string]func() (bench.Dialect, error){
		"nats":             func() (bench.Dialect, error) { return &natsDialect{}, nil },
		"centrifuge":       func() (bench.Dialect, error) { return &centrifugeDialect{}, nil },
		"centrifuge small": func() (bench.Dialect, error) { return &centrifugeDialect{}, nil },
	}
	for peer, dialect := range dialects {
		t.Run(peer, func(t *testing.T) {
			url, pid := startPeer(t, peer)
			for _, o := range []bench.Options{
				{Mode: bench.ModeFanout, Connections: 50, Publishers: 2},
				{Mode: bench.ModeFanout, Connections: 20, Rate: 100},
				{Mode: bench.ModeDirect, Pairs: 10, Answers: true},
				{Mode: bench.ModeDirect, Pairs: 2, Size: 20_000},
				{Mode: bench.ModeIdle, Connections: 50, Subscribe: true},
				{Mode: bench.ModeConnect, Connections: 50},
			} {
				o.URL, o.PID, o.NewDialect = url, []int{pid}, dialect
				o.Duration, o.Warmup = 200*time.Millisecond, 50*time.Millisecond
				r, err := bench.Run(context.Background(), o, io.Discard)
				if err != nil {
					t.Fatalf("%s: %v", o.Mode, err)
				}
				n := r.Total
				if n.Lost+n.Doubled+n.OutOfOrder+n.Strange+n.Broken+n.Refused != 0 {
					t.Errorf("%s: got %+v, want every message once", o.Mode, n)
				}
				if active := o.Mode == bench.ModeFanout || o.Mode == bench.ModeDirect; active && (n.Delivered == 0 || r.CPU == nil || r.CPU.SecondsOverall <= 0) {
					t.Errorf("%s: got %d deliveries and CPU %+v, want both", o.Mode, n.Delivered, r.CPU)
				}
				if r.Server != strings.TrimSuffix(peer, " small") {
					t.Errorf("got server %q, want %q", r.Server, peer)
				}
			}
		})
	}
}

func TestRequestsArePeculiarToAgentnet(t *testing.T) {
	url, pid := startPeer(t, "nats")
	_, err := bench.Run(context.Background(), bench.Options{Mode: bench.ModeRequest, URL: url, PID: []int{pid},
		NewDialect: func() (bench.Dialect, error) { return &natsDialect{}, nil }}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no requests") {
		t.Errorf("got %v, want to be told that this server has none", err)
	}
}

func TestNext(t *testing.T) {
	const info = "INFO {\"a\":1}\r\n"
	tests := []struct {
		name    string
		dialect bench.Dialect
		msg     string
		kinds   []bench.FrameKind
		rest    string // that waits for more
		fault   string
	}{
		{"nats connect", &natsDialect{}, info + "PONG\r\n", []bench.FrameKind{bench.FrameOther, bench.FrameAnswer}, "", ""},
		{"nats messages", &natsDialect{}, "MSG a 1 3\r\nx\r\n\r\nPING\r\n", []bench.FrameKind{bench.FrameDelivery, bench.FramePing}, "", ""},
		{"nats half a line", &natsDialect{}, "PONG\r\nMSG a", []bench.FrameKind{bench.FrameAnswer}, "MSG a", ""},
		{"nats half a payload", &natsDialect{}, "MSG a 1 3\r\nxyz\r", nil, "MSG a 1 3\r\nxyz\r", ""},
		{"nats error", &natsDialect{}, "-ERR 'no'\r\n", []bench.FrameKind{bench.FrameError}, "", ""},
		{"nats bad size", &natsDialect{}, "MSG a 1 x\r\n", nil, "", "not a number"},
		{"nats unknown", &natsDialect{}, "WHAT\r\n", nil, "", "not known"},
		{"centrifuge", &centrifugeDialect{}, `{"id":1,"connect":{"client":"x"}}` + "\n" + `{"id":2,"subscribe":{}}` + "\n" + `{"id":3,"publish":{}}` + "\n" + `{}`,
			[]bench.FrameKind{bench.FrameConnected, bench.FrameAnswer, bench.FrameAnswer, bench.FramePing}, "", ""},
		{"centrifuge push", &centrifugeDialect{}, `{"push":{"channel":"a","pub":{"data":1}}}`, []bench.FrameKind{bench.FrameDelivery}, "", ""},
		{"centrifuge error", &centrifugeDialect{}, `{"id":1,"error":{"code":103,"message":"permission denied"}}`, []bench.FrameKind{bench.FrameError}, "", ""},
		{"centrifuge broken", &centrifugeDialect{}, `{"id":`, nil, "", "read answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rest := []byte(tt.msg)
			var kinds []bench.FrameKind
			for len(rest) > 0 {
				f, n, err := tt.dialect.Next(rest)
				if err != nil {
					if tt.fault == "" || !strings.Contains(err.Error(), tt.fault) {
						t.Errorf("got error %v, want %q", err, tt.fault)
					}
					return
				}
				if n == 0 {
					break
				}
				kinds = append(kinds, f.Kind)
				rest = rest[n:]
			}
			if string(rest) != tt.rest || len(kinds) != len(tt.kinds) || tt.fault != "" {
				t.Fatalf("got kinds %v and rest %q, want %v and %q, error %q", kinds, rest, tt.kinds, tt.rest, tt.fault)
			}
			for i := range kinds {
				if kinds[i] != tt.kinds[i] {
					t.Errorf("frame %d: got kind %d, want %d", i, kinds[i], tt.kinds[i])
				}
			}
		})
	}
}

func FuzzNext(f *testing.F) {
	f.Add([]byte("MSG a 1 3\r\nxyz\r\n"))
	f.Add([]byte("{\"id\":1,\"publish\":{}}\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, d := range []bench.Dialect{&natsDialect{}, &centrifugeDialect{}} {
			for rest := b; len(rest) > 0; {
				_, n, err := d.Next(rest)
				if err != nil || n == 0 {
					break
				}
				if n < 0 || n > len(rest) {
					t.Fatalf("%s: got n %d of %d", d.Name(), n, len(rest))
				}
				rest = rest[n:]
			}
		}
	})
}

func TestMedian(t *testing.T) {
	tests := []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{2, 1}, 1}}
	for _, tt := range tests {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v): got %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.123: "0.12", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567", -1234: "-1,234", math.Inf(1): "–"} {
		if got := number(v); got != want {
			t.Errorf("number(%v): got %q, want %q", v, got, want)
		}
	}
}

func TestDisturbedRunsAreRepeated(t *testing.T) {
	for _, tt := range []struct {
		others []float64 // of the runs, in turn
		runs   int
	}{{[]float64{0.1}, 1}, {[]float64{0.5, 0}, 2}, {[]float64{0.5, 0.4, 0.3}, 3}} {
		runs, noted := 0, 0
		r, err := calm(func() (*bench.Report, error) {
			runs++
			return &bench.Report{Others: tt.others[runs-1]}, nil
		}, func(*bench.Report) { noted++ })
		if err != nil || runs != tt.runs || noted != tt.runs-1 || r.Others != tt.others[runs-1] {
			t.Errorf("%v: got %d runs, %d noted, %v, %v; want %d runs and the last of them", tt.others, runs, noted, r, err, tt.runs)
		}
	}
	if _, err := calm(func() (*bench.Report, error) { return nil, context.Canceled }, nil); err == nil {
		t.Error("got no error of a run that failed")
	}
}

func TestRecord(t *testing.T) {
	c := &compareCommand{Servers: []string{"agentnet", "nats"}, Runs: 3}
	w := work{name: "fan-out", measures: []measure{deliveriesPS, cpuDelivery}}
	report := func(ps, cpu float64) *bench.Report {
		return &bench.Report{DeliveriesPS: ps, CPU: &bench.CPU{PerDelivery: cpu}}
	}
	cells := map[string]map[string]*cell{"fan-out": {
		"agentnet": {reports: []*bench.Report{report(100, 2), report(300, 1), report(200, 3)}},
		"nats":     {reports: []*bench.Report{report(400, 4)}, err: context.DeadlineExceeded},
	}}
	got := c.record(time.Unix(0, 0), true, []work{w}, cells)
	for _, want := range []string{"| fan-out | deliveries/s | 200 | 400 | 0.50 |", "| fan-out | server CPU µs a delivery | 2.00 | 4.00 | 0.50 |", "fan-out, nats: failed: "} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	if strings.Contains(got, "Not to be trusted") {
		t.Errorf("got\n%s\nwant no warning: nothing was disturbed", got)
	}
	cells["fan-out"]["nats"].reports[0].Others = 0.5
	if got := c.record(time.Unix(0, 0), true, []work{w}, cells); !strings.Contains(got, "disturbed 1 of 4 runs") || !strings.Contains(got, "DISTURBED by others (50%") {
		t.Errorf("got\n%s\nwant a warning of the disturbed run", got)
	}
	if err := faults(cells); err == nil || !strings.Contains(err.Error(), "nats") {
		t.Errorf("got %v, want the failure of nats", err)
	}
}
