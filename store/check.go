package store

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
)

// Check verifies the database while it is in use. It reads all of it, so that it
// may take seconds on a large one. Damage is an ErrCorrupt that names what was
// found.
func (s *Store) Check(ctx context.Context, level CheckLevel) error {
	if level == CheckNone {
		return nil
	}
	if err := s.check(ctx, s.read, level); err != nil {
		return fmt.Errorf("check store: %w", s.explain(err))
	}
	return nil
}

func (s *Store) check(ctx context.Context, db *sql.DB, level CheckLevel) error {
	pragma := `PRAGMA quick_check(5)`
	if level == CheckFull {
		pragma = `PRAGMA integrity_check(5)`
	}
	rows, err := db.QueryContext(ctx, pragma)
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return err
		}
		if line != "ok" {
			found = append(found, line)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if len(found) > 0 {
		return s.corrupt(strings.Join(found, "; "))
	}
	return nil
}

// Backup writes a whole copy of the database to path, which must not exist. It
// reads a snapshot: writes go on meanwhile.
func (s *Store) Backup(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	db := pool(s.path, copying, defaultBusyWait, 1)
	defer db.Close()
	if err := copyInto(ctx, db, path); err != nil {
		return fmt.Errorf("backup to %s: %w", path, s.explain(err))
	}
	return nil
}
