package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"agentnet/app/notify"
)

// MaxDeliveries bounds the deliveries that are kept; the oldest make room.
const MaxDeliveries = 10_000

// AppendDeliveries adds deliveries to the log in one transaction, without what was
// said and answered.
func (s *Store) AppendDeliveries(ctx context.Context, list []notify.Delivery) error {
	if len(list) == 0 {
		return nil
	}
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		for i := range list {
			d := &list[i]
			if _, err := tx.Exec(`INSERT INTO notify_delivery (at_ms, message, channel, kind, target, rules, severity, test, outcome, tries, took_us, status, class)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, toMS(d.At), d.Message, d.Channel, d.Kind, d.Target, d.Rules, int(d.Severity), d.Test, string(d.Outcome),
				d.Tries, d.Took.Microseconds(), d.Status, d.Class); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM notify_delivery WHERE id <= (SELECT max(id) FROM notify_delivery) - ?`, MaxDeliveries)
		return err
	})
	if err != nil {
		return fmt.Errorf("append to the log of deliveries: %w", err)
	}
	return nil
}

// Deliveries lists one page of the log of deliveries, the newest first.
func (s *Store) Deliveries(ctx context.Context, f notify.DeliveryFilter) ([]notify.Delivery, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	where, args := []string{"1"}, []any{}
	add := func(clause string, arg any) { where, args = append(where, clause), append(args, arg) }
	if f.Channel != "" {
		add("channel = ?", f.Channel)
	}
	if f.Outcome != "" {
		add("outcome = ?", string(f.Outcome))
	}
	if f.Before > 0 {
		add("id < ?", int64(min(f.Before, 1<<62)))
	}
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 100
	}
	rows, err := s.read.QueryContext(ctx, `SELECT id, at_ms, message, channel, kind, target, rules, severity, test, outcome, tries, took_us, status, class
		FROM notify_delivery WHERE `+strings.Join(where, " AND ")+` ORDER BY id DESC LIMIT ?`, append(args, f.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("log of deliveries: %w", s.explain(err))
	}
	defer rows.Close()
	var out []notify.Delivery
	for rows.Next() {
		var d notify.Delivery
		var at, took int64
		if err := rows.Scan(&d.ID, &at, &d.Message, &d.Channel, &d.Kind, &d.Target, &d.Rules, &d.Severity, &d.Test, &d.Outcome, &d.Tries, &took, &d.Status, &d.Class); err != nil {
			return nil, fmt.Errorf("log of deliveries: %w", s.explain(err))
		}
		d.At, d.Took = fromMS(at), time.Duration(took)*time.Microsecond
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("log of deliveries: %w", s.explain(err))
	}
	return out, nil
}
