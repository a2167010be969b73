package scale

// The document's planning tables, to the letter. The three of them that say how
// much are used by the planner; tests hold every number in place.

// TableCapacity, TableSizing and TableTriggers are headings of the document.
const (
	TableCapacity = "Capacity Metrics"
	TableSizing   = "Resource Sizing Guidelines"
	TableTriggers = "Scaling Triggers and Procedures"
)

// A CapacityRow is one row of the document's capacity table.
type CapacityRow struct {
	Metric    string  `json:"metric"`
	Base      float64 `json:"base"`      // what the smallest fleet, DefaultMinInstances, carries
	Increment float64 `json:"increment"` // what one instance more carries; 0: does not grow with the fleet
	Maximum   float64 `json:"maximum"`   // what the document was laid out for ("and more"); 0: not ours to limit
	Text      string  `json:"text"`      // the row as it is written
}

// The metrics of the capacity table.
const (
	MetricUsers       = "Concurrent Users"
	MetricConnections = "WebSocket Connections"
	MetricMessages    = "Messages per Second"
	MetricStorage     = "Data Storage per User"
)

// CapacityTable returns the document's capacity table.
func CapacityTable() []CapacityRow {
	return []CapacityRow{
		{MetricUsers, 1000, 1000, 100_000, "1,000 | +1,000 users = +1 instance | 100,000+"},
		{MetricConnections, 2000, 1000, 200_000, "2,000 | +1,000 connections = +1 instance | 200,000+"},
		{MetricMessages, 200, 100, 20_000, "200 | +100 msg/sec = +1 instance | 20,000+"},
		{MetricStorage, 50_000_000, 0, 0, "50MB | N/A (client-side) | Browser limit"},
	}
}

// Instances is how many instances the row asks for: the smallest fleet up to the
// base capacity, and one more for each begun increment above it. A row that does
// not grow with the fleet asks for none.
func (r CapacityRow) Instances(amount float64) int {
	switch {
	case r.Increment <= 0:
		return 0
	case !(amount > r.Base):
		return DefaultMinInstances
	}
	return DefaultMinInstances + ceil((amount-r.Base)/r.Increment)
}

// Carries is what n instances carry by the row.
func (r CapacityRow) Carries(n int) float64 {
	if n <= 0 {
		return 0
	}
	if n <= DefaultMinInstances {
		return r.Base * float64(n) / DefaultMinInstances
	}
	return r.Base + r.Increment*float64(n-DefaultMinInstances)
}

// A BalancerTier is the class of the load balancer.
type BalancerTier string

// The tiers.
const (
	TierStandard BalancerTier = "standard"
	TierPremium  BalancerTier = "premium"
)

// A Size is one column of the document's sizing table.
type Size struct {
	Name         string       `json:"name"`          // small, medium or large
	MinInstances int          `json:"min_instances"` // that the document gives this size
	MaxInstances int          `json:"max_instances"` // 0: no end ("10+")
	CPUs         float64      `json:"cpus"`          // of one instance
	Memory       float64      `json:"memory"`        // of one instance, in bytes
	RedisNodes   int          `json:"redis_nodes"`   // at least, where RedisGrows
	RedisGrows   bool         `json:"redis_grows"`   // "5+"
	RedisMemory  float64      `json:"redis_memory"`  // of one Redis node, in bytes
	Balancer     BalancerTier `json:"balancer"`
	Monitoring   string       `json:"monitoring"`
}

// GB is the unit of the document's sizes, in bytes.
const GB = 1 << 30

// Sizes returns the document's sizing table, smallest first.
func Sizes() []Size {
	return []Size{
		{Name: "small", MinInstances: 2, MaxInstances: 3, CPUs: 2, Memory: 2 * GB, RedisNodes: 1, RedisMemory: 2 * GB,
			Balancer: TierStandard, Monitoring: "basic metrics"},
		{Name: "medium", MinInstances: 5, MaxInstances: 10, CPUs: 2, Memory: 4 * GB, RedisNodes: 3, RedisMemory: 4 * GB,
			Balancer: TierStandard, Monitoring: "enhanced metrics"},
		{Name: "large", MinInstances: 10, CPUs: 4, Memory: 8 * GB, RedisNodes: 5, RedisGrows: true, RedisMemory: 8 * GB,
			Balancer: TierPremium, Monitoring: "custom metrics and logging"},
	}
}

// SizeFor is the smallest size that holds n instances: of four, which the table
// leaves out, medium; of ten, which it names twice, medium too.
func SizeFor(n int) Size {
	sizes := Sizes()
	for _, s := range sizes {
		if s.MaxInstances == 0 || n <= s.MaxInstances {
			return s
		}
	}
	return sizes[len(sizes)-1]
}

// A Trigger is one row of the document's trigger table: a share of capacity
// above which somebody should plan, long before an alert.
type Trigger struct {
	Name   string  `json:"name"`
	Metric string  `json:"metric"` // as the document has it
	Share  float64 `json:"share"`  // of capacity; strictly above it the trigger is reached
	Text   string  `json:"text"`
	Action string  `json:"action"`
}

// The names of the triggers.
const (
	TriggerUsers    = "User Growth"
	TriggerPeak     = "Peak Load"
	TriggerMessages = "Message Volume"
)

// Triggers returns the document's trigger table.
func Triggers() []Trigger {
	return []Trigger{
		{TriggerUsers, "Monthly active users", 0.80, ">80% of current capacity", "Increase base instance count"},
		{TriggerPeak, "Concurrent connections", 0.70, ">70% of instance capacity", "Adjust auto-scaling parameters"},
		{TriggerMessages, "Messages per second", 0.60, ">60% of processing capacity", "Optimize message handling"},
	}
}

func capacityRow(metric string) CapacityRow {
	for _, r := range CapacityTable() {
		if r.Metric == metric {
			return r
		}
	}
	return CapacityRow{}
}

// triggerShare is the share of one trigger, up to which the planner fills an
// instance whose capacity was measured.
func triggerShare(name string) float64 {
	for _, t := range Triggers() {
		if t.Name == name {
			return t.Share
		}
	}
	return 1
}
