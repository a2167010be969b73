package doctor

import (
	"context"
	"sync"
	"time"
)

// heavy is the check that reads the whole database: it is made when all others are
// done, which measure how fast disk and network answer.
const heavy = "database"

// Planned lists what Run looks at, in its order and without results.
func Planned() []Finding {
	var all []Finding
	for _, c := range checks() {
		all = append(all, Finding{Group: c.group, Check: c.name, Title: c.title})
	}
	return all
}

// Run makes all checks and returns one Finding for each, in a fixed order. It ends
// soon after ctx does; what was not looked at by then is Skipped.
func Run(ctx context.Context, cfg Config) []Finding {
	return Watch(ctx, cfg, func(int, Finding) {})
}

// Watch is Run, and hands each finding over as soon as it is made, with its place
// in what Planned lists. The groups are looked at side by side, the checks of one
// group one after another: some of them wait for the network, and none needs much
// of the machine but the last. found is called by one goroutine at a time.
func Watch(ctx context.Context, cfg Config, found func(place int, f Finding)) []Finding {
	cfg.fill()
	table := checks()
	all := make([]Finding, len(table))
	var told sync.Mutex
	look := func(places []int) {
		for _, i := range places {
			f := table[i].run(ctx, &cfg)
			told.Lock()
			all[i] = f
			found(i, f)
			told.Unlock()
		}
	}
	groups := map[string][]int{}
	var last []int
	for i, c := range table {
		if c.name == heavy {
			last = append(last, i)
			continue
		}
		groups[c.group] = append(groups[c.group], i)
	}
	var side sync.WaitGroup
	for _, places := range groups {
		side.Go(func() { look(places) })
	}
	side.Wait()
	look(last)
	return all
}

// fill gives what was left empty its usual value.
func (c *Config) fill() {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	if c.Sys == "" {
		c.Sys = "/sys"
	}
}
