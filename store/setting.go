package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// maxSetting bounds the bytes of one setting.
const maxSetting = 64 << 10

// Setting returns the value stored under name. ErrNotFound: there is none.
func (s *Store) Setting(ctx context.Context, name string) (value string, changed time.Time, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var ms int64
	err = s.read.QueryRowContext(ctx, `SELECT value, changed_ms FROM setting WHERE name = ?`, name).Scan(&value, &ms)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("setting %q: %w", name, s.explain(err))
	}
	return value, fromMS(ms), nil
}

// PutSetting stores value, at most 64 KiB, under name.
func (s *Store) PutSetting(ctx context.Context, name, value string, now time.Time) error {
	if name == "" || len(name) > 128 || len(value) > maxSetting {
		return fmt.Errorf("setting %.128q: the name must have 1 to 128 bytes and the value at most %d, not %d and %d", name, maxSetting, len(name), len(value))
	}
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_ms = excluded.changed_ms`, name, value, toMS(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("put setting %q: %w", name, err)
	}
	return nil
}

// SettingOnce stores value under name unless there is one, and returns the one that
// is there.
func (s *Store) SettingOnce(ctx context.Context, name, value string, now time.Time) (string, error) {
	if name == "" || len(name) > 128 || len(value) > maxSetting {
		return "", fmt.Errorf("setting %.128q: the name must have 1 to 128 bytes and the value at most %d, not %d and %d", name, maxSetting, len(name), len(value))
	}
	found, err := write(ctx, s, func(tx *sql.Tx) (found string, err error) {
		if _, err := tx.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING`, name, value, toMS(now)); err != nil {
			return "", err
		}
		err = tx.QueryRow(`SELECT value FROM setting WHERE name = ?`, name).Scan(&found)
		return found, err
	})
	if err != nil {
		return "", fmt.Errorf("put setting %q once: %w", name, err)
	}
	return found, nil
}

// toMS is how times are stored; the zero time is 0.
func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
