package monitor

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A panel is one chart; its expressions go with their legends.
type panel struct {
	title, help, unit string
	series            [][2]string // expression, legend
	stat              bool        // one number instead of a chart
}

// only is the choice of nodes in every expression.
const only = `{job=~"$job",instance=~"$instance"}`

func with(label string) string {
	return `{job=~"$job",instance=~"$instance",` + label + `}`
}

// A section is one row of the dashboard: panels made by hand, and plain ones for all
// other metrics whose name begins so.
type section struct {
	title  string
	prefix []string
	panels []panel
}

func sections() []section {
	quantiles := func(name string) [][2]string {
		var out [][2]string
		for _, q := range []string{"0.5", "0.95", "0.99"} {
			out = append(out, [2]string{"histogram_quantile(" + q + ", sum by (le) (rate(" + name + "_bucket" + only + "[$__rate_interval])))", "p" + strings.TrimPrefix(q, "0.")})
		}
		out[0][1] = "p50"
		return out
	}
	return []section{
		{title: "Overview", panels: []panel{
			{title: "Agents", unit: "short", stat: true, series: [][2]string{{"sum(agentnet_agents" + only + ")", ""}}, help: "Agents with at least one session, on all chosen nodes."},
			{title: "Messages a second", unit: "mps", stat: true, series: [][2]string{{"sum(rate(agentnet_messages_accepted_total" + only + "[$__rate_interval]))", ""}}, help: "Accepted send, request, reply and publish."},
			{title: "Delivery p95", unit: "s", stat: true, series: [][2]string{{"histogram_quantile(0.95, sum by (le) (rate(agentnet_delivery_duration_seconds_bucket" + only + "[$__rate_interval])))", ""}}, help: "From the arrival of a message to its writing to a local receiver."},
			{title: "Dropped a second", unit: "mps", stat: true, series: [][2]string{{"sum(rate(agentnet_messages_dropped_total" + only + "[$__rate_interval])) or vector(0)", ""}}, help: "Messages that were dropped, for whatever counted reason."},
			{title: "Messages", unit: "mps", series: [][2]string{{"sum(rate(agentnet_messages_accepted_total" + only + "[$__rate_interval]))", "accepted"}, {"sum(rate(agentnet_messages_delivered_total" + only + "[$__rate_interval]))", "delivered"}}, help: "Accepted and delivered messages a second; one that is published is delivered many times."},
			{title: "Delivery", unit: "s", series: quantiles("agentnet_delivery_duration_seconds"), help: "From the arrival of a message to its writing to a local receiver."},
			{title: "Load level", unit: "short", series: [][2]string{{"agentnet_overload_level" + with(`level!="normal"`) + " > 0", "{{instance}} {{level}}"}}, help: "Nodes that shed load, and how much."},
			{title: "Connections", unit: "short", series: [][2]string{{"sum by (instance) (agentnet_connections" + only + ")", "{{instance}}"}}, help: "Open sockets of each node."},
		}},
		{title: "Messages", prefix: []string{"agentnet_messages_", "agentnet_sends_", "agentnet_errors_", "agentnet_gaps_", "agentnet_reply_", "agentnet_requests_", "agentnet_received_", "agentnet_sent_", "agentnet_delivery_"}},
		{title: "Connections and sessions", prefix: []string{"agentnet_connect", "agentnet_sessions", "agentnet_agents", "agentnet_websocket_", "agentnet_subscriptions", "agentnet_channels"}},
		{title: "Queues and parked messages", prefix: []string{"agentnet_queue_", "agentnet_mailbox_", "agentnet_journal_"}},
		{title: "Scaling and alerts", prefix: []string{"agentnet_scaling_", "agentnet_alerts", "agentnet_notifications", "agentnet_adaptive", "agentnet_overload"}},
		{title: "Cluster", prefix: []string{"agentnet_cluster_", "agentnet_replica"}},
		{title: "Redis", prefix: []string{"agentnet_redis_", "agentnet_embedded_"}},
		{title: "Storage", prefix: []string{"agentnet_database_"}},
		{title: "Process", prefix: nil, panels: []panel{
			{title: "Processor", unit: "percentunit", series: [][2]string{{"rate(process_cpu_seconds_total" + only + "[$__rate_interval])", "{{instance}}"}}, help: "1 is one processor."},
			{title: "Memory", unit: "bytes", series: [][2]string{{"process_resident_memory_bytes" + only, "{{instance}} resident"}, {"go_memstats_heap_inuse_bytes" + only, "{{instance}} heap"}}, help: "Resident memory and heap."},
			{title: "File descriptors", unit: "percentunit", series: [][2]string{{"process_open_fds" + only + " / process_max_fds" + only, "{{instance}}"}}, help: "Share of those that the process may open."},
			{title: "Goroutines", unit: "short", series: [][2]string{{"go_goroutines" + only, "{{instance}}"}}, help: "Goroutines of each node."},
		}},
		{title: "Everything else", prefix: []string{"agentnet_"}},
	}
}

// plain is the panel of a metric that has none of its own.
func plain(m Metric) panel {
	p := panel{title: title(m.Name), help: m.Help, unit: unit(m)}
	by, legend := "instance", "{{instance}}"
	if m.Label != "" {
		by, legend = by+", "+m.Label, legend+" {{"+m.Label+"}}"
	}
	switch m.Kind {
	case Counter:
		p.series = [][2]string{{"sum by (" + by + ") (rate(" + m.Name + only + "[$__rate_interval]))", legend}}
	case Histogram:
		p.series = [][2]string{
			{"histogram_quantile(0.5, sum by (le) (rate(" + m.Name + "_bucket" + only + "[$__rate_interval])))", "p50"},
			{"histogram_quantile(0.99, sum by (le) (rate(" + m.Name + "_bucket" + only + "[$__rate_interval])))", "p99"}}
	default:
		p.series = [][2]string{{m.Name + only, legend}}
	}
	return p
}

func title(name string) string {
	words := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(name, "agentnet_"), "_total"), "_", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

func unit(m Metric) string {
	name := strings.TrimSuffix(m.Name, "_total")
	switch {
	case strings.HasSuffix(name, "_bytes") && m.Kind == Counter:
		return "Bps"
	case strings.HasSuffix(name, "_bytes"):
		return "bytes"
	case m.Name == "agentnet_start_time_seconds":
		return "dateTimeAsIso"
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_share"), strings.HasSuffix(name, "_ratio"):
		return "percentunit"
	case m.Kind == Counter:
		return "ops"
	}
	return "short"
}

type object = map[string]any

// Dashboard writes the dashboard as JSON, for import or provisioning.
func Dashboard(list List) ([]byte, error) {
	drawn := map[string]bool{"agentnet_node_info": true, "agentnet_start_time_seconds": true}
	var panels []object
	y := 0
	add := func(o object, w, h, x int) {
		o["id"], o["gridPos"] = len(panels)+1, object{"w": w, "h": h, "x": x, "y": y}
		panels = append(panels, o)
	}
	for _, s := range sections() {
		all := s.panels
		for _, p := range s.panels {
			for _, series := range p.series {
				if err := list.check("panel "+p.title, series[0]); err != nil {
					return nil, err
				}
			}
		}
		for _, m := range list {
			if !drawn[m.Name] && begins(m.Name, s.prefix) {
				drawn[m.Name] = true
				all = append(all, plain(m))
			}
		}
		if len(all) == 0 {
			continue
		}
		add(object{"type": "row", "title": s.title, "collapsed": false, "panels": []any{}}, 24, 1, 0)
		y++
		x := 0
		for _, p := range all {
			w, h := 8, 7
			if p.stat {
				w, h = 6, 4
			}
			if x+w > 24 {
				x, y = 0, y+7
			}
			add(draw(p), w, h, x)
			if x += w; x >= 24 {
				x, y = 0, y+h
			}
		}
		if x > 0 {
			y += 7
		}
	}
	return json.MarshalIndent(object{
		"uid": "agentnet", "title": "Agentnet", "tags": []string{"agentnet"}, "schemaVersion": 39, "version": 1, "editable": true, "timezone": "browser",
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "10s", "graphTooltip": 1, "panels": panels,
		"annotations": object{"list": []object{{"name": "Restarts", "enable": true, "iconColor": "orange", "datasource": source,
			"expr": "changes(agentnet_start_time_seconds" + only + "[2m]) > 0", "titleFormat": "{{instance}} was started"}}},
		"templating": object{"list": []object{
			{"name": "DS_PROMETHEUS", "label": "Data source", "type": "datasource", "query": "prometheus"},
			variable("job", "label_values(agentnet_node_info, job)"),
			variable("instance", `label_values(agentnet_node_info{job=~"$job"}, instance)`),
		}},
	}, "", " ")
}

var source = object{"type": "prometheus", "uid": "${DS_PROMETHEUS}"}

func variable(name, query string) object {
	return object{"name": name, "label": title(name), "type": "query", "datasource": source, "query": query, "refresh": 2, "includeAll": true, "multi": true,
		"current": object{"text": "All", "value": "$__all"}}
}

func draw(p panel) object {
	var targets []object
	for i, s := range p.series {
		t := object{"refId": fmt.Sprintf("%c", 'A'+i), "datasource": source, "expr": s[0]}
		if s[1] != "" {
			t["legendFormat"] = s[1]
		}
		targets = append(targets, t)
	}
	kind := "timeseries"
	if p.stat {
		kind = "stat"
	}
	return object{"type": kind, "title": p.title, "description": p.help, "datasource": source, "targets": targets,
		"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0}, "overrides": []any{}}}
}

func begins(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
