package bench

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if IsWorker() { // a test of several processes has started this program again
		o, err := workerOptions()
		if err == nil {
			err = RunWorker(context.Background(), o, os.Stdin, os.Stdout)
		}
		if err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// workerOptionsEnv carries the options to the workers of a test, whose arguments
// are those of the test program.
const workerOptionsEnv = "AGENTNET_BENCH_TEST_OPTIONS"

func workerOptions() (o Options, err error) {
	err = json.Unmarshal([]byte(os.Getenv(workerOptionsEnv)), &o)
	return o, err
}

// short are options of a run that fits a test.
func short(o Options) Options {
	o.Duration, o.Warmup = 150*time.Millisecond, 20*time.Millisecond
	o.Timeout = 10 * time.Second
	o.PID = []int{os.Getpid()} // the relay of the tests is in this process
	return o
}

// clean fails the test when a healthy relay was found wanting.
func clean(t *testing.T, r *Report) {
	t.Helper()
	n := r.Total
	if n.Lost+n.Doubled+n.OutOfOrder+n.Gaps+n.Strange+n.Stalls+n.Broken+n.Refused != 0 {
		t.Errorf("got %+v, want nothing lost, doubled, out of order, strange, stalled, broken or refused", n)
	}
}

func TestModes(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		parts   string
	}{
		{"fanout", Options{Mode: ModeFanout, Connections: 20}, "fanout"},
		{"fanout at a rate", Options{Mode: ModeFanout, Connections: 10, Rate: 200}, "fanout"},
		{"fanout of several publishers and channels", Options{Mode: ModeFanout, Connections: 12, Publishers: 4, Channels: 2}, "fanout"},
		{"fanout without answers", Options{Mode: ModeFanout, Connections: 5}, "fanout"},
		{"direct", Options{Mode: ModeDirect, Pairs: 8, Answers: true}, "direct"},
		{"direct, several under way", Options{Mode: ModeDirect, Pairs: 4, Depth: 4, Answers: true}, "direct"},
		{"direct at a rate", Options{Mode: ModeDirect, Pairs: 4, Rate: 500}, "direct"},
		{"request", Options{Mode: ModeRequest, Pairs: 8}, "request"},
		{"request at a rate", Options{Mode: ModeRequest, Pairs: 4, Rate: 500}, "request"},
		{"large payloads", Options{Mode: ModeDirect, Pairs: 2, Size: 40_000}, "direct"},
		{"mixed", Options{Mode: ModeMixed, Connections: 10, Pairs: 4, Rate: 100, DirectRate: 200, RequestRate: 200}, "fanout direct request idle"},
	}
	for _, encoding := range []string{"json", "protobuf"} {
		for _, joined := range []bool{false, true} {
			for _, tt := range tests {
				name := encoding + "/" + tt.name
				if joined {
					name += ", joined and fragmented"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					relay := startFake(t, wrong{joined: joined})
					o := short(tt.options)
					o.Encoding = encoding
					r, table, err := relay.bench(t, o)
					if err != nil {
						t.Fatal(err)
					}
					clean(t, r)
					var parts []string
					for _, p := range r.Parts {
						parts = append(parts, p.Name)
						if p.Name != "idle" && (p.Counts.Delivered == 0 || p.Latency.P50 <= 0) {
							t.Errorf("part %s: got %d delivered, p50 %v µs, want more than 0", p.Name, p.Counts.Delivered, p.Latency.P50)
						}
					}
					if got := strings.Join(parts, " "); got != tt.parts {
						t.Errorf("got parts %q, want %q", got, tt.parts)
					}
					if r.CPU == nil || r.CPU.SecondsOverall <= 0 || r.Memory == nil || r.Memory.After <= 0 {
						t.Errorf("got CPU %+v and memory %+v, want the use of process %d", r.CPU, r.Memory, o.PID)
					}
					if !strings.Contains(table, "lost 0, doubled 0") {
						t.Errorf("got table\n%s\nwant the losses in it", table)
					}
				})
			}
		}
	}
}

func TestAnswersAreCounted(t *testing.T) {
	relay := startFake(t, wrong{})
	for _, answers := range []bool{true, false} {
		o := short(Options{Mode: ModeDirect, Pairs: 2, Answers: answers})
		r, _, err := relay.bench(t, o)
		if err != nil {
			t.Fatal(err)
		}
		clean(t, r)
		if got := r.Total.Answered > 0; got != answers {
			t.Errorf("answers %v: got %d answers", answers, r.Total.Answered)
		}
	}
	relay.mu.Lock()
	defer relay.mu.Unlock()
	if relay.acks == 0 {
		t.Error("got no ack, want one after each 32 direct messages")
	}
}

// TestRateIsKept bounds the rate from above only: a busy machine sends late, and
// then all at once.
func TestRateIsKept(t *testing.T) {
	relay := startFake(t, wrong{})
	start := time.Now()
	r, _, err := relay.bench(t, short(Options{Mode: ModeFanout, Connections: 3, Rate: 400}))
	if err != nil {
		t.Fatal(err)
	}
	clean(t, r)
	if most := 400*time.Since(start).Seconds() + 1; float64(r.Total.Sent) > most || r.Total.Sent == 0 {
		t.Errorf("got %d publications, want 1 to %.0f", r.Total.Sent, most)
	}
}

func TestPace(t *testing.T) {
	p := newPace(400, 1000)
	var sent int
	for now := int64(1000); now < 1000+int64(time.Second); now += int64(time.Millisecond) {
		for p.due() <= now {
			if late := now - p.due(); late > int64(time.Millisecond) {
				t.Fatalf("message %d: got %d ns late, want at most 1 ms", sent, late)
			}
			p.take()
			sent++
		}
	}
	if sent != 400 {
		t.Errorf("got %d messages in a second, want 400", sent)
	}
}

// TestFaultsAreSeen plants losses, doubles and foreign messages.
func TestFaultsAreSeen(t *testing.T) {
	t.Run("lost", func(t *testing.T) {
		relay := startFake(t, wrong{dropEvery: 10})
		r, _, err := relay.bench(t, short(Options{Mode: ModeFanout, Connections: 3, Rate: 500}))
		if err != nil {
			t.Fatal(err)
		}
		relay.mu.Lock()
		defer relay.mu.Unlock()
		var offset uint64
		for _, o := range relay.offsets {
			offset = o
		}
		if want := offset / 10 * 3; r.Total.Lost != want {
			t.Errorf("got %d lost, want %d", r.Total.Lost, want)
		}
	})
	t.Run("doubled", func(t *testing.T) {
		relay := startFake(t, wrong{doubleEvery: 10})
		r, _, err := relay.bench(t, short(Options{Mode: ModeFanout, Connections: 3, Rate: 500}))
		if err != nil {
			t.Fatal(err)
		}
		relay.mu.Lock()
		defer relay.mu.Unlock()
		var offset uint64
		for _, o := range relay.offsets {
			offset = o
		}
		if want := offset / 10 * 3; r.Total.Doubled != want || r.Total.Lost != 0 {
			t.Errorf("got %d doubled and %d lost, want %d and 0", r.Total.Doubled, r.Total.Lost, want)
		}
	})
	t.Run("misdirected", func(t *testing.T) {
		relay := startFake(t, wrong{misdirect: true})
		r, _, err := relay.bench(t, short(Options{Mode: ModeDirect, Pairs: 3, Rate: 300}))
		if err != nil {
			t.Fatal(err)
		}
		if r.Total.Strange == 0 || r.Total.Lost == 0 {
			t.Errorf("got %d strange and %d lost, want both above 0", r.Total.Strange, r.Total.Lost)
		}
	})
}

// TestLateIsNotLost has a relay that hands messages over long after the sending
// has ended.
func TestLateIsNotLost(t *testing.T) {
	relay := startFake(t, wrong{lateBy: 700 * time.Millisecond})
	o := short(Options{Mode: ModeFanout, Connections: 2, Window: 3})
	r, _, err := relay.bench(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Total.Lost != 0 || r.Total.Doubled != 0 {
		t.Errorf("got %d lost and %d doubled, want none: they came late", r.Total.Lost, r.Total.Doubled)
	}
}

func TestStormIsRepeatedWhenRefused(t *testing.T) {
	relay := startFake(t, wrong{refuseFirst: 7})
	r, table, err := relay.bench(t, short(Options{Mode: ModeConnect, Connections: 50, Subscribe: true, Sources: 3}))
	if err != nil {
		t.Fatal(err)
	}
	if r.Connect.Connections != 50 || r.Connect.Refused != 7 || r.Connect.Latency.Count != 50 {
		t.Errorf("got %+v, want 50 connections and 7 refused", r.Connect)
	}
	if !strings.Contains(table, "7 refused") {
		t.Errorf("got table\n%s\nwant the refusals in it", table)
	}
}

func TestSlowReadersDoNotReach(t *testing.T) {
	relay := startFake(t, wrong{})
	o := short(Options{Mode: ModeSlow, Connections: 4, SlowReaders: 2, Rate: 50, Size: 200})
	r, _, err := relay.bench(t, o)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, r)
	if got, want := r.Total.Delivered, r.Total.Sent*4; got != want {
		// One publication may be under way when measuring starts or ends.
		if diff := int64(got) - int64(want); diff < -4 || diff > 4 {
			t.Errorf("got %d deliveries of %d publications, want %d", got, r.Total.Sent, want)
		}
	}
}

func TestRefusalsEndTheRun(t *testing.T) {
	tests := []struct {
		name  string
		wrong wrong
		url   func(*fakeRelay) string
		want  string
	}{
		{"token", wrong{badToken: true}, (*fakeRelay).url, "AGENTNET_TOKEN"},
		{"path", wrong{}, func(f *fakeRelay) string { return strings.TrimSuffix(f.url(), "/base") }, "HTTP 404"},
		{"nobody", wrong{}, func(*fakeRelay) string { return "http://127.0.0.1:1" }, "refused"},
		{"tls", wrong{}, func(*fakeRelay) string { return "https://127.0.0.1:1" }, "plain TCP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			relay := startFake(t, tt.wrong)
			o := short(Options{Mode: ModeIdle, Connections: 3, URL: tt.url(relay), Token: "secret"})
			o.Timeout = 300 * time.Millisecond
			var out strings.Builder
			_, err := Run(context.Background(), o, &out)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("got error %v, want none with the token", err)
			}
		})
	}
}

func TestSeveralProcesses(t *testing.T) {
	relay := startFake(t, wrong{})
	for _, mode := range []string{ModeFanout, ModeDirect, ModeMixed} {
		t.Run(mode, func(t *testing.T) {
			o := short(Options{Mode: mode, Connections: 9, Pairs: 5, Processes: 3, URL: relay.url(), Token: "secret", Rate: 200, DirectRate: 200, RequestRate: 100})
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv(workerOptionsEnv, string(text))
			r, _, err := relay.bench(t, o)
			if err != nil {
				t.Fatal(err)
			}
			clean(t, r)
			if err := o.Resolve(); err != nil {
				t.Fatal(err)
			}
			if r.Total.Delivered == 0 || r.Connect.Connections != uint64(o.total()) {
				t.Errorf("got %d deliveries on %d connections, want more than 0 on %d", r.Total.Delivered, r.Connect.Connections, o.total())
			}
		})
	}
}

func TestCancelEndsTheRun(t *testing.T) {
	relay := startFake(t, wrong{})
	o := short(Options{Mode: ModeDirect, Pairs: 2, URL: relay.url(), Token: "secret"})
	o.Duration = time.Hour
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	var out strings.Builder
	if _, err := Run(ctx, o, &out); err == nil || out.Len() > 0 {
		t.Errorf("got error %v and output %q, want an error and no report", err, out.String())
	}
}

func TestJSONReport(t *testing.T) {
	relay := startFake(t, wrong{})
	o := short(Options{Mode: ModeRequest, Pairs: 2, JSON: true})
	r, out, err := relay.bench(t, o)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("read %q: %v", out, err)
	}
	if got.Total.Delivered != r.Total.Delivered || got.Mode != ModeRequest || got.Server != "agentnet" {
		t.Errorf("got %+v, want the report that Run returned", got)
	}
}
