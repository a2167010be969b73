package scale

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Use is what a fleet carries now, for the planning triggers.
type Use struct {
	Users       float64 `json:"users"` // monthly active; 0: not known
	Connections float64 `json:"connections"`
	Messages    float64 `json:"messages"` // per second
	Instances   int     `json:"instances"`
}

// A Reached is one planning trigger that was reached.
type Reached struct {
	Trigger  Trigger `json:"trigger"`
	Value    float64 `json:"value"`
	Capacity float64 `json:"capacity"`
	Share    float64 `json:"share"`
	Why      string  `json:"why"`
}

// Reached lists the triggers of the document's table that the use is strictly
// above. The caller writes an entry of KindPlanning for each that is new.
func (p Planner) Reached(u Use) []Reached {
	if u.Instances <= 0 {
		return nil
	}
	carried := p.carries(u.Instances)
	var out []Reached
	for _, t := range Triggers() {
		value, capacity := u.Connections, carried.Connections
		switch t.Name {
		case TriggerUsers:
			value, capacity = u.Users, carried.Users
		case TriggerMessages:
			value, capacity = u.Messages, carried.Messages
		}
		if share := value / capacity; capacity > 0 && share > t.Share+epsilon {
			out = append(out, Reached{Trigger: t, Value: value, Capacity: capacity, Share: share,
				Why: fmt.Sprintf("%s: %s are %s%% of %s, above %.0f%%. %s.", t.Metric, amount(value), trimZero(fmt.Sprintf("%.2f", share*100)), amount(capacity), t.Share*100, t.Action)})
		}
	}
	return out
}

// Entry is the entry of the scaling log for a trigger that was reached. The
// caller writes it when the trigger is new, not at each look.
func (r *Reached) Entry(at time.Time, region string) (Entry, error) {
	return entryOf(KindPlanning, at, region, r.Trigger.Name+": "+r.Why, r)
}

// A Measurement is what the samples of a deployment say of one instance.
type Measurement struct {
	BytesPerConnection float64 `json:"bytes_per_connection"`
	BaseBytes          float64 `json:"base_bytes"`
	CPUPerMessage      float64 `json:"cpu_per_message"` // share of the processors for one message in a second
	BaseCPU            float64 `json:"base_cpu"`
	MemoryLimit        float64 `json:"memory_limit"` // bytes
	MemoryFit          float64 `json:"memory_fit"`   // R², 0 to 1
	CPUFit             float64 `json:"cpu_fit"`
	Points             int     `json:"points"`

	// The highest that was really seen: capacity beyond it is extrapolated.
	SeenConnections float64 `json:"seen_connections"`
	SeenMessages    float64 `json:"seen_messages"`
}

// Bounds of what is believed of samples.
const (
	minMeasurePoints = 60  // fewer say nothing
	minFit           = 0.5 // R² below which a cost is not the cause of the use
	minSpread        = 0.2 // the load must have varied by this share of its highest
)

// ErrNotMeasured says that samples do not tell the capacity.
var ErrNotMeasured = errors.New("samples do not tell the capacity yet")

// Measure derives the cost of a connection and of a message from the points of
// single nodes: memory = base + connections × bytes, CPU = base + messages × share.
// Errors wrap ErrNotMeasured and say what is lacking.
func Measure(points []Point) (Measurement, error) {
	var m Measurement
	var connections, memory, messages, cpu []float64
	for i := range points {
		p := &points[i]
		if p.Node == "" {
			continue // a sum over nodes has the base costs of all of them in it
		}
		c, okC := p.Values.Get(Connections)
		b, okB := p.Values.Get(MemoryBytes)
		in, okIn := p.Values.Get(MessagesIn)
		share, okShare := p.Values.Get(CPU)
		if !okC || !okB || !okIn || !okShare {
			continue
		}
		connections, memory = append(connections, c), append(memory, b)
		messages, cpu = append(messages, in), append(cpu, share)
		m.SeenConnections, m.SeenMessages = max(m.SeenConnections, c), max(m.SeenMessages, in)
		if limit, ok := p.Values.Get(MemoryLimit); ok && limit > 0 && (m.MemoryLimit == 0 || limit < m.MemoryLimit) {
			m.MemoryLimit = limit
		}
	}
	m.Points = len(connections)
	if m.Points < minMeasurePoints {
		return m, fmt.Errorf("measure: %d points of nodes with connections, memory, messages and cpu, want %d: %w", m.Points, minMeasurePoints, ErrNotMeasured)
	}
	var memoryErr, cpuErr error
	m.BaseBytes, m.BytesPerConnection, m.MemoryFit, memoryErr = costLine("memory of a connection", connections, memory)
	m.BaseCPU, m.CPUPerMessage, m.CPUFit, cpuErr = costLine("cpu of a message", messages, cpu)
	if err := errors.Join(memoryErr, cpuErr); err != nil {
		return m, fmt.Errorf("measure: %w", err)
	}
	if m.MemoryLimit == 0 {
		return m, fmt.Errorf("measure: no point says the memory limit: %w", ErrNotMeasured)
	}
	return m, nil
}

// costLine fits y = base + x × each by least squares.
func costLine(what string, x, y []float64) (base, each, fit float64, err error) {
	n := float64(len(x))
	var sx, sy, low, high float64
	low = math.Inf(1)
	for i := range x {
		sx, sy = sx+x[i], sy+y[i]
		low, high = math.Min(low, x[i]), math.Max(high, x[i])
	}
	if high <= 0 || (high-low)/high < minSpread {
		return 0, 0, 0, fmt.Errorf("%s: the load lay between %s and %s and must vary more: %w", what, amount(low), amount(high), ErrNotMeasured)
	}
	var sxx, sxy, syy float64
	for i := range x {
		dx, dy := x[i]-sx/n, y[i]-sy/n
		sxx, sxy, syy = sxx+dx*dx, sxy+dx*dy, syy+dy*dy
	}
	each = sxy / sxx
	base = max(0, sy/n-each*sx/n)
	if syy > 0 {
		fit = sxy * sxy / (sxx * syy)
	}
	if each <= 0 || fit < minFit {
		return base, each, fit, fmt.Errorf("%s: use does not follow the load (R² %.2f, want %.2f): %w", what, fit, minFit, ErrNotMeasured)
	}
	return base, each, fit, nil
}

// Capacity is what one instance of the measured kind holds: connections until
// memory is at the document's 80%, messages until the processors are at 70%.
func (m Measurement) Capacity() Capacity {
	memory := threshold(TableScaling, "Memory Utilization", ">80%").Value
	cpu := threshold(TableScaling, "CPU Utilization", ">70%").Value
	return Capacity{
		Connections: math.Floor(max(1, (memory*m.MemoryLimit-m.BaseBytes)/m.BytesPerConnection)),
		Messages:    math.Floor(max(1, (cpu-m.BaseCPU)/m.CPUPerMessage)),
		Source: fmt.Sprintf("samples of this deployment: %d points, %.1f KB a connection, %.2g%% CPU for a message a second, R² %.2f and %.2f",
			m.Points, m.BytesPerConnection/1024, m.CPUPerMessage*100, m.MemoryFit, m.CPUFit),
	}
}

// A Fit says which size real use asks for.
type Fit struct {
	Now, Wanted Size
	Why         string
	Change      bool
}

// RightSize finds the smallest size whose processors and memory hold the p95 of
// real use (in cores and bytes of one instance) within the document's thresholds.
func RightSize(now Size, cores, memory float64) Fit {
	cpuShare := threshold(TableScaling, "CPU Utilization", ">70%").Value
	memoryShare := threshold(TableScaling, "Memory Utilization", ">80%").Value
	sizes := Sizes()
	wanted := sizes[len(sizes)-1]
	for _, s := range sizes {
		if cores <= cpuShare*s.CPUs && memory <= memoryShare*s.Memory {
			wanted = s
			break
		}
	}
	return Fit{Now: now, Wanted: wanted, Change: wanted.Name != now.Name,
		Why: fmt.Sprintf("p95 of %.2f cores and %.2f GB: %s holds it at %.0f%% CPU and %.0f%% memory", cores, memory/GB, wanted.Name,
			cores/wanted.CPUs*100, memory/wanted.Memory*100)}
}
