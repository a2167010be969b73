package watch

import (
	"bytes"
	"log/slog"
	"math"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/wire"
)

func TestSampler(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)
	st := relay.Stats{Node: "n1", Region: "eu", Started: at, Connections: 7, QueueBytes: 100, MessagesIn: 1000, DeliveredOut: 500, BytesIn: 10, Accepted: 5,
		Errors: map[wire.Code]uint64{wire.Internal: 3}, Connects: map[string]uint64{"opened": 4, "resumed": 1}}
	api := relay.Histogram{}
	broker := Broker{}
	s := NewSampler(Sources{Stats: func() relay.Stats { return st }, API: func() relay.Histogram { return api }, Broker: func() Broker { return broker }}, slog.New(slog.DiscardHandler))
	first := s.Sample(at)
	if _, ok := first.Values.Get(scale.MessagesIn); ok || first.Values[scale.Connections].Value != 7 || first.Values[scale.Broker].State != scale.Idle {
		t.Fatalf("the first sample: got %+v, want gauges without rates, and no broker", first.Values)
	}
	st.MessagesIn, st.DeliveredOut, st.Accepted = 1190, 800, 15
	st.Errors = map[wire.Code]uint64{wire.Internal: 8, wire.Timeout: 5, wire.Forbidden: 900}
	st.Connects = map[string]uint64{"opened": 6, "resumed": 9}
	st.Delivery.Counts[40], st.Delivery.Sum = 100, time.Second
	api.Counts[60] = 3
	broker = Broker{Shared: true, Up: true}
	got := s.Sample(at.Add(2 * time.Second))
	for sig, want := range map[scale.Signal]float64{scale.MessagesIn: 95, scale.MessagesOut: 150, scale.AcceptRate: 5, scale.ErrorRate: 0.05,
		scale.Reconnects: 0.8, scale.Broker: 1, scale.BytesIn: 0, scale.QueueBytes: 100} {
		if v, ok := got.Values.Get(sig); !ok || math.Abs(v-want) > 1e-9 {
			t.Errorf("%v: got %v, %v, want %v", sig, v, ok, want)
		}
	}
	if p := got.Values[scale.DeliveryP99].Value; p < relay.Bound(39).Seconds() || p > relay.Bound(40).Seconds()+1e-9 {
		t.Errorf("p99 of delivery: got %v, want the bucket up to %v", p, relay.Bound(40))
	}
	if got.API.Count() != 3 || got.Delivery.Count() != 100 {
		t.Errorf("got %d and %d latencies, want 3 and 100", got.API.Count(), got.Delivery.Count())
	}
	broker.Up = false
	st.MessagesIn = 5 // a counter that begins anew
	again := s.Sample(at.Add(3 * time.Second))
	if v := again.Values[scale.MessagesIn]; v.Value != 5 || again.Values[scale.Broker].Value != 0 || again.Values[scale.ErrorRate].Value != 0 {
		t.Errorf("got %+v, want five messages, no failure and a broker that is down", again.Values)
	}
	if again.Values[scale.DeliveryP95].State != scale.Idle {
		t.Errorf("a second without a message: got %+v, want idle", again.Values[scale.DeliveryP95])
	}
	if allocated := testing.AllocsPerRun(100, func() { at = at.Add(time.Second); s.Sample(at) }); allocated > 20 {
		t.Errorf("a sample allocates %v times, want a few", allocated)
	}
}

// TestBucketsAreTheRelays: the relay's counts are taken over one by one.
func TestBucketsAreTheRelays(t *testing.T) {
	if scale.Buckets != relay.HistogramBuckets {
		t.Fatalf("got %d buckets, want %d", scale.Buckets, relay.HistogramBuckets)
	}
	for i := range scale.Buckets {
		if scale.Bound(i) != relay.Bound(i) {
			t.Errorf("bucket %d: got %v, want %v", i, scale.Bound(i), relay.Bound(i))
		}
	}
}

func fullSample() scale.Sample {
	at := time.Date(2026, 11, 23, 14, 0, 0, 123e6, time.UTC)
	s := scale.Sample{Node: "node-1", Region: "eu", At: at, Started: at.Add(-time.Hour), Ready: at.Add(-time.Minute), Draining: true}
	for i := range scale.SignalCount {
		s.Values.Set(i, float64(i)*1.5)
	}
	s.Values.SetIdle(scale.Broker)
	s.Values[scale.CPU] = scale.Reading{}
	s.Delivery.Observe(time.Millisecond, 5)
	s.API.Observe(time.Second, 1)
	return s
}

func TestSampleTravels(t *testing.T) {
	want := fullSample()
	raw := appendSample(nil, &want)
	got, err := readSample(raw[1:])
	if err != nil {
		t.Fatal(err)
	}
	if again := appendSample(nil, &got); !bytes.Equal(raw, again) || got.Node != "node-1" || !got.At.Equal(want.At) || !got.Draining || got.Values != want.Values || got.Delivery.Count() != 5 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	t.Logf("%d bytes", len(raw))
	for n := range len(raw) - 1 {
		if _, err := readSample(raw[1 : 1+n]); err == nil {
			t.Errorf("the first %d bytes were taken for a whole sample", n)
		}
	}
}

func FuzzReadSample(f *testing.F) {
	s := fullSample()
	f.Add(appendSample(nil, &s)[1:])
	f.Add([]byte{sampleVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readSample(b)
		if err != nil {
			return
		}
		if s.Node == "" || len(s.Node) > maxName || s.At.IsZero() {
			t.Errorf("got %+v", s)
		}
		for sig := range scale.SignalCount {
			if v, ok := s.Values.Get(sig); ok && !(v >= 0) {
				t.Errorf("%v: got %v", sig, v)
			}
		}
		if again, err := readSample(appendSample(nil, &s)[1:]); err != nil || again.Values != s.Values {
			t.Errorf("what was read does not travel: %v", err)
		}
	})
}
