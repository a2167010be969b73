package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

const (
	// backupDir holds the copies that are made before a migration.
	backupDir = "backups"
	// keepBackups is how many of them stay.
	keepBackups = 5
)

// A migration brings the schema from one version to the next; its place in the
// list, counted from 1, is the version that it leads to.
type migration struct{ name, sql string }

// migrations returns the embedded ones in order. The names start with four
// digits that count from 0001; a test holds that.
func migrations() []migration {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	slices.Sort(names)
	list := make([]migration, 0, len(names))
	for _, n := range names {
		b, err := migrationFiles.ReadFile(n)
		if err != nil {
			panic(err) // the file is part of the program
		}
		list = append(list, migration{name: filepath.Base(n), sql: string(b)})
	}
	return list
}

// prepareSchema verifies that the file is ours and whole as far as cfg.Check
// asks, and runs the migrations that it lacks.
func (s *Store) prepareSchema(ctx context.Context, cfg Config, steps []migration) error {
	version, err := s.identify(ctx)
	if err != nil {
		return err
	}
	if version > len(steps) {
		return fmt.Errorf("%w of agentnet: %s has schema %d, this program knows %d: use the newer program, or restore a backup from %s",
			ErrNewerSchema, s.path, version, len(steps), filepath.Join(s.dir, backupDir))
	}
	if version > 0 && cfg.Check != CheckNone {
		if err := s.check(ctx, s.write, cfg.Check); err != nil {
			return err
		}
	}
	if version == 0 {
		// It counts only before the first page is written: space that retention
		// frees can be given back later without rewriting the file.
		if _, err := s.write.ExecContext(ctx, `PRAGMA auto_vacuum = INCREMENTAL`); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if err := s.useWAL(ctx, cfg.BusyWait); err != nil {
		return err
	}
	if version == len(steps) {
		return nil
	}
	if version > 0 {
		if cfg.Lock == nil || !cfg.Lock.holds(s.dir) {
			lock, err := Lock(s.dir)
			if err != nil {
				return fmt.Errorf("the database needs an upgrade from schema %d to %d, which a running server does not survive: %w", version, len(steps), err)
			}
			defer lock.Unlock()
		}
		if err := s.backupBefore(ctx, version); err != nil {
			return fmt.Errorf("backup before the upgrade from schema %d to %d: %w", version, len(steps), err)
		}
	}
	return s.migrate(steps)
}

// identify returns the schema version, 0 for a file without tables. It reads in
// one transaction: another process may be making the tables at this moment.
func (s *Store) identify(ctx context.Context) (version int, err error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("read header: %w", err)
	}
	defer conn.Close()
	// Not BeginTx, which takes the write lock here: to take it would fix properties
	// of an empty file that are still to be set.
	if _, err := conn.ExecContext(ctx, `BEGIN DEFERRED`); err != nil {
		return 0, fmt.Errorf("read header: %w", err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), `ROLLBACK`)
	var app, tables int
	for _, q := range []struct {
		text string
		into *int
	}{
		{`PRAGMA application_id`, &app},
		{`PRAGMA user_version`, &version},
		{`SELECT count(*) FROM sqlite_schema`, &tables},
	} {
		if err := conn.QueryRowContext(ctx, q.text).Scan(q.into); err != nil {
			return 0, fmt.Errorf("read header: %w", err)
		}
	}
	if (tables > 0 || version != 0) && app != applicationID {
		return 0, fmt.Errorf("%w: %s has the application id %#x, not %#x: give another --data or move the file away", ErrForeign, s.path, app, applicationID)
	}
	if version < 0 || (version == 0 && tables > 0) {
		return 0, s.corrupt(fmt.Sprintf("there are %d tables but the schema version is %d", tables, version))
	}
	return version, nil
}

// useWAL switches the file to write-ahead logging. SQLite does not wait for
// another process at this switch, so that the waiting is done here.
func (s *Store) useWAL(ctx context.Context, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		var mode string
		err := s.write.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode)
		if err == nil && mode == "wal" {
			return nil
		}
		if err == nil {
			return fmt.Errorf("%s is on a file system without shared memory (journal mode %q): use a local disk", s.dir, mode)
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return fmt.Errorf("switch to write-ahead log: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// migrate runs what is missing in one transaction: another process finds the schema
// of before or that of after. The version is read again inside, because another
// process may have been faster.
func (s *Store) migrate(steps []migration) error {
	tx, err := s.write.BeginTx(context.Background(), nil) // a cancelled context would break the transaction in half
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer tx.Rollback()
	var version int
	if err := tx.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if version >= len(steps) {
		return nil
	}
	for _, step := range steps[version:] {
		if _, err := tx.Exec(step.sql); err != nil {
			return fmt.Errorf("migration %s: %w", step.name, err)
		}
	}
	if _, err := tx.Exec(fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d`, applicationID, len(steps))); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	s.log.Info("the database schema was upgraded", "from", version, "to", len(steps))
	return nil
}

// backupBefore copies the database as it is and keeps the newest few copies.
func (s *Store) backupBefore(ctx context.Context, version int) error {
	dir := filepath.Join(s.dir, backupDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := fmt.Sprintf("before-schema-%04d-%s.db", version+1, time.Now().UTC().Format("20060102T150405.000000000Z"))
	path := filepath.Join(dir, name)
	if err := copyInto(ctx, s.write, path); err != nil {
		return s.explain(err)
	}
	s.log.Info("a copy of the database was made before its upgrade", "path", path)
	old, err := filepath.Glob(filepath.Join(dir, "before-schema-*.db"))
	if err != nil {
		return err
	}
	slices.SortFunc(old, func(a, b string) int { return strings.Compare(stamp(a), stamp(b)) })
	for len(old) > keepBackups {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	return nil
}

// stamp is the time within the name of a copy.
func stamp(path string) string {
	_, after, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), "before-schema-"), "-")
	return after
}

// copyInto writes a whole, compact copy to path, which must not exist. It is
// complete under that name or not there at all.
func copyInto(ctx context.Context, db *sql.DB, path string) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	part := path + ".part"
	// VACUUM INTO takes an empty file; making it first gives it the right mode.
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(part)
		}
	}()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, part); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
