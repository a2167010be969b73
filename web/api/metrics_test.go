package api

import (
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const acceptProtobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

// scrape reads all families in the format that accept asks for.
func scrape(t *testing.T, n *node, accept string) map[string]*dto.MetricFamily {
	t.Helper()
	got := n.do("GET", "/metrics", metricsToken, "", "Accept", accept)
	if got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	format := expfmt.ResponseFormat(got.header)
	decoder := expfmt.NewDecoder(strings.NewReader(got.body), format)
	families := map[string]*dto.MetricFamily{}
	for {
		family := new(dto.MetricFamily)
		err := decoder.Decode(family)
		if err == io.EOF {
			return families
		}
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		families[family.GetName()] = family
	}
}

func metricsNode(t *testing.T) *node {
	return newNode(t, func(c *Config, _ *node) { c.MetricsToken = metricsToken })
}

// units are the ends that a name may have when it measures something.
var units = regexp.MustCompile(`_(seconds|bytes|total|info|level|frames|messages|connections|sessions|agents|channels|subscriptions|draining|waiting|resumable|moving)$`)

// boundedLabels are the values that a label may have; nil is checked by hand.
func boundedLabels() map[string]func(string) bool {
	word := regexp.MustCompile(`^[a-z_]{1,32}$`).MatchString
	return map[string]func(string) bool{
		"level": func(v string) bool { return slices.Contains(overloadLevels[:], v) },
		"kind": func(v string) bool {
			return slices.ContainsFunc(wire.AllKinds(), func(k wire.Kind) bool { return k.String() == v })
		},
		"outcome": word, "reason": word, "result": word,
		"code": func(v string) bool {
			return v == "other" || wire.Code(v).Valid() || regexp.MustCompile(`^(10(0\d|1[0-5])|400[0-6])$`).MatchString(v)
		},
		"node":    func(v string) bool { return v == "n1" },
		"region":  func(v string) bool { return v == "home" },
		"version": func(v string) bool { return v == "1.2.3" },
	}
}

func TestMetricsFollowTheRulesOfPrometheus(t *testing.T) {
	n := metricsNode(t)
	labels := boundedLabels()
	// The rules of promtool check metrics, for what is ours.
	for name, family := range scrape(t, n, "text/plain") {
		if !strings.HasPrefix(name, "agentnet_") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if help := family.GetHelp(); len(help) < 10 || !strings.Contains(help, " ") {
				t.Errorf("got help %q, want a sentence", help)
			}
			if !regexp.MustCompile(`^[a-z][a-z0-9_]*$`).MatchString(name) || strings.Contains(name, "__") {
				t.Errorf("the name is not snake case")
			}
			if !units.MatchString(name) {
				t.Errorf("the name has no unit at its end")
			}
			if counter := family.GetType() == dto.MetricType_COUNTER; counter != strings.HasSuffix(name, "_total") {
				t.Errorf("got type %s: _total and counters must go together", family.GetType())
			}
			if strings.Contains(name, "milli") || strings.Contains(name, "_ms") {
				t.Errorf("not a base unit")
			}
			for _, m := range family.Metric {
				if len(family.Metric) > 40 {
					t.Errorf("got %d series, want a small set", len(family.Metric))
				}
				for _, l := range m.Label {
					if known := labels[l.GetName()]; known == nil || !known(l.GetValue()) {
						t.Errorf("label %s=%q is not of a bounded set", l.GetName(), l.GetValue())
					}
				}
			}
		})
	}
}

func TestMetricsTellEveryNumberOfTheRelay(t *testing.T) {
	n := metricsNode(t)
	families := scrape(t, n, "text/plain")
	value := func(name, label string) float64 {
		for _, m := range families[name].GetMetric() {
			if label == "" || len(m.Label) > 0 && m.Label[0].GetValue() == label {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			}
		}
		return math.NaN()
	}
	tests := []struct {
		name, label string
		want        float64
	}{
		{"agentnet_connections", "", 1}, {"agentnet_sessions", "", 2}, {"agentnet_sessions_resumable", "", 3}, {"agentnet_agents", "", 4},
		{"agentnet_channels", "", 5}, {"agentnet_subscriptions", "", 6}, {"agentnet_requests_waiting", "", 7}, {"agentnet_queue_frames", "", 8},
		{"agentnet_queue_bytes", "", 9}, {"agentnet_mailbox_messages", "", 10}, {"agentnet_mailbox_bytes", "", 11},
		{"agentnet_connections_accepted_total", "", 12}, {"agentnet_received_bytes_total", "", 13}, {"agentnet_sent_frames_total", "", 14},
		{"agentnet_sent_bytes_total", "", 15}, {"agentnet_messages_accepted_total", "", 16}, {"agentnet_messages_delivered_total", "", 17},
		{"agentnet_gaps_total", "", 18}, {"agentnet_node_parcels_total", "", 19}, {"agentnet_node_parcels_unknown_total", "", 20},
		{"agentnet_node_parcels_lost_total", "", 21}, {"agentnet_sessions_moving", "", 22}, {"agentnet_draining", "", 0}, {"agentnet_start_time_seconds", "", 1_795_000_000},
		{"agentnet_overload_level", "elevated", 1}, {"agentnet_overload_level", "normal", 0},
		{"agentnet_connections_refused_total", "address", 1}, {"agentnet_connects_total", "opened", 2},
		{"agentnet_connections_closed_total", "4002", 1}, {"agentnet_connections_closed_total", "other", 3},
		{"agentnet_received_frames_total", "send", 5}, {"agentnet_sends_total", "parked", 1},
		{"agentnet_errors_total", "forbidden", 1}, {"agentnet_messages_dropped_total", "queue_full", 2},
		{"agentnet_node_info", "", 1},
	}
	for _, tt := range tests {
		if got := value(tt.name, tt.label); got != tt.want {
			t.Errorf("%s %s: got %v, want %v", tt.name, tt.label, got, tt.want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestOneReadingAScrape(t *testing.T) {
	n := metricsNode(t)
	scrape(t, n, "text/plain")
	n.relay.mu.Lock()
	defer n.relay.mu.Unlock()
	if n.relay.reads != 1 {
		t.Errorf("got %d readings of the relay, want 1", n.relay.reads)
	}
}

func TestMetricsFormats(t *testing.T) {
	n := metricsNode(t)
	for accept, want := range map[string]string{
		"":                                     "text/plain; version=0.0.4",
		"application/openmetrics-text":         "application/openmetrics-text",
		acceptProtobuf + ",text/plain;q=0.5":   "application/vnd.google.protobuf",
		"text/html;q=0.9,*/*;q=0.1":            "text/plain",
		"application/json, \x01bad;;;q=x,,,  ": "text/plain",
	} {
		got := n.do("GET", "/metrics", metricsToken, "", "Accept", strings.ReplaceAll(accept, "\x01", ""))
		if got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), want) {
			t.Errorf("Accept %q: got %d %q, want %q", accept, got.status, got.header.Get("Content-Type"), want)
		}
		if strings.Contains(want, "openmetrics") && !strings.HasSuffix(got.body, "# EOF\n") {
			t.Error("OpenMetrics without its end")
		}
	}
}

// unfold turns the spans and differences of a native histogram into counts by
// bucket.
func unfold(t *testing.T, h *dto.Histogram) map[int]uint64 {
	t.Helper()
	buckets, index, count, next := map[int]uint64{}, 0, int64(0), 0
	for i, span := range h.PositiveSpan {
		if i > 0 && span.GetOffset() < 0 {
			t.Fatalf("span %d goes back", i)
		}
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += h.PositiveDelta[next]
			next++
			if count < 0 {
				t.Fatalf("bucket %d has a count below 0", index)
			}
			buckets[index] = uint64(count)
			index++
		}
	}
	if next != len(h.PositiveDelta) {
		t.Fatalf("got %d differences for %d buckets", len(h.PositiveDelta), next)
	}
	return buckets
}

func TestHistogramsAgreeInBothForms(t *testing.T) {
	n := metricsNode(t)
	classicOnly, both := scrape(t, n, "text/plain"), scrape(t, n, acceptProtobuf)
	for name, want := range map[string]struct {
		read        relay.Histogram
		first, last float64 // classic bounds
	}{
		"agentnet_delivery_duration_seconds": {n.relay.stats.Delivery, relay.Bound(20).Seconds(), 16},
		"agentnet_reply_duration_seconds":    {n.relay.stats.Reply, relay.Bound(32).Seconds(), 512},
	} {
		t.Run(name, func(t *testing.T) {
			read := want.read
			text, h := classicOnly[name].Metric[0].Histogram, both[name].Metric[0].Histogram
			if h.GetSampleCount() != read.Count() || text.GetSampleCount() != read.Count() || h.GetSampleSum() != read.Sum.Seconds() {
				t.Errorf("got counts %d and %d, sum %v; want %d, %v", h.GetSampleCount(), text.GetSampleCount(), h.GetSampleSum(), read.Count(), read.Sum.Seconds())
			}
			if n := len(h.Bucket); n > 30 || h.Bucket[0].GetUpperBound() != want.first || h.Bucket[n-1].GetUpperBound() != want.last {
				t.Errorf("got %d classic buckets from %v to %v, want at most 30 from %v to %v", n, h.Bucket[0].GetUpperBound(), h.Bucket[n-1].GetUpperBound(), want.first, want.last)
			}
			for i, b := range h.Bucket {
				// A classic bucket holds exactly what the relay counted up to its bound.
				var want uint64
				for k, c := range read.Counts[:relay.HistogramBuckets-1] {
					if relay.Bound(k).Seconds() <= b.GetUpperBound() {
						want += c
					}
				}
				if b.GetCumulativeCount() != want || text.Bucket[i].GetCumulativeCount() != want {
					t.Errorf("le=%v: got %d and %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), text.Bucket[i].GetCumulativeCount(), want)
				}
			}
			if h.GetSchema() != 2 {
				t.Errorf("got schema %d, want 2", h.GetSchema())
			}
			native := unfold(t, h)
			total := h.GetZeroCount()
			for index, count := range native {
				total += count
				// The native bound is the nearest to the relay's own.
				i := index - nativeOffset()
				if count != read.Counts[i] {
					t.Errorf("native bucket %d: got %d, want %d", index, count, read.Counts[i])
				}
				if ratio := math.Exp2(float64(index)/4) / relay.Bound(i).Seconds(); ratio < 0.94 || ratio > 1.06 {
					t.Errorf("native bucket %d: its bound is %v of the relay's", index, ratio)
				}
			}
			if total != h.GetSampleCount() {
				t.Errorf("got %d in native buckets, want %d", total, h.GetSampleCount())
			}
			if h.GetZeroThreshold() <= 0 || h.GetZeroThreshold() > 1.1e-6 {
				t.Errorf("got zero threshold %v, want about 1 µs", h.GetZeroThreshold())
			}
		})
	}
}

func TestEmptyHistogramIsStillNative(t *testing.T) {
	m := &latencyMetric{desc: prometheus.NewDesc("x_seconds", "x", nil, nil), last: 40, created: time.Now()}
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	if h := out.Histogram; h.GetSampleCount() != 0 || len(h.PositiveSpan) != 1 || h.PositiveSpan[0].GetLength() != 0 || h.Schema == nil {
		t.Errorf("got %v, want an empty native histogram", h)
	}
}

func TestStatsTellEveryField(t *testing.T) {
	n := newNode(t)
	got := n.do("GET", "/v1/stats", viewerToken, "")
	for _, want := range []string{
		`"node":"n1","region":"home","version":"1.2.3","started_ms":1795000000000,"time_ms":1795000060000,"level":"elevated","draining":false`,
		`"connections":1,"sessions":2,"resumable":3,"agents":4,"channels":5,"subscriptions":6,"requests":7,"queue_frames":8,"queue_bytes":9,"mailbox_messages":10,"mailbox_bytes":11,"moving":22`,
		`"accepted":12`, `"closed":{"1000":3,"3777":2,"4002":1,"4999":1}`, `"frames_in":{"ack":2,"send":5}`, `"messages":16,"delivered":17`, `"gaps":18,"parcels":19,"parcels_unknown":20,"parcels_lost":21`,
		`"reply":{"count":6,"sum_ms":6,"p50_ms":0.976,"p95_ms":0.976,"p99_ms":0.976}`,
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("got %s\nwant %s in it", got.body, want)
		}
	}
	n.relay.stats = relay.Stats{}
	if got := n.do("GET", "/v1/stats", viewerToken, ""); strings.Contains(got.body, "null") || got.status != 200 {
		t.Errorf("got %d %s, want no null", got.status, got.body)
	}
}

func TestRegions(t *testing.T) {
	n := newNode(t, func(c *Config, _ *node) {
		c.Load = func() Load { return Load{MessagesPerS: 12.5, P95: 1500 * time.Microsecond} }
	})
	want := `{"regions":[{"region":"home","healthy":%v,"self":true,"nodes":1,"url":"https://example.org/x","agents":4,"connections":1,"level":"elevated","messages_per_s":12.5,"p95_ms":1.5}]}`
	if got := n.do("GET", "/v1/regions", goodToken, ""); got.body != fmt.Sprintf(want, true) {
		t.Errorf("got %s\nwant %s", got.body, fmt.Sprintf(want, true))
	}
	n.relay.reasons = []relay.Reason{{Check: "journal"}}
	if got := n.do("GET", "/v1/regions", goodToken, ""); got.body != fmt.Sprintf(want, false) {
		t.Errorf("got %s, want unhealthy", got.body)
	}
	n.relay.reasons, n.relay.stats.Draining = nil, true
	if got := n.do("GET", "/v1/regions", goodToken, ""); got.body != fmt.Sprintf(want, false) {
		t.Errorf("got %s, want unhealthy", got.body)
	}
}

// TestStatsHaveAllCounters fails when relay.Stats gains a field that neither the
// metrics nor /v1/stats were taught.
func TestStatsHaveAllCounters(t *testing.T) {
	const known = 37
	if got := reflect.TypeFor[relay.Stats]().NumField(); got != known {
		t.Errorf("relay.Stats has %d fields, want %d: tell the new ones in metrics.go and stats.go, then correct this number", got, known)
	}
}
