package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"agentnet/app/notify"
	"agentnet/store"
)

const (
	// deliveriesWait bounds the deliveries that are not yet stored.
	deliveriesWait = 256
	// deliveriesTime bounds one write of them.
	deliveriesTime = 5 * time.Second
	// deliveriesPast is how many are shown again after a restart.
	deliveriesPast = 200
)

// deliveries stores what became of notifications, off the path of those who send.
type deliveries struct {
	store *store.Store
	log   *slog.Logger
	queue chan notify.Delivery
	lost  atomic.Uint64 // that found no room, or could not be written
}

func newDeliveries(s *store.Store, log *slog.Logger) *deliveries {
	return &deliveries{store: s, log: log, queue: make(chan notify.Delivery, deliveriesWait)}
}

// past lists what was delivered before this start.
func (d *deliveries) past(ctx context.Context) []notify.Delivery {
	list, err := d.store.Deliveries(ctx, notify.DeliveryFilter{Limit: deliveriesPast})
	if err != nil {
		d.log.Warn("the log of deliveries could not be read", "error", err)
	}
	return list
}

// put never waits.
func (d *deliveries) put(one notify.Delivery) {
	select {
	case d.queue <- one:
	default:
		d.lost.Add(1)
	}
}

// run writes until ctx ends, and then what is left.
func (d *deliveries) run(ctx context.Context) error {
	for {
		select {
		case one := <-d.queue:
			d.write(ctx, one)
		case <-ctx.Done():
			return nil
		}
	}
}

// flush writes what is left once nobody puts any more.
func (d *deliveries) flush() {
	select {
	case one := <-d.queue:
		d.write(context.Background(), one)
	default:
	}
}

// write stores one delivery and all that wait with it.
func (d *deliveries) write(ctx context.Context, one notify.Delivery) {
	list := []notify.Delivery{one}
	for more := true; more && len(list) < deliveriesWait; {
		select {
		case one := <-d.queue:
			list = append(list, one)
		default:
			more = false
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliveriesTime)
	defer cancel()
	if err := d.store.AppendDeliveries(ctx, list); err != nil {
		d.lost.Add(uint64(len(list)))
		d.log.Warn("deliveries were not written down", "count", len(list), "error", err)
	}
}
