package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Bounds of one call of Compact: the writer is not held longer than some
// milliseconds at a time.
const (
	compactPages = 256
	compactSteps = 64
	// keepFree is what stays inside the file for the writes to come: to give back
	// what is needed again a moment later is work for nothing.
	keepFree = 4 << 20
)

// Compact gives free space inside the file back to the disk, in small steps
// between other writes, and returns how many bytes that were. It never rewrites
// the file.
func (s *Store) Compact(ctx context.Context) (freed int64, err error) {
	for range compactSteps {
		n, err := write(ctx, s, compactOnce)
		if err != nil {
			return freed, fmt.Errorf("compact database: %w", err)
		}
		if freed += n; n == 0 {
			break
		}
	}
	return freed, nil
}

func compactOnce(tx *sql.Tx) (int64, error) {
	var size, before, after int64
	if err := tx.QueryRow(`SELECT page_size, freelist_count FROM pragma_page_size, pragma_freelist_count`).Scan(&size, &before); err != nil {
		return 0, err
	}
	surplus := before - keepFree/size
	if surplus <= 0 {
		return 0, nil
	}
	// The pragma frees one page a row.
	rows, err := tx.Query(fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(surplus, compactPages)))
	if err != nil {
		return 0, err
	}
	for rows.Next() {
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if err := rows.Close(); err != nil {
		return 0, err
	}
	if err := tx.QueryRow(`SELECT freelist_count FROM pragma_freelist_count`).Scan(&after); err != nil {
		return 0, err
	}
	return (before - after) * size, nil
}

// bound limits how large the file may grow; what it holds already may stay.
func (s *Store) bound(ctx context.Context, maxBytes int64) error {
	if maxBytes <= 0 {
		return nil
	}
	var size int64
	if err := s.write.QueryRowContext(ctx, `PRAGMA page_size`).Scan(&size); err != nil {
		return err
	}
	var got int64
	return s.write.QueryRowContext(ctx, fmt.Sprintf(`PRAGMA max_page_count = %d`, max(1, maxBytes/size))).Scan(&got)
}
