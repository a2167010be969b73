package app

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// collector adds what the doors and the stores know to the metrics of the relay.
func (a *App) collector() prometheus.Collector { return &doorCollector{a: a, desc: doorDescs()} }

type doorCollector struct {
	a    *App
	desc map[string]*prometheus.Desc
}

func doorDescs() map[string]*prometheus.Desc {
	d := make(map[string]*prometheus.Desc)
	for _, m := range [][3]string{
		{"agentnet_websocket_read_bytes_total", "Bytes read from WebSockets, with frame headers.", ""},
		{"agentnet_websocket_written_bytes_total", "Bytes written to WebSockets, with frame headers.", ""},
		{"agentnet_websocket_writes_total", "System calls that wrote to WebSockets.", ""},
		{"agentnet_websocket_partial_writes_total", "Writes of which the socket did not take all.", ""},
		{"agentnet_websocket_closed_total", "WebSockets that ended, by close code.", "code"},
		{"agentnet_websocket_faults_total", "WebSockets ended for what the peer did, by kind.", "kind"},
		{"agentnet_embedded_keys", "Keys in the embedded Redis.", ""},
		{"agentnet_embedded_bytes", "Estimated memory of the embedded Redis.", ""},
		{"agentnet_embedded_snapshot_failures_total", "Snapshots that could not be written.", ""},
		{"agentnet_database_bytes", "Size of the database file.", ""},
		{"agentnet_database_wal_bytes", "Size of the database's write-ahead log.", ""},
	} {
		var labels []string
		if m[2] != "" {
			labels = []string{m[2]}
		}
		d[m[0]] = prometheus.NewDesc(m[0], m[1], labels, nil)
	}
	return d
}

// Describe implements prometheus.Collector.
func (c *doorCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.desc {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *doorCollector) Collect(out chan<- prometheus.Metric) {
	counter := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(c.desc[name], prometheus.CounterValue, v, labels...)
	}
	gauge := func(name string, v float64) {
		out <- prometheus.MustNewConstMetric(c.desc[name], prometheus.GaugeValue, v)
	}
	s := c.a.sockets.Stats()
	counter("agentnet_websocket_read_bytes_total", float64(s.BytesIn))
	counter("agentnet_websocket_written_bytes_total", float64(s.BytesOut))
	counter("agentnet_websocket_writes_total", float64(s.Writes))
	counter("agentnet_websocket_partial_writes_total", float64(s.Rests))
	for code, n := range s.Closed {
		counter("agentnet_websocket_closed_total", float64(n), strconv.Itoa(int(code)))
	}
	for kind, n := range s.Faults {
		counter("agentnet_websocket_faults_total", float64(n), kind)
	}
	if c.a.embedded != nil {
		e := c.a.embedded.Stats()
		gauge("agentnet_embedded_keys", float64(e.Keys))
		gauge("agentnet_embedded_bytes", float64(e.Bytes))
		counter("agentnet_embedded_snapshot_failures_total", float64(e.Failed))
	}
	db, wal := c.a.store.Size()
	gauge("agentnet_database_bytes", float64(db))
	gauge("agentnet_database_wal_bytes", float64(wal))
}
