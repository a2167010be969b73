package api

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strconv"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// overloadLevels are the values of the label level.
var overloadLevels = [...]string{"normal", "elevated", "degraded", "critical"}

// A single is a metric without labels.
type single struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*relay.Stats) float64
}

// A family is a counter with one label.
type family struct {
	desc *prometheus.Desc
	read func(*relay.Stats) map[string]uint64
}

// A latencies is a histogram with the bounds of its classic form.
type latencies struct {
	desc        *prometheus.Desc
	read        func(*relay.Stats) relay.Histogram
	first, last int
}

// A relayCollector reads the relay once a scrape.
type relayCollector struct {
	stats func() relay.Stats

	singles  []single
	families []family
	latency  []latencies
	level    *prometheus.Desc
	info     *prometheus.Desc
	version  string
	texts    map[*prometheus.Desc]Metric
}

// A Metric describes one metric of the node.
type Metric struct {
	Name, Help, Label string
	Kind              string // gauge, counter or histogram
}

// Metrics lists the metrics of this node, without those of the process and of Go.
// Label is that of the metrics which have one; node_info has several and is listed
// without.
func (a *API) Metrics() []Metric {
	r := newRelayCollector(a.cfg.Relay.Stats, a.cfg.Version)
	var all []Metric
	add := func(desc *prometheus.Desc, kind string) {
		m := r.texts[desc]
		m.Kind = kind
		all = append(all, m)
	}
	for _, m := range r.singles {
		add(m.desc, map[prometheus.ValueType]string{prometheus.CounterValue: "counter", prometheus.GaugeValue: "gauge"}[m.kind])
	}
	for _, m := range r.families {
		add(m.desc, "counter")
	}
	for _, m := range r.latency {
		add(m.desc, "histogram")
	}
	add(r.level, "gauge")
	add(r.info, "gauge")
	if a.cfg.Readings == nil {
		return all
	}
	for _, m := range a.cfg.Readings() {
		kind := "gauge"
		if m.Counter {
			kind = "counter"
		}
		all = append(all, Metric{Name: m.Name, Help: m.Help, Label: m.Label, Kind: kind})
	}
	return all
}

func newRegistry(cfg Config) (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	all := []prometheus.Collector{
		newRelayCollector(cfg.Relay.Stats, cfg.Version),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	if cfg.Readings != nil {
		all = append(all, readings{cfg.Readings})
	}
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("api: register metrics: %w", err)
		}
	}
	return registry, nil
}

func newRelayCollector(stats func() relay.Stats, version string) *relayCollector {
	texts := map[*prometheus.Desc]Metric{}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("agentnet_"+name, help, labels, nil)
		m := Metric{Name: "agentnet_" + name, Help: help}
		if len(labels) == 1 {
			m.Label = labels[0]
		}
		texts[d] = m
		return d
	}
	gauge := func(name, help string, read func(*relay.Stats) float64) single {
		return single{desc(name, help), prometheus.GaugeValue, read}
	}
	counter := func(name, help string, read func(*relay.Stats) uint64) single {
		return single{desc(name, help), prometheus.CounterValue, func(s *relay.Stats) float64 { return float64(read(s)) }}
	}
	by := func(name, label, help string, read func(*relay.Stats) map[string]uint64) family {
		return family{desc(name, help, label), read}
	}
	return &relayCollector{
		stats: stats, version: version, texts: texts,
		level: desc("overload_level", "The overload level that the node is in: 1 for it, 0 for the others.", "level"),
		info:  desc("node_info", "What runs here; always 1.", "node", "region", "version"),
		singles: []single{
			gauge("start_time_seconds", "When the node started, in seconds since 1970.", func(s *relay.Stats) float64 { return float64(s.Started.UnixMilli()) / 1000 }),
			gauge("connections", "Open sockets, with those not yet authenticated.", func(s *relay.Stats) float64 { return float64(s.Connections) }),
			gauge("sessions", "Sessions, with those whose socket is gone and that can resume.", func(s *relay.Stats) float64 { return float64(s.Sessions) }),
			gauge("sessions_resumable", "Sessions whose socket is gone and that can resume.", func(s *relay.Stats) float64 { return float64(s.Resumable) }),
			gauge("agents", "Agents with at least one session.", func(s *relay.Stats) float64 { return float64(s.Agents) }),
			gauge("channels", "Channels in memory.", func(s *relay.Stats) float64 { return float64(s.Channels) }),
			gauge("subscriptions", "Subscriptions of all sessions.", func(s *relay.Stats) float64 { return float64(s.Subscriptions) }),
			gauge("requests_waiting", "Requests that wait for a reply.", func(s *relay.Stats) float64 { return float64(s.Requests) }),
			gauge("queue_frames", "Frames that wait in the queues of all sessions.", func(s *relay.Stats) float64 { return float64(s.QueueFrames) }),
			gauge("queue_bytes", "Bytes that wait in the queues of all sessions.", func(s *relay.Stats) float64 { return float64(s.QueueBytes) }),
			gauge("mailbox_messages", "Messages that wait for absent agents.", func(s *relay.Stats) float64 { return float64(s.MailboxCount) }),
			gauge("mailbox_bytes", "Bytes that wait for absent agents.", func(s *relay.Stats) float64 { return float64(s.MailboxBytes) }),
			gauge("sessions_moving", "Sessions that are being handed over to another node.", func(s *relay.Stats) float64 { return float64(s.Moving) }),
			gauge("draining", "1 while the node sends its clients away.", func(s *relay.Stats) float64 { return flag(s.Draining) }),
			counter("connections_accepted_total", "Connections that were upgraded.", func(s *relay.Stats) uint64 { return s.Accepted }),
			counter("received_bytes_total", "Bytes of WebSocket messages from clients.", func(s *relay.Stats) uint64 { return s.BytesIn }),
			counter("sent_frames_total", "Frames to clients.", func(s *relay.Stats) uint64 { return s.FramesOut }),
			counter("sent_bytes_total", "Bytes of WebSocket messages to clients.", func(s *relay.Stats) uint64 { return s.BytesOut }),
			counter("messages_accepted_total", "Accepted send, request, reply and publish.", func(s *relay.Stats) uint64 { return s.MessagesIn }),
			counter("messages_delivered_total", "Messages, requests and replies handed to sessions.", func(s *relay.Stats) uint64 { return s.DeliveredOut }),
			counter("gaps_total", "Times that a client was told of a loss.", func(s *relay.Stats) uint64 { return s.Gaps }),
			counter("node_parcels_total", "Parcels from other nodes.", func(s *relay.Stats) uint64 { return s.Parcels }),
			counter("node_parcels_unknown_total", "Parcels from other nodes that were not understood.", func(s *relay.Stats) uint64 { return s.ParcelsOdd }),
			counter("node_parcels_lost_total", "Parcels from other nodes that were lost on the way.", func(s *relay.Stats) uint64 { return s.ParcelsLost }),
		},
		families: []family{
			by("connections_refused_total", "reason", "Connections refused before the upgrade.", func(s *relay.Stats) map[string]uint64 { return words(s.Refused) }),
			by("connects_total", "result", "Connect frames: opened, resumed or the code of the error.", func(s *relay.Stats) map[string]uint64 { return words(s.Connects) }),
			by("connections_closed_total", "code", "Connections that ended, by WebSocket close code.", func(s *relay.Stats) map[string]uint64 { return closeLabels(s.Closed) }),
			by("received_frames_total", "kind", "Frames from clients.", func(s *relay.Stats) map[string]uint64 { return kindWords(s.FramesIn) }),
			by("sends_total", "outcome", "Sent messages by what became of them.", func(s *relay.Stats) map[string]uint64 { return words(s.Outcomes) }),
			by("errors_total", "code", "Commands that were refused.", func(s *relay.Stats) map[string]uint64 { return words(s.Errors) }),
			by("messages_dropped_total", "reason", "Messages that were dropped.", func(s *relay.Stats) map[string]uint64 { return words(s.Dropped) }),
		},
		// 32 µs to 16.8 s, and 256 µs to 537 s.
		latency: []latencies{
			{desc("delivery_duration_seconds", "From the arrival of a message to its writing to a local receiver."),
				func(s *relay.Stats) relay.Histogram { return s.Delivery }, 5 * classicStep, 24 * classicStep},
			{desc("reply_duration_seconds", "From a request to its first reply."),
				func(s *relay.Stats) relay.Histogram { return s.Reply }, 8 * classicStep, 29 * classicStep},
		},
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// closeLabels bounds the label: a client may close with any number, so that what
// is not a code of ours counts as other.
func closeLabels(counts map[wire.CloseCode]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for code, n := range counts {
		label := strconv.Itoa(int(code))
		if code < 1000 || code > 1015 && (code < wire.CloseAuthFailed || code > wire.CloseHeartbeatMissed) {
			label = "other"
		}
		out[label] += n
	}
	return out
}

// Describe is part of prometheus.Collector.
func (r *relayCollector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range r.singles {
		out <- m.desc
	}
	for _, m := range r.families {
		out <- m.desc
	}
	for _, m := range r.latency {
		out <- m.desc
	}
	out <- r.level
	out <- r.info
}

// Collect is part of prometheus.Collector. It reads the relay once.
func (r *relayCollector) Collect(out chan<- prometheus.Metric) {
	stats := r.stats()
	for _, m := range r.singles {
		out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(&stats))
	}
	for _, m := range r.families {
		for label, n := range m.read(&stats) {
			out <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(n), label)
		}
	}
	for _, m := range r.latency {
		out <- &latencyMetric{desc: m.desc, read: m.read(&stats), first: m.first, last: m.last, created: stats.Started}
	}
	for _, level := range overloadLevels {
		out <- prometheus.MustNewConstMetric(r.level, prometheus.GaugeValue, flag(level == stats.Level), level)
	}
	out <- prometheus.MustNewConstMetric(r.info, prometheus.GaugeValue, 1, stats.Node, stats.Region, r.version)
}

// metrics answers a scrape in the format that Accept asks for.
func (a *API) metrics(c *fiber.Ctx, _ *relay.Identity) error {
	gathered, err := a.registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	format := expfmt.NegotiateAccept(http.Header{"Accept": {c.Get(fiber.HeaderAccept)}}, expfmt.DefaultOpenMetricsAcceptedFormats()...)
	var body bytes.Buffer
	encoder := expfmt.NewEncoder(&body, format)
	for _, family := range gathered {
		if err := encoder.Encode(family); err != nil {
			return fmt.Errorf("encode metric %s: %w", family.GetName(), err)
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		if err := closer.Close(); err != nil {
			return fmt.Errorf("encode metrics: %w", err)
		}
	}
	c.Set(fiber.HeaderContentType, string(format))
	return c.Send(body.Bytes())
}

// isMetricsToken compares the token in time that does not tell how much of it was
// right.
func (a *API) isMetricsToken(c *fiber.Ctx) bool {
	if a.cfg.MetricsToken == "" {
		return false
	}
	token, refused := bearer(c)
	if refused != nil {
		return false
	}
	got, want := sha256.Sum256(token), sha256.Sum256([]byte(a.cfg.MetricsToken))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
