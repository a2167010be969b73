package store

import (
	"testing"
	"time"

	"agentnet/app/notify"
)

func TestDeliveries(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	at := time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)
	var all []notify.Delivery
	for i := range MaxDeliveries + 50 {
		d := notify.Delivery{At: at.Add(time.Duration(i) * time.Second), Message: "m", Channel: []string{"ops", "mail"}[i%2], Kind: "webhook", Target: "h", Rules: "cpu_warning",
			Severity: notify.Critical, Outcome: notify.Sent, Tries: 1 + i%3, Took: 1500 * time.Microsecond, Status: 200, Title: "never stored", Answer: "200 never stored"}
		if i%10 == 0 {
			d.Outcome, d.Status, d.Class, d.Fault = notify.Failed, 0, "timeout", "never stored"
		}
		all = append(all, d)
	}
	for len(all) > 0 {
		n := min(1000, len(all))
		if err := s.AppendDeliveries(t.Context(), all[:n]); err != nil {
			t.Fatal(err)
		}
		all = all[n:]
	}
	page, err := s.Deliveries(t.Context(), notify.DeliveryFilter{Limit: 3})
	if err != nil || len(page) != 3 {
		t.Fatalf("got %d rows, %v", len(page), err)
	}
	want := notify.Delivery{ID: MaxDeliveries + 50, At: at.Add((MaxDeliveries + 49) * time.Second), Message: "m", Channel: "mail", Kind: "webhook", Target: "h", Rules: "cpu_warning",
		Severity: notify.Critical, Outcome: notify.Sent, Tries: 1 + (MaxDeliveries+49)%3, Took: 1500 * time.Microsecond, Status: 200}
	if got := page[0]; !got.At.Equal(want.At) {
		t.Errorf("at: got %v, want %v", got.At, want.At)
	} else if got.At = want.At; got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var count int
	if err := s.read.QueryRow(`SELECT count(*) FROM notify_delivery`).Scan(&count); err != nil || count != MaxDeliveries {
		t.Errorf("%d rows are kept, want %d (%v)", count, MaxDeliveries, err)
	}
	failed, err := s.Deliveries(t.Context(), notify.DeliveryFilter{Channel: "ops", Outcome: notify.Failed, Before: page[2].ID, Limit: 1000})
	if err != nil || len(failed) != 1000 {
		t.Fatalf("got %d rows, %v", len(failed), err)
	}
	for i, d := range failed {
		if d.Channel != "ops" || d.Outcome != notify.Failed || d.Class != "timeout" || d.ID >= page[2].ID || i > 0 && d.ID >= failed[i-1].ID {
			t.Fatalf("row %d: %+v", i, d)
		}
	}
}
