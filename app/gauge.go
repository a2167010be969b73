package app

import (
	"slices"
	"strconv"

	"agentnet/web/api"
)

// readings are the metrics of the doors and the stores.
func (a *App) readings() []api.Reading {
	s := a.sockets.Stats()
	closed := make(map[string]float64, len(s.Closed))
	for code, n := range s.Closed {
		closed[strconv.Itoa(int(code))] = float64(n)
	}
	faults := make(map[string]float64, len(s.Faults))
	for kind, n := range s.Faults {
		faults[kind] = float64(n)
	}
	db, wal := a.store.Size()
	j := a.journal.Stats()
	out := []api.Reading{
		counter("agentnet_websocket_read_bytes_total", "Bytes read from WebSockets, with frame headers.", s.BytesIn),
		counter("agentnet_websocket_written_bytes_total", "Bytes written to WebSockets, with frame headers.", s.BytesOut),
		counter("agentnet_websocket_writes_total", "Writes to WebSockets.", s.Writes),
		counter("agentnet_websocket_partial_writes_total", "Writes of which the socket did not take all at once.", s.Rests),
		{Name: "agentnet_websocket_closed_total", Help: "WebSockets that ended, by close code; 1006 is none, 0 one that nobody knows.", Counter: true, Label: "code", Values: closed},
		{Name: "agentnet_websocket_faults_total", Help: "WebSockets that were ended for what the peer did, by kind.", Counter: true, Label: "kind", Values: faults},
		gauge("agentnet_database_bytes", "Size of the database.", float64(db)),
		gauge("agentnet_database_wal_bytes", "Size of the database's write-ahead log.", float64(wal)),
		gauge("agentnet_journal_messages", "Parked messages in the journal.", float64(j.Count)),
		gauge("agentnet_journal_bytes", "Their encoded bytes.", float64(j.Bytes)),
	}
	if a.embedded != nil {
		e := a.embedded.Stats()
		out = append(out,
			gauge("agentnet_embedded_keys", "Keys in the embedded Redis.", float64(e.Keys)),
			gauge("agentnet_embedded_bytes", "Estimated memory of the embedded Redis.", float64(e.Bytes)),
			counter("agentnet_embedded_snapshot_failures_total", "Snapshots that could not be written.", e.Failed))
	}
	return slices.Concat(out, a.scalingReadings(), a.fleetReadings(), a.actingReadings(), a.accountReadings())
}

func counter(name, help string, v uint64) api.Reading {
	return api.Reading{Name: name, Help: help, Counter: true, Values: map[string]float64{"": float64(v)}}
}

func gauge(name, help string, v float64) api.Reading {
	return api.Reading{Name: name, Help: help, Values: map[string]float64{"": v}}
}
