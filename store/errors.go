package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("exists already")
	ErrClosed      = errors.New("the store is closed")
	ErrQueueFull   = errors.New("the database cannot keep up with writes, nothing was written")
	ErrUnknown     = errors.New("the write was not confirmed in time, it may still happen")
	ErrCorrupt     = errors.New("the database is damaged")
	ErrForeign     = errors.New("the database belongs to another program")
	ErrNewerSchema = errors.New("the database was written by a newer version")
	ErrFull        = errors.New("the disk is full")
	ErrReadOnly    = errors.New("the database cannot be written")
	ErrBusy        = errors.New("another process holds the database")
	ErrLocked      = errors.New("the data directory is in use by another server")
)

// explain turns what SQLite says into one of the errors above with the file and
// a way out. Other errors are returned as they are.
func (s *Store) explain(err error) error {
	var se sqlite3.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Code {
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return s.corrupt(err.Error())
	case sqlite3.ErrFull:
		return fmt.Errorf("%w: %s: free some space, or raise database.max_bytes where that is what was reached; nothing was written: %v", ErrFull, s.dir, err)
	case sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrCantOpen:
		return fmt.Errorf("%w: %s: check owner, mode and mount of the data directory: %v", ErrReadOnly, s.path, err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fmt.Errorf("%w: %s: %v", ErrBusy, s.path, err)
	case sqlite3.ErrIoErr:
		return fmt.Errorf("%s: the disk or its file system failed: %w", s.path, err)
	case sqlite3.ErrInterrupt:
		return fmt.Errorf("%w: %v", context.DeadlineExceeded, err)
	default:
		return err
	}
}

func (s *Store) corrupt(detail string) error {
	return fmt.Errorf("%w: %s: %s; stop the server, move %s* away and put a backup in its place (%s may hold some)",
		ErrCorrupt, s.path, detail, FileName, filepath.Join(s.dir, backupDir))
}

func isBusy(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && (se.Code == sqlite3.ErrBusy || se.Code == sqlite3.ErrLocked)
}

func isConstraint(err error) bool {
	var se sqlite3.Error
	return errors.As(err, &se) && se.Code == sqlite3.ErrConstraint
}
