package app

import (
	"context"
	"fmt"

	"agentnet/app/cluster"
	"agentnet/app/replica"
)

// openReplication keeps the logs that must be the same on all nodes equal. A lone
// node has nobody to be equal with.
func (a *App) openReplication(context.Context) (err error) {
	if a.node == nil {
		return nil
	}
	a.replicator, err = replica.New(replica.Config{Bus: controlBus{a.node}, Streams: a.streams(), Logger: a.log})
	if err != nil {
		return fmt.Errorf("replication: %w", err)
	}
	a.node.Handle(cluster.TopicControl, a.replicator.Receive)
	return nil
}

// streams are the logs that all nodes hold.
func (a *App) streams() []replica.Stream {
	return []replica.Stream{
		{Name: "control", Ledger: a.store.Changes()},
		{Name: "scaling", Ledger: a.store.ScaleLedger(a.cfg.Node)},
		{Name: "audit", Ledger: a.store.AuditLedger(a.cfg.Node)},
	}
}

// runReplication replicates until ctx ends.
func (a *App) runReplication(ctx context.Context) error {
	if a.replicator == nil {
		return nil
	}
	return a.replicator.Run(ctx)
}

// storeChanged is called when this process or another has written to the database.
func (a *App) storeChanged() {
	a.auth.Changed()
	a.desk.Changed()
	if a.replicator != nil {
		a.replicator.Changed()
	}
}

// controlBus is the cluster as replication sees it.
type controlBus struct{ node *cluster.Node }

func (b controlBus) Post(node string, parcel []byte) bool {
	return b.node.Post(cluster.TopicControl, node, parcel)
}

func (b controlBus) Broadcast(parcel []byte) int {
	return b.node.Broadcast(cluster.TopicControl, parcel)
}

func (b controlBus) Peers() []string {
	var names []string
	for _, m := range b.node.Members() {
		if !m.Self && m.Routed {
			names = append(names, m.Name)
		}
	}
	return names
}
