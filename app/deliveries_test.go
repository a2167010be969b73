package app

import (
	"log/slog"
	"testing"

	"agentnet/app/notify"
	"agentnet/store"
)

// TestLostDeliveriesAreCounted fills the queue of deliveries that nobody writes,
// and then has a write fail.
func TestLostDeliveriesAreCounted(t *testing.T) {
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d := newDeliveries(s, slog.New(slog.DiscardHandler))
	for range deliveriesWait + 44 {
		d.put(notify.Delivery{Channel: "ops"})
	}
	if got := d.lost.Load(); got != 44 {
		t.Errorf("without room: got %d lost, want 44", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	d.flush()
	if got := d.lost.Load(); got != 44+deliveriesWait {
		t.Errorf("with a closed database: got %d lost, want %d", got, 44+deliveriesWait)
	}
}
