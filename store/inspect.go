package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// An Inspection is what a database file is, read without changing it.
type Inspection struct {
	Path   string
	Schema int   // version of its schema
	Knows  int   // newest schema that this program knows
	Bytes  int64 // of the file
	WAL    int64 // of its write-ahead log
	Free   int64 // bytes inside the file that nothing uses
}

// Inspect looks into the database at path and verifies it as far as level asks.
// It writes nothing, runs no migration, and works beside a server. alone says
// that nobody else has the file open, as with a backup: then not even its shared
// memory is touched. The errors are those of Open: ErrForeign, ErrCorrupt and
// ErrNewerSchema, the last with a complete Inspection.
func Inspect(ctx context.Context, path string, level CheckLevel, alone bool) (Inspection, error) {
	path, err := filepath.Abs(path) // a name within an URI
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	i, err := inspect(ctx, path, level, alone)
	if err != nil {
		return i, fmt.Errorf("inspect %s: %w", path, err)
	}
	return i, nil
}

func inspect(ctx context.Context, path string, level CheckLevel, alone bool) (Inspection, error) {
	i := Inspection{Path: path, Knows: len(migrations())}
	info, err := os.Stat(path)
	if err != nil {
		return i, err
	}
	if !info.Mode().IsRegular() {
		return i, fmt.Errorf("%w: it is no regular file", ErrForeign)
	}
	i.Bytes = info.Size()
	if wal, err := os.Stat(path + "-wal"); err == nil {
		i.WAL = wal.Size()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return i, err
	}
	s := &Store{dir: filepath.Dir(path), path: path}
	opening := looking
	if alone {
		opening = frozen
	}
	s.write = pool(path, opening, defaultBusyWait, 1) // identify and check ask this pool; it cannot write
	defer s.write.Close()
	if i.Schema, err = s.identify(ctx); err != nil {
		return i, s.explain(err)
	}
	var size, free int64
	if err := s.write.QueryRowContext(ctx, `SELECT page_size, freelist_count FROM pragma_page_size, pragma_freelist_count`).Scan(&size, &free); err != nil {
		return i, s.explain(err)
	}
	i.Free = size * free
	if i.Schema > i.Knows {
		return i, fmt.Errorf("%w of agentnet: it has schema %d, this program knows %d: use the newer program", ErrNewerSchema, i.Schema, i.Knows)
	}
	if level == CheckNone || i.Schema == 0 {
		return i, nil
	}
	if err := s.check(ctx, s.write, level); err != nil {
		return i, s.explain(err)
	}
	return i, nil
}

// viewing sets what a connection that only looks is opened with.
func viewing(q url.Values, a access) {
	q.Set("mode", "ro")
	q.Set("_query_only", "on")
	if a == frozen {
		q.Set("immutable", "1")
	}
}

// CopyFile writes a whole copy of the database at path to the file to, which must
// not exist. It reads a snapshot and works beside a server, which goes on
// writing; unlike Open it runs no migration.
func CopyFile(ctx context.Context, path, to string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	s := &Store{dir: filepath.Dir(path), path: path}
	db := pool(path, copying, defaultBusyWait, 1)
	defer db.Close()
	if err := copyInto(ctx, db, to); err != nil {
		return fmt.Errorf("copy %s: %w", path, s.explain(err))
	}
	return nil
}
