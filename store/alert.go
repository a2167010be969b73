package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"agentnet/app/scale"
)

// PutAlerts stores changed alerts and removes those that are at rest, by their
// keys, in one transaction.
func (s *Store) PutAlerts(ctx context.Context, changed []scale.Alert, rest []string) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		for i := range changed {
			raw, err := json.Marshal(&changed[i])
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO alert_state (name, state) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET state = excluded.state`, changed[i].Key(), string(raw)); err != nil {
				return err
			}
		}
		for _, key := range rest {
			if _, err := tx.Exec(`DELETE FROM alert_state WHERE name = ?`, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put alerts: %w", err)
	}
	return nil
}

// Alerts returns the stored alerts, by their keys.
func (s *Store) Alerts(ctx context.Context) ([]scale.Alert, error) {
	return readJSON[scale.Alert](ctx, s, "alerts", `SELECT state FROM alert_state ORDER BY name`)
}

// PutSilences replaces all silences.
func (s *Store) PutSilences(ctx context.Context, all []scale.Silence) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM silence`); err != nil {
			return err
		}
		for i := range all {
			raw, err := json.Marshal(&all[i])
			if err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO silence (id, silence) VALUES (?, ?)`, all[i].ID, string(raw)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put silences: %w", err)
	}
	return nil
}

// Silences returns the stored silences, also those that have ended since.
func (s *Store) Silences(ctx context.Context) ([]scale.Silence, error) {
	return readJSON[scale.Silence](ctx, s, "silences", `SELECT silence FROM silence ORDER BY id`)
}

// readJSON reads a column of JSON. A row that cannot be read is told and left out:
// one damaged silence must not keep a node from starting.
func readJSON[T any](ctx context.Context, s *Store, what, query string) ([]T, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, s.explain(err))
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var raw string
		var v T
		if err := rows.Scan(&raw); err != nil {
			return nil, fmt.Errorf("read %s: %w", what, s.explain(err))
		}
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			s.log.Warn("a stored row cannot be read and is left out", "what", what, "error", err)
			continue
		}
		out = append(out, v)
	}
	return out, s.explain(rows.Err())
}
