package relay

import (
	"fmt"
	"testing"
	"time"

	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

func TestAdjustStaysWithinTheConfiguration(t *testing.T) {
	cfg := Config{Authorizer: &grants{ids: map[string]*Identity{}}, HeartbeatMin: 10 * time.Second, HeartbeatMax: 60 * time.Second,
		Queue: queue.Limits{Items: 100, Bytes: 1 << 20}, Limits: wire.Limits{FrameBytes: 64 << 10}}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	whole := Bounds{Queue: cfg.Queue, HeartbeatMin: 10 * time.Second, HeartbeatMax: 60 * time.Second, Recent: 1}
	with := func(change func(*Bounds)) Bounds { b := whole; change(&b); return b }
	for _, tt := range []struct {
		name      string
		set, want Bounds
	}{
		{"nothing said", Bounds{}, whole},
		{"smaller", Bounds{Queue: queue.Limits{Items: 50, Bytes: 512 << 10}, Recent: 0.5},
			with(func(b *Bounds) { b.Queue, b.Recent = queue.Limits{Items: 50, Bytes: 512 << 10}, 0.5 })},
		{"larger queues", Bounds{Queue: queue.Limits{Items: 200, Bytes: 2 << 20}},
			with(func(b *Bounds) { b.Queue = queue.Limits{Items: 200, Bytes: 2 << 20} })},
		{"too small for two frames", Bounds{Queue: queue.Limits{Items: 1, Bytes: 1}},
			with(func(b *Bounds) { b.Queue = queue.Limits{Items: 1, Bytes: 128 << 10} })},
		{"slow heartbeat", Bounds{HeartbeatMin: 40 * time.Second}, with(func(b *Bounds) { b.HeartbeatMin = 40 * time.Second })},
		{"heartbeat out of bounds", Bounds{HeartbeatMin: time.Hour, HeartbeatMax: time.Second},
			with(func(b *Bounds) { b.HeartbeatMin = 60 * time.Second })},
		{"no share", Bounds{Recent: 7}, whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.Adjust(tt.set)
			if got := h.Bounds(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAdjustShrinksWindowsOfChannels(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		p := w.join("alice")
		for i := range 40 {
			p.ok(publish("news", fmt.Sprint(i)))
		}
		length := func() int {
			sh := &w.hub.channels[w.hub.shardOf("news")]
			sh.mu.RLock()
			c := sh.m["news"]
			sh.mu.RUnlock()
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.window.Len()
		}
		if got := length(); got != 40 {
			t.Fatalf("window: got %d messages, want 40", got)
		}
		w.hub.Adjust(Bounds{Recent: 0.0625})
		time.Sleep(9 * time.Second)
		if got := length(); got != 16 {
			t.Errorf("window after the adjustment: got %d messages, want 16 of 256", got)
		}
	})
}
