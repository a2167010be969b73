package monitor

import (
	"fmt"
	"strings"
)

// A rule is one alert: what is wrong, what it means, what to do.
type rule struct {
	name, expr, hold, severity string
	summary, action            string
}

func rules() []rule {
	return []rule{
		{"AgentnetDown", `up{job="agentnet"} == 0`, "1m", "critical", "{{ $labels.instance }} does not answer.", "Look at the service (systemctl status agentnet) and its log; agents go to the other nodes by themselves."},
		{"AgentnetRestarting", "changes(agentnet_start_time_seconds[30m]) > 2", "0m", "critical", "{{ $labels.instance }} was started more than twice in half an hour.", "Look into its log, and whether the kernel killed it for memory (dmesg)."},
		{"AgentnetOverloaded", `max by (instance, level) (agentnet_overload_level{level=~"degraded|critical"}) == 1`, "1m", "critical", "{{ $labels.instance }} sheds load: {{ $labels.level }}.", "Add a node, or find who sends so much (agentnet top)."},
		{"AgentnetDeliverySlow", "histogram_quantile(0.95, sum by (instance, le) (rate(agentnet_delivery_duration_seconds_bucket[5m]))) > 0.1", "5m", "warning", "Messages take {{ $value | humanizeDuration }} at {{ $labels.instance }} (p95).", "Look at processor and load level; see the capacity page for what is scarce."},
		{"AgentnetDropping", "sum by (instance, reason) (rate(agentnet_messages_dropped_total[5m])) > 1", "5m", "warning", "{{ $labels.instance }} drops {{ $value | humanize }} messages a second: {{ $labels.reason }}.", "queue_full: readers are too slow for what is sent to them; see the agents page for which."},
		{"AgentnetRefusingConnections", "sum by (instance, reason) (rate(agentnet_connections_refused_total[5m])) > 1", "5m", "warning", "{{ $labels.instance }} refuses connections: {{ $labels.reason }}.", "After a restart of a proxy this passes by itself. If it lasts: raise limits.* or add a node."},
		{"AgentnetAuthFailures", `sum by (instance) (rate(agentnet_connects_total{result="unauthorized"}[5m])) > 1`, "10m", "warning", "{{ $value | humanize }} connects a second with a wrong token at {{ $labels.instance }}.", "A token that was revoked or has expired, or somebody who guesses: look at the access page."},
		{"AgentnetFileDescriptors", `process_open_fds{job="agentnet"} / process_max_fds{job="agentnet"} > 0.8`, "5m", "warning", "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its file descriptors.", "Raise LimitNOFILE= of the unit; agentnet doctor says to what."},
		{"AgentnetDatabaseGrows", "predict_linear(agentnet_database_bytes[6h], 14 * 86400) > 4 * 1024 ^ 3 and agentnet_database_bytes > 512 * 1024 ^ 2", "1h", "warning", "The database of {{ $labels.instance }} would have more than 4 GiB in two weeks.", "Keep less, or raise database.max_bytes."},
		{"AgentnetWriteAheadLog", "agentnet_database_wal_bytes > 256 * 1024 ^ 2", "15m", "warning", "The write-ahead log of {{ $labels.instance }} has {{ $value | humanize1024 }}B.", "Something reads the database for very long: look for other programs that have it open."},
		{"AgentnetJournalFull", "agentnet_journal_messages > 90000", "5m", "warning", "{{ $value | humanize }} messages wait for absent agents at {{ $labels.instance }}.", "mailbox.count bounds them; find the agents that are away (agentnet agents)."},
		{"AgentnetSnapshotFails", "increase(agentnet_embedded_snapshot_failures_total[15m]) > 0", "0m", "critical", "{{ $labels.instance }} cannot save the embedded Redis.", "Look at disk space and the mode of the data directory: agentnet doctor."},
		{"AgentnetScalingLogLoses", "increase(agentnet_scaling_lost_entries_total[15m]) > 0", "0m", "critical", "The scaling log of {{ $labels.instance }} lost entries.", "Look at the disk of the data directory: agentnet doctor."},
		{"AgentnetNoLeader", "max(agentnet_cluster_leader) == 0", "1m", "critical", "No node leads: nothing is decided about scaling.", "Look at Redis and at the nodes page."},
		{"AgentnetClusterCut", "agentnet_cluster_cut == 1", "30s", "critical", "{{ $labels.instance }} cannot reach the other nodes.", "Look at Redis and the network between; the node serves its own agents meanwhile."},
		{"AgentnetDrift", "agentnet_cluster_drifted_nodes > 0", "15m", "warning", "{{ $value }} nodes are configured differently from {{ $labels.instance }}.", "The nodes page names the keys; roll one configuration out to all."},
		{"AgentnetRedisMemory", "agentnet_redis_used_memory_bytes / (agentnet_redis_max_memory_bytes > 0) > 0.8", "10m", "warning", "Redis uses {{ $value | humanizePercentage }} of its memory.", "Give it more (CONFIG SET maxmemory), or keep less history."},
		{"AgentnetRedisEvicts", "increase(agentnet_redis_evicted_keys_total[15m]) > 0", "0m", "critical", "Redis throws keys away: history and counters are lost.", "CONFIG SET maxmemory-policy noeviction, and more memory."},
	}
}

// Rules writes the alert rules as YAML, for rule_files of Prometheus.
func Rules(list List) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Made by scripts/generate.sh from the metrics of the code; not to be edited.\n# prometheus.yml: rule_files: [agentnet.rules.yml], and a job named agentnet.\ngroups:\n  - name: agentnet\n    rules:\n")
	for _, r := range rules() {
		if err := list.check("rule "+r.name, r.expr); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "      - alert: %s\n        expr: %s\n        for: %s\n        labels:\n          severity: %s\n        annotations:\n          summary: %s\n          action: %s\n",
			r.name, quoted(r.expr), r.hold, r.severity, quoted(r.summary), quoted(r.action))
	}
	return []byte(b.String()), nil
}

// quoted is text as YAML takes it literally.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// Table writes all metrics as a table in Markdown.
func Table(list List) []byte {
	var b strings.Builder
	b.WriteString("# Metrics\n\nMade by scripts/generate.sh from the code; not to be edited. Those of the process (`process_*`) and of Go (`go_*`) are as everywhere.\n\n| name | kind | label | meaning |\n|---|---|---|---|\n")
	for _, m := range list {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, m.Label, strings.ReplaceAll(m.Help, "|", "\\|"))
	}
	return []byte(b.String())
}
