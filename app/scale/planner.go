package scale

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// A Demand is what a fleet should be able to carry at its peak.
type Demand struct {
	Users       float64 `json:"users,omitempty"`       // at once
	Connections float64 `json:"connections,omitempty"` // at once; 0: from Users
	Messages    float64 `json:"messages,omitempty"`    // per second, accepted; 0: from Connections

	// MessageBytes and FanOut give the network traffic: bytes of one message, and
	// receivers of one. 0: traffic is not computed, and one receiver.
	MessageBytes float64 `json:"message_bytes,omitempty"`
	FanOut       float64 `json:"fan_out,omitempty"`

	Regions int `json:"regions,omitempty"` // that share the load evenly; 0: one
	// SurviveRegion asks for enough room in the other regions when one is lost.
	SurviveRegion bool `json:"survive_region,omitempty"`
}

// The document's tables relate users, connections and messages: 1,000 users,
// 2,000 connections and 200 messages a second are one base, and their maxima keep
// the same proportion. They fill in what a demand leaves out.
const (
	ConnectionsPerUser    = 2.0
	MessagesPerConnection = 0.1
)

// Bounds of a demand: figures beyond them are a slip of the keyboard.
const (
	maxDemand  = 1e9
	maxRegions = 64
)

// withDefaults fills in what follows from the rest.
func (d Demand) withDefaults() Demand {
	if d.Connections == 0 {
		d.Connections = d.Users * ConnectionsPerUser
	}
	if d.Messages == 0 {
		d.Messages = d.Connections * MessagesPerConnection
	}
	if d.FanOut == 0 {
		d.FanOut = 1
	}
	d.Regions = max(1, d.Regions)
	return d
}

// Validate joins every fault of the demand.
func (d Demand) Validate() error {
	var errs []error
	check := func(name string, v float64) {
		if !(v >= 0 && v <= maxDemand) {
			errs = append(errs, fmt.Errorf("%s: %v is not between 0 and %.0f", name, v, maxDemand))
		}
	}
	check("users", d.Users)
	check("connections", d.Connections)
	check("messages", d.Messages)
	check("message_bytes", d.MessageBytes)
	check("fan_out", d.FanOut)
	if d.Users == 0 && d.Connections == 0 && d.Messages == 0 {
		errs = append(errs, errors.New("give users, connections or messages a second"))
	}
	if d.Regions < 0 || d.Regions > maxRegions {
		errs = append(errs, fmt.Errorf("regions: %d is not between 1 and %d", d.Regions, maxRegions))
	}
	if d.SurviveRegion && d.Regions < 2 {
		errs = append(errs, errors.New("survive_region: needs two regions or more"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return nil
}

// Prices are what the admin pays, each for an hour. What is 0 is not known, and
// no cost is made up for it.
type Prices struct {
	Currency  string                   `json:"currency,omitempty"`
	Instance  map[string]float64       `json:"instance,omitempty"` // by size: small, medium, large
	RedisNode map[string]float64       `json:"redis_node,omitempty"`
	Balancer  map[BalancerTier]float64 `json:"balancer,omitempty"`
}

// HoursPerMonth is 365 days by 24 hours in 12 months.
const HoursPerMonth = 730

// A Cost is what a fleet costs.
type Cost struct {
	Currency string   `json:"currency,omitempty"`
	Hour     float64  `json:"hour"`
	Month    float64  `json:"month"`
	Missing  []string `json:"missing,omitempty"` // parts without a price, not in the sums
}

// A Need is what one quantity asks for.
type Need struct {
	Metric    string  `json:"metric"`
	Amount    float64 `json:"amount"`
	Instances int     `json:"instances"`
	Why       string  `json:"why"`
}

// A Plan is an answer of the planner.
type Plan struct {
	Demand    Demand   `json:"demand"` // with what was filled in
	Needs     []Need   `json:"needs"`  // the largest decides
	Decides   string   `json:"decides"`
	Instances int      `json:"instances"` // of the whole fleet, at the peak
	PerRegion int      `json:"per_region"`
	Size      Size     `json:"size"`
	Redis     int      `json:"redis_nodes"`
	Carries   Carried  `json:"carries"` // by this plan
	Capacity  Capacity `json:"capacity"`
	// Traffic of the whole fleet in bytes per second, 0 when not asked for.
	TrafficIn  float64 `json:"traffic_in,omitempty"`
	TrafficOut float64 `json:"traffic_out,omitempty"`

	// MinInstances and MaxInstances are the bounds to give to the policy: the count
	// at which it settles at the peak must lie within them.
	MinInstances int      `json:"min_instances"`
	MaxInstances int      `json:"max_instances"`
	Cost         Cost     `json:"cost"`
	Notes        []string `json:"notes,omitempty"`
}

// Carried is what a planned fleet carries.
type Carried struct {
	Users       float64 `json:"users"`
	Connections float64 `json:"connections"`
	Messages    float64 `json:"messages"`
}

// A Planner turns demands into plans. The zero value plans by the document.
type Planner struct {
	// Capacity is what one instance was measured to carry. The zero value, and what
	// DocumentCapacity returns, mean the document's table.
	Capacity Capacity
	Prices   Prices
}

// Measured reports whether the capacity is that of this deployment.
func (p Planner) Measured() bool {
	return p.Capacity.withDefaults() != DocumentCapacity()
}

// Plan answers a demand.
func (p Planner) Plan(d Demand) (Plan, error) {
	if err := d.Validate(); err != nil {
		return Plan{}, err
	}
	given := d
	d = d.withDefaults()
	out := Plan{Demand: d, Capacity: p.Capacity.withDefaults()}
	if p.Measured() {
		out.Needs = p.measuredNeeds(d)
	} else {
		out.Needs = tableNeeds(d)
	}
	need := 0
	for _, n := range out.Needs {
		if n.Instances > need {
			need, out.Decides = n.Instances, n.Metric
		}
	}
	out.spread(need)
	out.Size = SizeFor(out.Instances)
	out.Redis = redisNodes(out.Size, d.Messages)
	out.Carries = p.carries(out.Instances)
	if d.MessageBytes > 0 {
		out.TrafficIn = d.Messages * d.MessageBytes
		out.TrafficOut = out.TrafficIn * d.FanOut
	}
	out.bounds()
	out.notes(given, p.Measured())
	out.Cost = p.Prices.Of(out.Instances, out.Size, out.Redis, d.Regions)
	return out, nil
}

// tableNeeds asks the document's capacity table.
func tableNeeds(d Demand) []Need {
	var out []Need
	for _, in := range []struct {
		metric string
		amount float64
	}{{MetricUsers, d.Users}, {MetricConnections, d.Connections}, {MetricMessages, d.Messages}} {
		row := capacityRow(in.metric)
		if in.metric == MetricUsers && in.amount == 0 {
			continue
		}
		n := row.Instances(in.amount)
		why := fmt.Sprintf("%s are within the base of %s, which %d instances carry", amount(in.amount), amount(row.Base), n)
		if in.amount > row.Base {
			why = fmt.Sprintf("%s are %s above the base of %s, and each %s are one instance more", amount(in.amount),
				amount(in.amount-row.Base), amount(row.Base), amount(row.Increment))
		}
		out = append(out, Need{Metric: in.metric, Amount: in.amount, Instances: n, Why: why})
	}
	return out
}

// measuredNeeds fills instances only up to the document's planning triggers, so
// that a plan that has just been carried out does not ask for the next one.
func (p Planner) measuredNeeds(d Demand) []Need {
	c := p.Capacity.withDefaults()
	one := func(metric, trigger string, load, each float64) Need {
		share := triggerShare(trigger)
		n := max(DefaultMinInstances, ceil(load/(each*share)))
		return Need{Metric: metric, Amount: load, Instances: n,
			Why: fmt.Sprintf("%s at %.0f%% of %s an instance need %d", amount(load), share*100, amount(each), n)}
	}
	return []Need{
		one(MetricConnections, TriggerPeak, d.Connections, c.Connections),
		one(MetricMessages, TriggerMessages, d.Messages, c.Messages),
	}
}

// spread lays the instances over the regions.
func (p *Plan) spread(need int) {
	regions := p.Demand.Regions
	share := regions
	if p.Demand.SurviveRegion {
		share--
	}
	p.PerRegion = (need + share - 1) / share
	if regions > 1 {
		// An instance alone in its region would leave it empty at each restart.
		p.PerRegion = max(p.PerRegion, DefaultMinInstances)
	}
	p.Instances = p.PerRegion * regions
}

// redisPerMessages is what one Redis node of the large size carries: the document
// lays five of them out for 20,000 messages a second.
const redisPerMessages = 4000

func redisNodes(s Size, messages float64) int {
	if !s.RedisGrows {
		return s.RedisNodes
	}
	return max(s.RedisNodes, ceil(messages/redisPerMessages))
}

func (p Planner) carries(n int) Carried {
	if p.Measured() {
		c := p.Capacity.withDefaults()
		out := Carried{Connections: c.Connections * float64(n), Messages: c.Messages * float64(n)}
		out.Users = out.Connections / ConnectionsPerUser
		return out
	}
	return Carried{Users: capacityRow(MetricUsers).Carries(n), Connections: capacityRow(MetricConnections).Carries(n),
		Messages: capacityRow(MetricMessages).Carries(n)}
}

// bounds proposes the policy's bounds. The policy grows the fleet above ScaleAt
// connections an instance, which by the document is well below what an instance
// holds, so that it settles at more instances than the load alone needs.
func (p *Plan) bounds() {
	settles := max(ceil(p.Demand.Connections/p.Capacity.ScaleAt), ceil(p.Demand.Messages/p.Capacity.Messages), p.Instances)
	p.MinInstances = max(DefaultMinInstances, p.Demand.Regions*DefaultMinInstances)
	if p.Demand.Regions == 1 {
		p.MinInstances = DefaultMinInstances
	}
	p.MaxInstances = min(MaxInstances, max(DefaultMaxInstances, settles))
}

func (p *Plan) notes(given Demand, measured bool) {
	note := func(format string, args ...any) { p.Notes = append(p.Notes, fmt.Sprintf(format, args...)) }
	if given.Connections == 0 && given.Users > 0 {
		note("Connections were not given: %s for each user, as in the capacity table.", amount(ConnectionsPerUser))
	}
	if given.Messages == 0 {
		note("Messages were not given: %s a second for each connection, as in the capacity table.", amount(MessagesPerConnection))
	}
	settles := ceil(p.Demand.Connections / p.Capacity.ScaleAt)
	if settles > p.Instances {
		note("Auto-scaling grows the fleet above %s connections an instance and would settle at %d; measure this machine (agentnet bench) or set the target to use the room that this plan counts on.",
			amount(p.Capacity.ScaleAt), settles)
	}
	if p.MaxInstances > DefaultMaxInstances {
		note("The default maximum of %d instances is too low: set it to %d.", DefaultMaxInstances, p.MaxInstances)
	}
	if !measured {
		for _, n := range p.Needs {
			if row := capacityRow(n.Metric); row.Maximum > 0 && n.Amount > row.Maximum {
				note("%s: %s is above the %s that the document was laid out for; measure before you rely on it.", n.Metric, amount(n.Amount), amount(row.Maximum))
			}
		}
		note("Capacity is that of the document. Measured capacity of this machine replaces it.")
	}
}

// Of prices a fleet. The balancer is counted once for each region.
func (p Prices) Of(instances int, s Size, redis, regions int) Cost {
	c := Cost{Currency: p.Currency}
	add := func(part string, n int, price float64) {
		if n == 0 {
			return
		}
		if !(price > 0) || math.IsInf(price, 0) {
			c.Missing = append(c.Missing, part)
			return
		}
		c.Hour += float64(n) * price
	}
	add(s.Name+" instance", instances, p.Instance[s.Name])
	add(s.Name+" redis node", redis, p.RedisNode[s.Name])
	add(string(s.Balancer)+" balancer", max(1, regions), p.Balancer[s.Balancer])
	c.Month = c.Hour * HoursPerMonth
	return c
}

// Text writes the plan for people.
func (p *Plan) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d instances, %s size: %g vCPU, %.0f GB each\n", p.Instances, p.Size.Name, p.Size.CPUs, p.Size.Memory/GB)
	if p.Demand.Regions > 1 {
		fmt.Fprintf(&b, "  %d in each of %d regions\n", p.PerRegion, p.Demand.Regions)
	}
	fmt.Fprintf(&b, "  Redis: %d × %.0f GB\n  Balancer: %s\n  Monitoring: %s\n", p.Redis, p.Size.RedisMemory/GB, p.Size.Balancer, p.Size.Monitoring)
	if p.Cost.Hour > 0 {
		fmt.Fprintf(&b, "  Cost: %.2f %s an hour, about %.0f a month", p.Cost.Hour, p.Cost.Currency, p.Cost.Month)
		if len(p.Cost.Missing) > 0 {
			fmt.Fprintf(&b, ", without %s", strings.Join(p.Cost.Missing, ", "))
		}
		b.WriteByte('\n')
	}
	if p.TrafficOut > 0 {
		fmt.Fprintf(&b, "  Traffic: %.1f MB/s in, %.1f MB/s out\n", p.TrafficIn/1e6, p.TrafficOut/1e6)
	}
	fmt.Fprintf(&b, "\n%s decide.\n", p.Decides)
	for _, n := range p.Needs {
		fmt.Fprintf(&b, "  %-22s %4d  %s\n", n.Metric, n.Instances, n.Why)
	}
	fmt.Fprintf(&b, "\nThe plan carries %s connections and %s messages a second.\n", amount(p.Carries.Connections), amount(p.Carries.Messages))
	fmt.Fprintf(&b, "Bounds for auto-scaling: %d to %d instances.\n", p.MinInstances, p.MaxInstances)
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return b.String()
}

// amount writes a count for people: 1,284 below ten thousand, 12.8k from there.
func amount(v float64) string {
	switch {
	case v >= 999_950:
		return trimZero(fmt.Sprintf("%.2f", v/1e6)) + "M"
	case v >= 10_000:
		return trimZero(fmt.Sprintf("%.1f", v/1e3)) + "k"
	case v >= 1000:
		n := int(math.Round(v))
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	case v >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	}
	return trimZero(fmt.Sprintf("%.2f", v))
}

func trimZero(s string) string {
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}
