package app

import (
	"maps"
	"slices"

	"agentnet/app/cluster"
	"agentnet/app/relay"
	"agentnet/web/api"
)

// A relayOfFleet is the relay and whether the other nodes know it.
type relayOfFleet struct {
	*relay.Hub
	node *cluster.Node
}

// Ready adds the cluster to the relay's reasons.
func (r relayOfFleet) Ready() []relay.Reason {
	ok, why := r.node.Ready()
	message := "all other nodes route to this one"
	if !ok {
		message = why
	}
	return append(r.Hub.Ready(), relay.Reason{Check: "cluster", OK: ok, Message: message})
}

// relayed is what the doors see of the relay.
func (a *App) relayed() api.Relay {
	if a.node == nil {
		return a.hub
	}
	return relayOfFleet{a.hub, a.node}
}

// fleetView is what /v1/nodes and /v1/regions show; nil for a lone node.
func (a *App) fleetView() func() api.Fleet {
	if a.node == nil {
		return nil
	}
	return func() api.Fleet {
		s := a.node.Stats()
		view := api.Fleet{Cut: s.Cut, Leader: s.Leader.Holder, Fence: s.Leader.Fence}
		regions := map[string]*api.Region{}
		for _, l := range s.Links {
			regions[l.Region] = &api.Region{Region: l.Region, Self: l.Own, Endpoints: a.node.Least(l.Region, 2)}
		}
		for _, m := range a.node.Members() {
			view.Nodes = append(view.Nodes, viewed(m, s.Drift[m.Name]))
			r := regions[m.Region]
			if r == nil {
				r = &api.Region{Region: m.Region, Endpoints: a.node.Least(m.Region, 2)}
				regions[m.Region] = r
			}
			r.Nodes++
			r.Connections += m.Load.Connections
			r.MessagesPerS += m.Load.MessagesPerS
			r.Healthy = r.Healthy || m.State == cluster.Ready && !m.Self // of itself the API knows more
		}
		if own := regions[a.cfg.Region]; own != nil && len(own.Endpoints) < 2 {
			if addr := a.cfg.nodeURL(a.Addr()); addr != "" {
				own.Endpoints = append(own.Endpoints, addr)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(regions)) {
			view.Regions = append(view.Regions, *regions[name])
		}
		return view
	}
}

func viewed(m cluster.Member, drift []string) api.Node {
	return api.Node{Node: m.Name, Region: m.Region, State: m.State.String(), Self: m.Self, Leader: m.Leader, Routed: m.Routed, URL: m.Addr, Version: m.Version,
		Fingerprint: m.Fingerprint, Drift: drift, StartedMS: m.Started.UnixMilli(), SeenMS: m.Seen.UnixMilli(), RTTMS: float64(m.RTT.Microseconds()) / 1000,
		Connections: m.Load.Connections, Capacity: m.Load.Capacity, CPU: m.Load.CPU, Memory: m.Load.Memory, MessagesPerS: m.Load.MessagesPerS}
}

// fleetReadings are the metrics of the cluster; none for a lone node.
func (a *App) fleetReadings() []api.Reading {
	if a.node == nil {
		return nil
	}
	s := a.node.Stats()
	by := func(counts map[cluster.Reason]uint64) map[string]float64 {
		out := make(map[string]float64, len(counts))
		for k, n := range counts {
			out[string(k)] = float64(n)
		}
		return out
	}
	states := map[string]float64{"joining": 0, "ready": 0, "draining": 0}
	drifted := 0
	for _, m := range a.node.Members() {
		states[m.State.String()]++
	}
	for range s.Drift {
		drifted++
	}
	open, took, opened := map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, l := range s.Links { // as many as regions are configured
		open[l.Region], took[l.Region], opened[l.Region] = flag(l.Breaker != "closed" || !l.Connected), l.Took.Seconds(), float64(l.Opened)
	}
	out := []api.Reading{
		{Name: "agentnet_cluster_nodes", Help: "Nodes that this one knows, itself included, by state.", Label: "state", Values: states},
		gauge("agentnet_cluster_cut", "1 while the other nodes of the region cannot be reached.", flag(s.Cut)),
		gauge("agentnet_cluster_leader", "1 while this node leads its region.", flag(s.Leader.Mine)),
		gauge("agentnet_cluster_drifted_nodes", "Nodes that are configured differently from this one.", float64(drifted)),
		{Name: "agentnet_cluster_link_open", Help: "1 while the Redis of a region is not asked, because it fails.", Label: "region", Values: open},
		{Name: "agentnet_cluster_link_opened_total", Help: "Times that this began.", Counter: true, Label: "region", Values: opened},
		{Name: "agentnet_cluster_link_seconds", Help: "How long the last command to a region's Redis took.", Label: "region", Values: took},
		counter("agentnet_cluster_parcels_posted_total", "Parcels queued for other nodes.", s.Posted),
		{Name: "agentnet_cluster_parcels_refused_total", Help: "Parcels for other nodes that did not go, by reason.", Counter: true, Label: "reason", Values: by(s.Refused)},
		counter("agentnet_cluster_batches_sent_total", "Batches published for other nodes.", s.BatchesOut),
		counter("agentnet_cluster_sent_bytes_total", "Their bytes.", s.BytesOut),
		counter("agentnet_cluster_batches_received_total", "Batches of other nodes.", s.BatchesIn),
		counter("agentnet_cluster_received_bytes_total", "Their bytes.", s.BytesIn),
		counter("agentnet_cluster_records_received_total", "Records in them.", s.RecordsIn),
		{Name: "agentnet_cluster_records_dropped_total", Help: "Records of other nodes that were not handled, by reason.", Counter: true, Label: "reason", Values: by(s.Dropped)},
		counter("agentnet_cluster_records_lost_total", "Records of other nodes that never came.", s.Lost),
		counter("agentnet_cluster_records_repeated_total", "Records of other nodes that came twice and were skipped.", s.Repeated),
		counter("agentnet_cluster_retries_total", "Batches that were published again.", s.Retries),
		counter("agentnet_cluster_resubscribed_total", "Times that the subscription was made again.", s.Resubscribed),
		gauge("agentnet_cluster_waiting_records", "Records that wait for other nodes.", float64(s.Waiting)),
		gauge("agentnet_cluster_waiting_bytes", "Their bytes.", float64(s.WaitingBytes)),
		gauge("agentnet_cluster_remote_agents", "Agents of other nodes in the routing table.", float64(s.Agents)),
		gauge("agentnet_cluster_remote_channels", "Channels with subscribers on other nodes.", float64(s.Channels)),
		gauge("agentnet_cluster_homes", "Channels whose home is known.", float64(s.Homes)),
	}
	if r := s.Redis; !r.At.IsZero() {
		out = append(out,
			gauge("agentnet_redis_used_memory_bytes", "Memory that Redis uses.", float64(r.UsedMemory)),
			gauge("agentnet_redis_max_memory_bytes", "Memory that Redis may use; 0: no limit.", float64(r.MaxMemory)),
			counter("agentnet_redis_evicted_keys_total", "Keys that Redis evicted.", uint64(max(r.Evicted, 0))),
			counter("agentnet_redis_rejected_connections_total", "Connections that Redis refused.", uint64(max(r.Rejected, 0))),
			gauge("agentnet_redis_commands_per_second", "Commands that Redis does, by its own count.", r.OpsPerS),
			gauge("agentnet_redis_clients", "Clients of Redis.", float64(r.Clients)),
			gauge("agentnet_redis_latency_seconds", "How long the last INFO took.", r.Took.Seconds()))
	}
	return out
}

func flag(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
