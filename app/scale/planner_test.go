package scale

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCapacityTable holds every number of the document's capacity table.
func TestCapacityTable(t *testing.T) {
	tests := []struct {
		metric    string
		amount    float64
		instances int
	}{
		{MetricUsers, 0, 2}, {MetricUsers, 1000, 2}, {MetricUsers, 1001, 3}, {MetricUsers, 2000, 3}, {MetricUsers, 2001, 4}, {MetricUsers, 100_000, 101},
		{MetricConnections, 2000, 2}, {MetricConnections, 2001, 3}, {MetricConnections, 3000, 3}, {MetricConnections, 3001, 4}, {MetricConnections, 200_000, 200},
		{MetricMessages, 200, 2}, {MetricMessages, 201, 3}, {MetricMessages, 300, 3}, {MetricMessages, 301, 4}, {MetricMessages, 20_000, 200},
		{MetricStorage, 50_000_000, 0}, {MetricStorage, 5e12, 0},
	}
	for _, tt := range tests {
		if got := capacityRow(tt.metric).Instances(tt.amount); got != tt.instances {
			t.Errorf("%s %v: got %d instances, want %d", tt.metric, tt.amount, got, tt.instances)
		}
	}
	rows := []CapacityRow{
		{Metric: "Concurrent Users", Base: 1000, Increment: 1000, Maximum: 100_000},
		{Metric: "WebSocket Connections", Base: 2000, Increment: 1000, Maximum: 200_000},
		{Metric: "Messages per Second", Base: 200, Increment: 100, Maximum: 20_000},
		{Metric: "Data Storage per User", Base: 50_000_000},
	}
	got := CapacityTable()
	for i := range got {
		got[i].Text = ""
	}
	if !slices.Equal(got, rows) {
		t.Errorf("got %v, want %v", got, rows)
	}
}

func TestCapacityRowCarriesWhatItAsksFor(t *testing.T) {
	for _, row := range CapacityTable()[:3] {
		for n := 2; n <= 250; n++ {
			if got := row.Instances(row.Carries(n)); got != n {
				t.Errorf("%s: %d instances carry %v, which ask for %d", row.Metric, n, row.Carries(n), got)
			}
		}
	}
}

// TestSizingTable holds every cell of the document's sizing table.
func TestSizingTable(t *testing.T) {
	tests := []struct {
		instances  int
		name       string
		cpus, gb   float64
		redis      int
		redisGB    float64
		balancer   BalancerTier
		monitoring string
	}{
		{2, "small", 2, 2, 1, 2, "standard", "basic metrics"},
		{3, "small", 2, 2, 1, 2, "standard", "basic metrics"},
		{4, "medium", 2, 4, 3, 4, "standard", "enhanced metrics"},
		{5, "medium", 2, 4, 3, 4, "standard", "enhanced metrics"},
		{10, "medium", 2, 4, 3, 4, "standard", "enhanced metrics"},
		{11, "large", 4, 8, 5, 8, "premium", "custom metrics and logging"},
		{200, "large", 4, 8, 5, 8, "premium", "custom metrics and logging"},
	}
	for _, tt := range tests {
		s := SizeFor(tt.instances)
		if s.Name != tt.name || s.CPUs != tt.cpus || s.Memory != tt.gb*GB || s.RedisNodes != tt.redis ||
			s.RedisMemory != tt.redisGB*GB || s.Balancer != tt.balancer || s.Monitoring != tt.monitoring {
			t.Errorf("%d instances: got %+v, want %+v", tt.instances, s, tt)
		}
	}
	var got [][2]int
	for _, s := range Sizes() {
		got = append(got, [2]int{s.MinInstances, s.MaxInstances})
	}
	if want := [][2]int{{2, 3}, {5, 10}, {10, 0}}; !slices.Equal(got, want) {
		t.Errorf("instances of the sizes: got %v, want %v", got, want)
	}
}

// TestTriggerTable holds the thresholds of the document's trigger table: strictly above.
func TestTriggerTable(t *testing.T) {
	// Two instances carry 1,000 users, 2,000 connections and 200 messages a second.
	tests := []struct {
		name string
		use  Use
		want []string
	}{
		{"nothing", Use{Instances: 2}, nil},
		{"users at 80%", Use{Users: 800, Instances: 2}, nil},
		{"users above 80%", Use{Users: 801, Instances: 2}, []string{TriggerUsers}},
		{"connections at 70%", Use{Connections: 1400, Instances: 2}, nil},
		{"connections above 70%", Use{Connections: 1401, Instances: 2}, []string{TriggerPeak}},
		{"messages at 60%", Use{Messages: 120, Instances: 2}, nil},
		{"messages above 60%", Use{Messages: 121, Instances: 2}, []string{TriggerMessages}},
		{"all", Use{Users: 999, Connections: 1999, Messages: 199, Instances: 2}, []string{TriggerUsers, TriggerPeak, TriggerMessages}},
		{"all, but one instance more", Use{Users: 999, Connections: 1999, Messages: 179, Instances: 3}, nil},
		{"no instance", Use{Users: 999}, nil},
	}
	for _, tt := range tests {
		var got []string
		for _, r := range (Planner{}).Reached(tt.use) {
			got = append(got, r.Trigger.Name)
			if r.Why == "" || !strings.Contains(r.Why, r.Trigger.Action) {
				t.Errorf("%s: %s: reason %q does not say what to do", tt.name, r.Trigger.Name, r.Why)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	reached := (Planner{}).Reached(Use{Messages: 121, Instances: 2})
	entry, err := reached[0].Entry(time.Unix(5, 0), "home")
	if err != nil {
		t.Fatal(err)
	}
	if entry.Kind != KindPlanning || entry.Region != "home" || !strings.Contains(entry.Summary, "121 are 60.5% of 200") || len(entry.Data) == 0 {
		t.Errorf("entry: got %+v", entry)
	}
	actions := map[string]string{TriggerUsers: "Increase base instance count", TriggerPeak: "Adjust auto-scaling parameters", TriggerMessages: "Optimize message handling"}
	for _, tr := range Triggers() {
		if tr.Action != actions[tr.Name] {
			t.Errorf("%s: got action %q, want %q", tr.Name, tr.Action, actions[tr.Name])
		}
	}
}

func TestMeasuredCapacityMovesTriggers(t *testing.T) {
	p := Planner{Capacity: Capacity{Connections: 640, Messages: 6000}}
	if got := p.Reached(Use{Connections: 1344, Messages: 10_800, Instances: 3}); len(got) != 0 {
		t.Errorf("at 70%% and 60%%: got %v, want none", got)
	}
	if got := p.Reached(Use{Connections: 1345, Messages: 10_801, Instances: 3}); len(got) != 2 {
		t.Errorf("above 70%% and 60%%: got %v, want two", got)
	}
}

func TestPlanByDocument(t *testing.T) {
	tests := []struct {
		name                       string
		demand                     Demand
		instances, redis, perRegio int
		size, decides              string
	}{
		{"one agent", Demand{Connections: 1}, 2, 1, 2, "small", MetricConnections},
		{"base", Demand{Users: 1000}, 2, 1, 2, "small", MetricUsers},
		{"a second thousand", Demand{Users: 2000}, 4, 3, 4, "medium", MetricConnections}, // 4,000 connections
		{"users with one connection each", Demand{Users: 2000, Connections: 2000, Messages: 100}, 3, 1, 3, "small", MetricUsers},
		{"messages decide", Demand{Users: 1000, Messages: 900}, 9, 3, 9, "medium", MetricMessages},
		{"document's maximum", Demand{Users: 100_000, Connections: 200_000, Messages: 20_000}, 200, 5, 200, "large", MetricConnections},
		{"twice the maximum", Demand{Connections: 400_000, Messages: 40_000}, 400, 10, 400, "large", MetricConnections},
		{"three regions", Demand{Connections: 10_000, Regions: 3}, 12, 5, 4, "large", MetricConnections},
		{"three regions, one may be lost", Demand{Connections: 10_000, Regions: 3, SurviveRegion: true}, 15, 5, 5, "large", MetricConnections},
		{"two regions, little load", Demand{Connections: 10, Regions: 2}, 4, 3, 2, "medium", MetricConnections},
	}
	for _, tt := range tests {
		p, err := (Planner{}).Plan(tt.demand)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if p.Instances != tt.instances || p.Redis != tt.redis || p.PerRegion != tt.perRegio || p.Size.Name != tt.size || p.Decides != tt.decides {
			t.Errorf("%s: got %d instances (%d a region), %d redis, %s, decided by %s; want %d (%d), %d, %s, %s", tt.name,
				p.Instances, p.PerRegion, p.Redis, p.Size.Name, p.Decides, tt.instances, tt.perRegio, tt.redis, tt.size, tt.decides)
		}
	}
}

// TestPlanMeasured is the example of the dashboard's planner page.
func TestPlanMeasured(t *testing.T) {
	p := Planner{Capacity: Capacity{Connections: 640, Messages: 6000, Source: "bench"},
		Prices: Prices{Currency: "€", Instance: map[string]float64{"medium": 0.031}}}
	plan, err := p.Plan(Demand{Users: 3000, Connections: 3200, Messages: 20_000, MessageBytes: 2000, Regions: 2})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Instances != 8 || plan.Size.Name != "medium" || plan.Decides != MetricConnections {
		t.Errorf("got %d %s by %s, want 8 medium by connections", plan.Instances, plan.Size.Name, plan.Decides)
	}
	if n := plan.Needs[1].Instances; n != 6 {
		t.Errorf("messages alone: got %d, want 6", n)
	}
	if got := math.Round(plan.Cost.Month); got != 181 {
		t.Errorf("cost: got %v a month, want 181", got)
	}
	if want := []string{"medium redis node", "standard balancer"}; !slices.Equal(plan.Cost.Missing, want) {
		t.Errorf("parts without a price: got %v, want %v", plan.Cost.Missing, want)
	}
	if plan.TrafficIn != 40e6 {
		t.Errorf("traffic: got %v, want 40 MB/s", plan.TrafficIn)
	}
	if plan.Capacity.ScaleAt != 448 {
		t.Errorf("target: got %v, want 448", plan.Capacity.ScaleAt)
	}
}

// TestCalibrationChangesThePlan is S10: the same demand before and after.
func TestCalibrationChangesThePlan(t *testing.T) {
	d := Demand{Connections: 50_000, Messages: 5000}
	before, err := (Planner{}).Plan(d)
	if err != nil {
		t.Fatal(err)
	}
	after, err := (Planner{Capacity: Capacity{Connections: 15_000, Messages: 40_000, Source: "bench"}}).Plan(d)
	if err != nil {
		t.Fatal(err)
	}
	if before.Instances != 50 || after.Instances != 5 {
		t.Errorf("got %d before and %d after, want 50 and 5", before.Instances, after.Instances)
	}
	if !slices.ContainsFunc(before.Notes, func(n string) bool { return strings.Contains(n, "would settle at 250") }) {
		t.Errorf("notes %q do not say that 200 connections an instance settle at 250", before.Notes)
	}
	if before.MaxInstances != 250 || after.MaxInstances != 20 {
		t.Errorf("bounds: got %d and %d, want 250 and 20", before.MaxInstances, after.MaxInstances)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, d := range []Demand{{}, {Users: -1}, {Users: math.NaN()}, {Connections: math.Inf(1)}, {Users: 1, Regions: 65}, {Users: 1, Regions: -1},
		{Users: 1, SurviveRegion: true}, {Users: 1, FanOut: -3}} {
		if p, err := (Planner{}).Plan(d); err == nil {
			t.Errorf("%+v: got %d instances, want an error", d, p.Instances)
		}
	}
}

// TestPlanCarriesItsDemand is the property that a plan exists for.
func TestPlanCarriesItsDemand(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		d := Demand{Users: float64(rnd.IntN(200_000)), Connections: float64(rnd.IntN(400_000)), Messages: float64(1 + rnd.IntN(40_000)), Regions: rnd.IntN(5)}
		d.SurviveRegion = d.Regions > 1 && rnd.IntN(2) == 0
		var p Planner
		if rnd.IntN(2) == 0 {
			p.Capacity = Capacity{Connections: float64(100 + rnd.IntN(20_000)), Messages: float64(10 + rnd.IntN(10_000))}
		}
		plan, err := p.Plan(d)
		if err != nil {
			t.Fatal(err)
		}
		left := plan.Instances
		if d.SurviveRegion {
			left -= plan.PerRegion
		}
		if c := p.carries(left); c.Connections < plan.Demand.Connections || c.Messages < plan.Demand.Messages {
			t.Fatalf("%+v with %+v: %d instances carry %+v", d, p.Capacity, left, c)
		}
		if plan.Instances < DefaultMinInstances || plan.MaxInstances < plan.Instances && plan.MaxInstances < MaxInstances {
			t.Fatalf("%+v: %d instances, bounds %d to %d", d, plan.Instances, plan.MinInstances, plan.MaxInstances)
		}
	}
}

func TestMeasure(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	points := make([]Point, 600)
	for i := range points {
		c := 200 + 700*math.Abs(math.Sin(float64(i)/90))
		in := c * 2
		p := Point{At: start.Add(time.Duration(i) * time.Minute), Node: "n1"}
		p.Values.Set(Connections, c)
		p.Values.Set(MemoryBytes, 80e6+c*12_000+rnd.NormFloat64()*2e5)
		p.Values.Set(MemoryLimit, 500e6)
		p.Values.Set(MessagesIn, in)
		p.Values.Set(CPU, 0.03+in*0.0002+rnd.NormFloat64()*0.005)
		points[i] = p
	}
	m, err := Measure(points)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(m.BytesPerConnection-12_000) > 300 || math.Abs(m.CPUPerMessage-0.0002) > 0.000005 {
		t.Errorf("got %.0f bytes and %.6f CPU, want 12000 and 0.0002", m.BytesPerConnection, m.CPUPerMessage)
	}
	c := m.Capacity()
	// (0.8 × 500 MB − 80 MB) / 12 kB = 26,667; (0.70 − 0.03) / 0.0002 = 3,350.
	if math.Abs(c.Connections-26_667) > 800 || math.Abs(c.Messages-3350) > 100 {
		t.Errorf("capacity: got %v and %v, want about 26,667 and 3,350", c.Connections, c.Messages)
	}
	if c.Source == "" {
		t.Error("a measured capacity must say what measured it")
	}
}

func TestMeasureRefuses(t *testing.T) {
	series := func(n int, set func(i int, r *Readings)) []Point {
		out := make([]Point, n)
		for i := range out {
			out[i].Node = "n1"
			out[i].Values.Set(MemoryLimit, 1e9)
			set(i, &out[i].Values)
		}
		return out
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	tests := map[string][]Point{
		"nothing": nil,
		"too few": series(59, func(i int, r *Readings) {
			r.Set(Connections, float64(i))
			r.Set(MemoryBytes, float64(i))
			r.Set(MessagesIn, float64(i))
			r.Set(CPU, float64(i)/100)
		}),
		"steady load": series(200, func(i int, r *Readings) {
			r.Set(Connections, 500)
			r.Set(MemoryBytes, 1e8)
			r.Set(MessagesIn, 50)
			r.Set(CPU, 0.2)
		}),
		"noise": series(200, func(i int, r *Readings) {
			r.Set(Connections, rnd.Float64()*1000)
			r.Set(MemoryBytes, 1e8+rnd.Float64()*1e8)
			r.Set(MessagesIn, rnd.Float64()*100)
			r.Set(CPU, rnd.Float64())
		}),
		"falls with load": series(200, func(i int, r *Readings) {
			r.Set(Connections, float64(i))
			r.Set(MemoryBytes, 1e9-float64(i)*1e5)
			r.Set(MessagesIn, float64(i))
			r.Set(CPU, 1-float64(i)/300)
		}),
	}
	for name, points := range tests {
		if m, err := Measure(points); err == nil {
			t.Errorf("%s: got %+v, want an error", name, m)
		}
	}
}

func TestRightSize(t *testing.T) {
	tests := []struct {
		cores, gb float64
		want      string
	}{{0.1, 0.2, "small"}, {1.4, 1.6, "small"}, {1.4, 1.7, "medium"}, {1.5, 1, "large"}, {1, 3.3, "large"}, {9, 9, "large"}}
	for _, tt := range tests {
		f := RightSize(SizeFor(5), tt.cores, tt.gb*GB)
		if f.Wanted.Name != tt.want || f.Change != (tt.want != "medium") {
			t.Errorf("%v cores, %v GB: got %s (change %v), want %s", tt.cores, tt.gb, f.Wanted.Name, f.Change, tt.want)
		}
	}
}

func TestAmount(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1: "0.1", 12: "12", 200: "200", 999: "999", 1000: "1,000", 1284: "1,284", 12_800: "12.8k", 200_000: "200k", 1.5e6: "1.5M"} {
		if got := amount(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
