package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"agentnet/app/relay"
	"agentnet/app/relay/overload"
	"agentnet/app/relay/queue"
	"agentnet/app/scale"
)

// Adaptive says how far a node may move its own bounds.
type Adaptive struct {
	Enabled bool    `yaml:"enabled" default:"true" negatable:"" help:"Let queues, recent windows and heartbeats follow memory and load. Off: as configured, always."`
	Least   float64 `yaml:"least" default:"0.125" help:"Smallest share of the configured queues and windows, above 0, up to 1."`
	Most    float64 `yaml:"most" default:"2" help:"Largest share of the configured queues, 1 or more."`
}

func (a *Adaptive) check(k *checker) {
	if !(a.Least > 0 && a.Least <= 1) {
		k.fault("adaptive.least", "%v is not above 0 and up to 1", a.Least)
	}
	within(k, "adaptive.most", a.Most, 1, 16)
}

// Pressure is what the bounds follow.
type Pressure struct {
	Memory  float64        // share of the memory limit in use; 0: not known
	Queue   float64        // share of the bound of all queues in use
	Level   overload.Level // of load shedding
	Dropped uint64         // messages that full queues dropped, and clients that were cut for it, ever
}

// The tuner's thresholds. They lie below those of load shedding, which begins at
// 75% of the memory: making room by smaller queues comes before turning things off.
const (
	tuneEvery  = time.Second
	tightenAt  = 0.60 // of memory or queues: halve
	rushAt     = 0.85 // halve each second, without waiting
	loosenAt   = 0.50 // and below: double again, up to what is configured
	growBelow  = 0.25 // of both, all the while: queues may grow, as twice as much is not near tightenAt
	tightenFor = 3 * time.Second
	loosenFor  = 30 * time.Second
	growFor    = 10 * time.Second
)

// A Tuner turns pressure into a share of the configured bounds. It moves by halves
// and doubles, tightens within seconds, loosens after half a minute of calm, and
// changes nothing while a value moves between 50% and 60%. It grows beyond the
// configuration only while queues overflow and there is plenty of memory. One
// owner calls Look.
type Tuner struct {
	least, most float64

	share   float64
	slow    bool      // heartbeats are no more frequent than a new connection's
	tight   time.Time // since when tightenAt is reached
	calm    time.Time // since when it is below loosenAt
	roomy   time.Time // since when it is below growBelow
	needed  time.Time // when queues last overflowed
	dropped uint64
	looked  bool
}

// NewTuner returns a tuner at the configured bounds.
func NewTuner(a Adaptive) *Tuner { return &Tuner{least: a.Least, most: a.Most, share: 1} }

// Look takes one reading. It returns the share of the configured bounds, whether
// heartbeats are to be slow, and why, which is empty when nothing changed.
func (t *Tuner) Look(now time.Time, p Pressure) (share float64, slow bool, why string) {
	if t.looked && p.Dropped > t.dropped {
		t.needed = now
	}
	t.dropped, t.looked = p.Dropped, true
	worst, what := p.Memory, "memory"
	if p.Queue > worst {
		worst, what = p.Queue, "queues"
	}
	reason := t.resize(now, worst, fmt.Sprintf("%s %.0f%% full", what, worst*100))
	return t.share, t.slow, join(reason, t.pace(p))
}

// resize moves the share by one step at most.
func (t *Tuner) resize(now time.Time, worst float64, state string) string {
	if worst >= growBelow {
		t.roomy = time.Time{}
	} else if t.roomy.IsZero() {
		t.roomy = now
	}
	switch {
	case worst >= tightenAt && t.share > 1:
		t.calm, t.tight = time.Time{}, now
		return t.to(1, state)
	case worst >= tightenAt:
		t.calm = time.Time{}
		if t.tight.IsZero() {
			t.tight = now
		}
		if t.share > t.least && (worst >= rushAt || now.Sub(t.tight) >= tightenFor) {
			t.tight = now
			return t.to(max(t.least, min(t.share, 1)/2), state+fmt.Sprintf(", above %.0f%%", tightenAt*100))
		}
	case worst < loosenAt:
		t.tight = time.Time{}
		if t.calm.IsZero() {
			t.calm = now
		}
		if t.share < 1 && now.Sub(t.calm) >= loosenFor {
			t.calm = now
			return t.to(min(1, t.share*2), fmt.Sprintf("%s for %v", state, loosenFor))
		}
		lately := !t.needed.IsZero() && now.Sub(t.needed) < growFor
		if t.share >= 1 && t.share < t.most && lately && !t.roomy.IsZero() && now.Sub(t.roomy) >= growFor {
			t.calm, t.roomy, t.needed = now, now, time.Time{}
			return t.to(min(t.most, t.share*2), "queues overflow, and only "+state)
		}
		if t.share > 1 && !lately && now.Sub(t.calm) >= 10*loosenFor {
			t.calm = now
			return t.to(max(1, t.share/2), "no queue has overflowed for a while")
		}
	default:
		t.tight, t.calm = time.Time{}, time.Time{}
		if t.share > 1 {
			return t.to(1, state)
		}
	}
	return ""
}

func (t *Tuner) to(share float64, why string) string {
	from := t.share
	t.share = share
	return fmt.Sprintf("queues and windows from %.4g%% to %.4g%% of the configuration: %s", from*100, share*100, why)
}

// pace slows the most frequent heartbeats down while load is shed or memory is short:
// under load every connection looks bad, would be asked more often, and each answer
// costs a wake-up on both sides.
func (t *Tuner) pace(p Pressure) string {
	switch slow := p.Level >= overload.Degraded || t.share <= 0.5; {
	case slow && !t.slow:
		t.slow = true
		return "heartbeats no more often than a new connection's: " + p.Level.String() + " load"
	case t.slow && p.Level == overload.Normal && t.share >= 1:
		t.slow = false
		return "heartbeats as each connection needs them: calm again"
	}
	return ""
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// bounds is what a share means for the hub.
func (c *Config) bounds(share float64, slow bool) relay.Bounds {
	b := relay.Bounds{Recent: min(share, 1), Queue: queue.Limits{Items: max(16, int(share*float64(c.Queue.Frames))), Bytes: int(share * float64(c.Queue.Bytes))}}
	if slow {
		// Not longer: a dead peer that is found late keeps what others send it for as long.
		b.HeartbeatMin = time.Duration(c.Session.Heartbeat)
	}
	return b
}

// An adaptiveEntry is the data of an entry about a node's own bounds.
type adaptiveEntry struct {
	Node   string       `json:"node"`
	Share  float64      `json:"share"`
	Slow   bool         `json:"slow_heartbeats"`
	Memory float64      `json:"memory"`
	Queue  float64      `json:"queue"`
	Level  string       `json:"level"`
	Bounds relay.Bounds `json:"bounds"`
}

// runAdaptive keeps the hub's bounds fitting until ctx ends.
func (a *App) runAdaptive(ctx context.Context) error {
	if !a.cfg.Adaptive.Enabled {
		<-ctx.Done()
		return nil
	}
	tuner := NewTuner(a.cfg.Adaptive)
	beat := time.NewTicker(tuneEvery)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-beat.C:
			p := a.pressure()
			share, slow, why := tuner.Look(now, p)
			if why == "" {
				continue
			}
			b := a.cfg.bounds(share, slow)
			a.hub.Adjust(b)
			a.acting.share.Store(int64(share * 1e6))
			a.log.Info("own bounds changed", "reason", why, slog.Int("queue_frames", b.Queue.Items), slog.Int("queue_bytes", b.Queue.Bytes), "recent", b.Recent)
			a.logAdaptive(ctx, now, p, share, slow, why, b)
		}
	}
}

// logAdaptive writes the change into the scaling log. It is tried once: the next
// change says where the bounds stand.
func (a *App) logAdaptive(ctx context.Context, now time.Time, p Pressure, share float64, slow bool, why string, b relay.Bounds) {
	e, err := scale.NewEntry(scale.KindConfig, now, a.cfg.Node, a.cfg.Region, a.cfg.Node+" adapts: "+why,
		adaptiveEntry{Node: a.cfg.Node, Share: share, Slow: slow, Memory: p.Memory, Queue: p.Queue, Level: p.Level.String(), Bounds: b})
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err = a.scaling.Write(ctx, e)
	}
	if err != nil {
		a.log.Warn("a change of the own bounds could not be written to the scaling log", "error", err)
	}
}

// pressure reads what the bounds follow.
func (a *App) pressure() Pressure {
	s := a.hub.Stats()
	p := Pressure{Level: a.hub.Level(), Queue: float64(s.QueueBytes) / float64(max(a.cfg.Queue.TotalBytes, 1)), Dropped: s.Dropped["queue_full"] + s.Closed[4002]}
	if a.memory != nil {
		if used, limit := a.memory(); limit > 0 {
			p.Memory = float64(used) / float64(limit)
		}
	}
	return p
}
