// Package store keeps what must outlive the process in one SQLite file: tokens
// and settings now; the scaling log, samples, accounts and audit as they come,
// each concern in a file and a migration of its own.
//
// What must be the same on all nodes is written with recordChange in the same
// transaction and applied there by the concern's applier (change.go).
//
// It is never on the path of a message. Writes go through one goroutine that
// commits what waits together, and a write that was acknowledged is on stable
// storage (WAL, synchronous=FULL). Reads have a small pool of their own and are
// not held up by writes. Several processes may open one data directory, because
// commands such as "token create" run beside a server; two servers may not, which
// is what Lock is for.
//
// The package knows no HTTP, no relay and no secrets: of a token it holds a hash.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// FileName is the name of the database within the data directory.
const FileName = "agentnet.db"

const (
	// defaultBusyWait is how long a statement waits for another process's lock.
	defaultBusyWait = 5 * time.Second
	// defaultWriteWait is how long a write waits in the queue when its context
	// has no deadline of its own.
	defaultWriteWait = 10 * time.Second
	// readWait bounds a read whose context has no deadline.
	readWait = 5 * time.Second
	readers  = 4
	watchers = 4
)

// CheckLevel says how much of an existing database is verified when it is opened.
type CheckLevel int

const (
	CheckNone  CheckLevel = iota // trust it; damage shows when it is met
	CheckQuick                   // structure of all pages, not the indexes
	CheckFull                    // structure, indexes and constraints
)

// Config says where the database is and how it is opened.
type Config struct {
	// Dir is the data directory. It is created with mode 0700 when it is missing.
	Dir string
	// Lock is what Lock(Dir) returned, for a server. A command that runs beside a
	// server leaves it nil: then Open takes the lock for the time of a migration.
	Lock *DirLock
	// Logger takes what is noteworthy; nil discards it.
	Logger *slog.Logger
	// Check verifies an existing database before it is used.
	Check CheckLevel
	// BusyWait is how long a statement waits for the lock of another process.
	// 0 is 5 s.
	BusyWait time.Duration
	// MaxBytes bounds how large the file may grow; a write that needs more is an
	// ErrFull. 0: as large as the disk.
	MaxBytes int64
	// QueueLength bounds the writes that wait. 0 is 1024.
	QueueLength int
	// Now is the wall clock that changes are ordered by. nil is time.Now.
	Now func() time.Time
}

// A Store is an open database. Its methods may be called concurrently.
type Store struct {
	// Fixed at construction.
	dir      string
	path     string
	log      *slog.Logger
	now      func() time.Time
	appliers map[string]applier // by kind of change
	write    *sql.DB            // one connection, used by the writer goroutine only
	read     *sql.DB
	watcher  *sql.DB // a connection for each Watch, which keeps it
	writer   *writer

	trimming sync.Mutex // held while the scaling log is trimmed

	heads sync.Mutex // held while the file of noted log ends is read or replaced

	closeOnce sync.Once
	closeErr  error
}

// Open opens the database of cfg.Dir, creates it when it is missing and brings
// its schema up to date. The errors ErrCorrupt, ErrNewerSchema, ErrForeign and
// ErrLocked are told apart with errors.Is; the text says what to do.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	return openSteps(ctx, cfg, migrations())
}

// openSteps is Open with the migrations as an argument, for tests.
func openSteps(ctx context.Context, cfg Config, steps []migration) (_ *Store, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("open store: no data directory was given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.BusyWait <= 0 {
		cfg.BusyWait = defaultBusyWait
	}
	if cfg.QueueLength <= 0 {
		cfg.QueueLength = 1024
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{dir: dir, path: filepath.Join(dir, FileName), log: cfg.Logger, now: cfg.Now}
	s.appliers = s.newAppliers()
	if err := prepareFiles(s.dir, s.path, s.log); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("open store: %w", s.explain(err))
			s.closePools()
		}
	}()
	s.write = pool(s.path, writing, cfg.BusyWait, 1)
	if err := s.prepareSchema(ctx, cfg, steps); err != nil {
		return nil, err
	}
	if err := s.bound(ctx, cfg.MaxBytes); err != nil {
		return nil, err
	}
	s.read = pool(s.path, reading, cfg.BusyWait, readers)
	s.watcher = pool(s.path, reading, cfg.BusyWait, watchers)
	if err := s.read.PingContext(ctx); err != nil {
		return nil, err
	}
	s.writer = newWriter(s.write, s.explain, s.log, cfg.QueueLength)
	if err := s.applyPending(ctx); err != nil {
		s.writer.close()
		return nil, fmt.Errorf("apply changes of a newer version: %w", err)
	}
	return s, nil
}

// prepareFiles makes the directory and the file with modes that keep others out.
// SQLite gives its -wal and -shm files the mode of the database.
func prepareFiles(dir, path string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	_, missing := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil && missing != nil {
		// A power cut must not take the names away from data that was acknowledged.
		err = errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
	}
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w; the data directory must belong to the user that runs agentnet: chown -R %d:%d %s",
			err, os.Getuid(), os.Getgid(), dir)
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if wide := info.Mode().Perm() &^ 0o600; wide != 0 {
		if err := f.Chmod(0o600); err != nil {
			return fmt.Errorf("%s is open to other users (mode %04o) and cannot be closed to them: %w", path, info.Mode().Perm(), err)
		}
		log.Warn("the database was open to other users, its mode is 0600 now", "path", path, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
	}
	return nil
}

// Dir returns the data directory as an absolute path.
func (s *Store) Dir() string { return s.dir }

// Path returns the path of the database file.
func (s *Store) Path() string { return s.path }

// Size returns the bytes of the database and of its write-ahead log.
func (s *Store) Size() (database, wal int64) {
	if info, err := os.Stat(s.path); err == nil {
		database = info.Size()
	}
	if info, err := os.Stat(s.path + "-wal"); err == nil {
		wal = info.Size()
	}
	return database, wal
}

// Close takes no more writes, waits for those that were accepted, folds the
// write-ahead log into the database and closes it.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.writer.close()
		s.closeErr = s.checkpoint()
		s.closeErr = errors.Join(s.closeErr, s.closePools())
	})
	return s.closeErr
}

// checkpoint empties the write-ahead log. Another process that reads just now
// may keep it from that: then the log stays and the next Open takes it in.
func (s *Store) checkpoint() error {
	var busy, pages, moved int
	err := s.write.QueryRow(`PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved)
	if err != nil && !isBusy(err) {
		return fmt.Errorf("close store: checkpoint: %w", s.explain(err))
	}
	if err != nil || busy != 0 {
		s.log.Info("the write-ahead log stays, another process uses the database", "path", s.path)
	}
	return nil
}

func (s *Store) closePools() error {
	var errs []error
	for _, db := range []*sql.DB{s.watcher, s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// bounded gives a deadline to a read that has none.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, readWait)
}
