package scale

import (
	"fmt"
	"math"
	"time"
)

// A NodeModel is how the simulator takes a node to behave. It is a model, and
// the report says so: measured capacity makes it that of a real machine.
//
//   - Processor: idle use, and the rest in proportion to messages, so that the
//     capacity in messages is reached at 90%; each accepted connection costs too.
//   - Memory: a base, and the rest in proportion to connections, so that the
//     capacity in connections is reached at 90%.
//   - Latency: each node is one queue (M/M/1). A message takes the service time
//     divided by the idle share on average, exponentially spread. Above 100% the
//     excess waits in a backlog, whose length in time adds to the latency; what
//     would wait longer than MaxBacklog fails and counts as an error.
//   - Clients: live for Life on average and then come again; those that are cut
//     return over Return; a node accepts AcceptRate a second and no more than its
//     capacity in connections.
type NodeModel struct {
	Boot       time.Duration `json:"boot"`        // from the order to readiness, ±20%
	Drain      time.Duration `json:"drain"`       // over which clients are sent away
	Life       time.Duration `json:"life"`        // mean life of a connection
	Return     time.Duration `json:"return"`      // mean time until a cut client is back
	Service    time.Duration `json:"service"`     // mean delivery time on an idle node
	MaxBacklog time.Duration `json:"max_backlog"` // beyond it messages fail
	AcceptRate float64       `json:"accept_rate"` // connections a second and node
	Memory     float64       `json:"memory"`      // bytes
	// NoHealing says that the platform does not replace nodes that died.
	NoHealing bool `json:"no_healing,omitempty"`
}

// Shares of the model.
const (
	modelIdleCPU    = 0.02
	modelIdleMemory = 0.10
	modelFull       = 0.90 // use at capacity
	modelAcceptCPU  = 0.30 // use by accepting at the full rate
	modelFanOut     = 1.0  // deliveries for each message
	modelFrame      = 1024 // bytes of a message that waits
	modelHealing    = 10 * time.Second
)

func (m NodeModel) withDefaults(s Size) NodeModel {
	if m.Boot == 0 {
		m.Boot = 30 * time.Second
	}
	if m.Drain == 0 {
		m.Drain = time.Minute
	}
	if m.Life == 0 {
		m.Life = 30 * time.Minute
	}
	if m.Return == 0 {
		m.Return = 10 * time.Second
	}
	if m.Service == 0 {
		m.Service = 2 * time.Millisecond
	}
	if m.MaxBacklog == 0 {
		m.MaxBacklog = 5 * time.Second
	}
	if m.AcceptRate == 0 {
		m.AcceptRate = 200
	}
	if m.Memory == 0 {
		m.Memory = s.Memory
	}
	return m
}

// validate reports what a model cannot be.
func (m *NodeModel) validate() error {
	for name, d := range map[string]time.Duration{"boot": m.Boot, "drain": m.Drain, "life": m.Life, "return": m.Return, "service": m.Service, "max_backlog": m.MaxBacklog} {
		if d < 0 || d > dayLength {
			return fmt.Errorf("model: %s: %v is not between 0 and a day", name, d)
		}
	}
	if !(m.AcceptRate > 0) || !(m.Memory > 0) || !finite(m.AcceptRate) || !finite(m.Memory) {
		return fmt.Errorf("model: accept_rate %v and memory %v must be positive", m.AcceptRate, m.Memory)
	}
	return nil
}

// A simNode is one node of the simulator.
type simNode struct {
	name    string
	region  string
	started time.Time
	ready   time.Time // when it will be, or became, ready
	until   time.Time // end of its draining; zero: it does not drain
	dead    time.Time // zero: it lives

	connections float64
	backlog     float64 // messages that wait
	accepted    float64 // of this step
	returned    float64 // of those accepted, clients that return
	refused     float64 // of this step
	sample      Sample  // the last one; a dead node keeps it
}

func (n *simNode) serves(now time.Time) bool {
	return n.dead.IsZero() && n.until.IsZero() && !now.Before(n.ready)
}

// carry computes one step of a node at a message rate for each connection, and
// makes its sample.
func (n *simNode) carry(now time.Time, dt float64, m *NodeModel, c Capacity, rate float64) {
	in := n.connections * rate
	full := c.Messages / (modelFull - modelIdleCPU) * (1 - modelIdleCPU) // messages at 100%
	accept := modelAcceptCPU * n.accepted / dt / m.AcceptRate
	room := max(1, full*(1-accept)) // what is left of the processors for messages
	done := min(n.backlog+in*dt, room*dt)
	n.backlog += in*dt - done
	failed := max(0, n.backlog-room*m.MaxBacklog.Seconds())
	n.backlog -= failed
	busy := min(1, modelIdleCPU+(1-modelIdleCPU)*(done/dt)/full+accept)

	s := Sample{Node: n.name, Region: n.region, At: now, Started: n.started, Draining: !n.until.IsZero()}
	if !now.Before(n.ready) {
		s.Ready = n.ready
	}
	v := &s.Values
	v.Set(Connections, n.connections)
	v.Set(CPU, busy)
	memory := min(1, modelIdleMemory+(modelFull-modelIdleMemory)*n.connections/c.Connections+n.backlog*modelFrame/m.Memory)
	v.Set(Memory, memory)
	v.Set(MemoryBytes, memory*m.Memory)
	v.Set(MemoryLimit, m.Memory)
	v.Set(MessagesIn, in)
	v.Set(MessagesOut, done/dt*modelFanOut)
	v.Set(QueueBytes, n.backlog*modelFrame)
	v.Set(AcceptRate, n.accepted/dt)
	v.Set(RefusedRate, n.refused/dt)
	if n.accepted > 0 {
		v.Set(Reconnects, n.returned/n.accepted)
	} else {
		v.SetIdle(Reconnects)
	}
	if all := in*dt + n.accepted + n.refused; all > 0 {
		v.Set(ErrorRate, (failed+n.refused)/all)
	} else {
		v.SetIdle(ErrorRate)
	}
	v.Set(Broker, 1)
	observeLatency(&s.Delivery, done, busy, n.backlog/room, m.Service)
	s.Seal()
	n.sample = s
}

// latencyQuantiles cut the exponential distribution of an M/M/1 queue into parts:
// the quantile that stands for each, and the share of messages in it. No part
// ends at a quantile that is asked for. The ends come first, so that a histogram
// takes its full range at once.
var latencyQuantiles = [...]struct{ q, share float64 }{{0.20, 0.40}, {0.997, 0.005}, {0.50, 0.20}, {0.75, 0.25}, {0.90, 0.08}, {0.95, 0.04}, {0.99, 0.025}}

func observeLatency(h *Histogram, messages, busy, wait float64, service time.Duration) {
	count := math.Round(messages * 100) // fractions of a message count too
	if count < 1 {
		return
	}
	mean := service.Seconds() / max(0.01, 1-busy)
	for _, part := range latencyQuantiles {
		d := wait - mean*math.Log(1-part.q)
		h.Observe(time.Duration(d*float64(time.Second)), uint64(math.Ceil(count*part.share)))
	}
}
