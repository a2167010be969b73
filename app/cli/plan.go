package cli

import (
	"fmt"

	"agentnet/app/scale"
)

// measured is the flags by which a command is told what one instance carries.
type measured struct {
	InstanceConnections float64 `help:"Connections that one instance was measured to hold; the document's 1,000 without it."`
	InstanceMessages    float64 `help:"Messages a second that one instance was measured to carry; the document's 100 without it."`
	ScaleAt             float64 `help:"Connections of one instance above which the fleet grows; the document's 200, or 70% of what was measured."`
}

// capacity is what the flags say of one instance.
func (m *measured) capacity() (scale.Capacity, error) {
	for name, v := range map[string]float64{"--instance-connections": m.InstanceConnections, "--instance-messages": m.InstanceMessages, "--scale-at": m.ScaleAt} {
		if !(v >= 0 && v <= 1e9) {
			return scale.Capacity{}, usagef("%s: want a number from 0 to 1000000000, got %v", name, v)
		}
	}
	c := scale.DocumentCapacity()
	if m.InstanceConnections == 0 && m.InstanceMessages == 0 && m.ScaleAt == 0 {
		return c, nil
	}
	c.Source = "given on the command line"
	if m.InstanceConnections > 0 {
		c.Connections, c.ScaleAt = m.InstanceConnections, 0 // 70% of it
	}
	if m.InstanceMessages > 0 {
		c.Messages = m.InstanceMessages
	}
	if m.ScaleAt > 0 {
		c.ScaleAt = m.ScaleAt
	}
	return c, nil
}

// priced is the flags by which a command is told prices.
type priced struct {
	Price         float64 `help:"Price of one instance for an hour."`
	RedisPrice    float64 `help:"Price of one Redis node for an hour."`
	BalancerPrice float64 `help:"Price of one load balancer for an hour."`
	Currency      string  `default:"€" help:"Currency of the prices."`
}

// prices gives every size the same price: the command line asks about one plan.
func (p *priced) prices() (scale.Prices, error) {
	out := scale.Prices{Currency: p.Currency, Instance: map[string]float64{}, RedisNode: map[string]float64{}, Balancer: map[scale.BalancerTier]float64{}}
	for name, v := range map[string]float64{"--price": p.Price, "--redis-price": p.RedisPrice, "--balancer-price": p.BalancerPrice} {
		if !(v >= 0 && v <= 1e6) {
			return out, usagef("%s: want a price from 0 to 1000000, got %v", name, v)
		}
	}
	for _, s := range scale.Sizes() {
		out.Instance[s.Name], out.RedisNode[s.Name], out.Balancer[s.Balancer] = p.Price, p.RedisPrice, p.BalancerPrice
	}
	return out, nil
}

// planCommand is `agentnet plan`.
type planCommand struct {
	Users         float64 `help:"Users at once."`
	Connections   float64 `help:"Connections at once; two for each user without it."`
	Messages      float64 `help:"Messages a second; one for ten connections without it."`
	MessageBytes  float64 `help:"Bytes of a message, to know the traffic."`
	FanOut        float64 `default:"1" help:"Receivers of a message."`
	Regions       int     `default:"1" help:"Regions that share the load."`
	SurviveRegion bool    `help:"Leave room for the loss of a region."`
	Instances     int     `help:"Instances that run now: say which planning triggers this load would reach."`

	measured
	priced
	JSON bool `name:"json" help:"Print JSON."`
}

// planJSON is what plan --json prints.
type planJSON struct {
	scale.Plan
	Reached []scale.Reached `json:"reached,omitempty"`
}

// Run prints the plan.
func (c *planCommand) Run(env *Env) error {
	capacity, err := c.capacity()
	if err != nil {
		return err
	}
	prices, err := c.prices()
	if err != nil {
		return err
	}
	if c.Instances < 0 || c.Instances > scale.MaxInstances {
		return usagef("--instances: want 0 to %d, got %d", scale.MaxInstances, c.Instances)
	}
	planner := scale.Planner{Capacity: capacity, Prices: prices}
	plan, err := planner.Plan(scale.Demand{Users: c.Users, Connections: c.Connections, Messages: c.Messages,
		MessageBytes: c.MessageBytes, FanOut: c.FanOut, Regions: c.Regions, SurviveRegion: c.SurviveRegion})
	if err != nil {
		return usagef("%v", err)
	}
	d := plan.Demand
	reached := planner.Reached(scale.Use{Users: d.Users, Connections: d.Connections, Messages: d.Messages, Instances: c.Instances})
	if c.JSON {
		return printJSON(env.Stdout, planJSON{plan, reached})
	}
	text := plan.Text()
	if c.Instances > 0 && len(reached) == 0 {
		text += fmt.Sprintf("\n%d instances carry this load below every planning trigger.\n", c.Instances)
	}
	for i, r := range reached {
		if i == 0 {
			text += fmt.Sprintf("\nPlanning triggers reached with %d instances:\n", c.Instances)
		}
		text += "  " + r.Why + "\n"
	}
	if _, err := fmt.Fprint(env.Stdout, text); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}
