package app

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"agentnet/app/cluster"
	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/store"
	"agentnet/web/api"
)

// openScaling makes the scaling engine of this node. It runs in Run.
func (a *App) openScaling(ctx context.Context) (err error) {
	engine, err := a.cfg.engine()
	if err != nil {
		return fmt.Errorf("scaling: %w", err)
	}
	cfg := watch.Config{
		Node: a.cfg.Node, Region: a.cfg.Region, Version: a.version, Engine: engine, Store: scaleStore{a.store}, Logger: a.log,
		Prices: a.cfg.Scaling.prices(), HistoryBytes: int64(a.cfg.Scaling.HistoryBytes),
		Notifier: a.Notifier(), Actuator: a.Actuator(),
		Busy: func() bool { return a.acting.gate.Busy(WorkRollup) }, Deferrals: a.acting.gate.Deferrals,
		Sources: watch.Sources{Stats: a.hub.Stats, API: a.apiLatency, Host: scale.NewHost("/", runtime.NumCPU()), Broker: a.brokerHealth, Ready: a.isReady},
	}
	if a.node != nil {
		cfg.Others = scalingFleet{a.node}
	}
	if a.scaling, err = watch.New(ctx, cfg); err != nil {
		return fmt.Errorf("scaling: %w", err)
	}
	if a.node != nil {
		a.node.Handle(cluster.TopicSample, a.scaling.Receive)
		a.node.OnMember(func(m cluster.Member, e cluster.Event) {
			if e == cluster.EventLeft {
				a.scaling.Left(m.Name)
			}
		})
	}
	return nil
}

// modeOff is the mode of a node whose engine does not run: it has no samples,
// alerts or decisions, and says so.
const modeOff = "off"

// runScaling measures and decides until ctx ends.
func (a *App) runScaling(ctx context.Context) error {
	if a.cfg.Scaling.Mode == modeOff {
		a.log.Warn("scaling.mode is off: no samples, no alerts, no advice")
		<-ctx.Done()
		return nil
	}
	return a.scaling.Run(ctx)
}

// scalingFleet is the other nodes, as the engine sees them.
type scalingFleet struct{ n *cluster.Node }

func (f scalingFleet) Share(parcel []byte) { f.n.Broadcast(cluster.TopicSample, parcel) }

func (f scalingFleet) Tell(node string, parcel []byte) bool {
	return f.n.Post(cluster.TopicSample, node, parcel)
}

func (f scalingFleet) Leader() (node string, fence uint64, mine bool) {
	l := f.n.Leader()
	if time.Now().After(l.Until) {
		return "", l.Fence, false
	}
	return l.Holder, l.Fence, l.Mine
}

func (f scalingFleet) Cut() bool { return f.n.Stats().Cut }

// apiLatency reads the API's response times; the doors open after the engine.
func (a *App) apiLatency() relay.Histogram {
	if a.web == nil {
		return relay.Histogram{}
	}
	return a.web.Latency()
}

func (a *App) isReady() bool {
	return !slices.ContainsFunc(a.hub.Ready(), func(r relay.Reason) bool { return !r.OK })
}

// brokerHealth says whether a Redis that others share answers.
func (a *App) brokerHealth() watch.Broker {
	if a.node == nil {
		return watch.Broker{}
	}
	return watch.Broker{Shared: true, Up: a.node.Stats().Breaker == "closed"}
}

// scaleStore gives the engine the database.
type scaleStore struct{ *store.Store }

// Setting answers with an empty value where there is none.
func (s scaleStore) Setting(ctx context.Context, name string) (string, error) {
	value, _, err := s.Store.Setting(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	return value, err
}

// ScaleLogEntry says in the engine's words that there is no such entry.
func (s scaleStore) ScaleLogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, error) {
	e, err := s.Store.ScaleLogEntry(ctx, origin, seq)
	if errors.Is(err, store.ErrNotFound) {
		return e, &watch.Fault{Kind: watch.FaultNotFound, Text: fmt.Sprintf("there is no entry %d of %.100q", seq, origin)}
	}
	return e, err
}

// PutSetting stores a value with the time of now.
func (s scaleStore) PutSetting(ctx context.Context, name, value string) error {
	return s.Store.PutSetting(ctx, name, value, time.Now())
}

// engine is what the configuration says of scaling and alerts.
func (c *Config) engine() (scale.Config, error) {
	s := &c.Scaling
	capacity := scale.Capacity{Connections: s.InstanceConnections, Messages: s.InstanceMessages, ScaleAt: s.ScaleAt}
	if capacity != (scale.Capacity{}) {
		capacity.Source = "configuration"
	}
	policy := scale.DefaultPolicy(capacity)
	if !c.hasFleet() {
		policy = scale.LonePolicy(capacity)
	}
	if s.Min > 0 {
		policy.Min = s.Min
	}
	if s.Max > 0 {
		policy.Max = s.Max
	}
	mode := s.Mode
	if mode == modeOff {
		mode = scale.Observe.String()
	}
	if err := policy.Mode.UnmarshalText([]byte(mode)); err != nil {
		return scale.Config{}, fmt.Errorf("scaling.mode: %w", err)
	}
	policy.Down.Window = time.Duration(s.DownAfter)
	for i := range policy.Down.Rates { // half the fleet within one window, as in the default policy
		policy.Down.Rates[i].Period = max(time.Second, policy.Down.Window)
	}
	policy.Provision = time.Duration(s.Provision)
	rules, err := c.Alerts.rules()
	if err != nil {
		return scale.Config{}, err
	}
	if err := errors.Join(policy.Validate(), scale.ValidateRules(rules)); err != nil {
		return scale.Config{}, err
	}
	return scale.Config{Policy: policy, Rules: rules, Capacity: capacity}, nil
}

func (s *Scaling) prices() scale.Prices {
	p := scale.Prices{Currency: s.Currency, Instance: map[string]float64{}, RedisNode: map[string]float64{}, Balancer: map[scale.BalancerTier]float64{}}
	for _, size := range scale.Sizes() {
		p.Instance[size.Name], p.RedisNode[size.Name], p.Balancer[size.Balancer] = s.InstancePrice, s.RedisPrice, s.BalancerPrice
	}
	return p
}

// scalingReadings are the metrics of the engine.
func (a *App) scalingReadings() []api.Reading {
	st := a.scaling.Status()
	states := map[string]float64{"firing": float64(st.Alerts.Firing), "critical": float64(st.Alerts.Critical), "pending": float64(st.Alerts.Pending), "silenced": float64(st.Alerts.Silenced)}
	wants := make(map[string]float64, len(st.Decision.Wants))
	for _, w := range st.Decision.Wants {
		wants[w.Signal.String()] = float64(w.Count)
	}
	leads := 0.0
	if st.Leads {
		leads = 1
	}
	return []api.Reading{
		gauge("agentnet_scaling_instances", "Nodes that are capacity or will be.", float64(st.Current)),
		gauge("agentnet_scaling_desired_instances", "Instances that the policy wants.", float64(st.Desired)),
		{Name: "agentnet_scaling_wanted_instances", Help: "Instances that each signal asks for.", Label: "signal", Values: wants},
		gauge("agentnet_scaling_leader", "1 while this node decides.", leads),
		{Name: "agentnet_alerts", Help: "Alerts by state; critical are those of the firing that are.", Label: "state", Values: states},
		counter("agentnet_scaling_lost_rows_total", "Rows of samples that could not be stored.", st.Work.LostRows),
		counter("agentnet_scaling_lost_entries_total", "Entries of the scaling log that could not be written.", st.Work.LostEntries),
	}
}
