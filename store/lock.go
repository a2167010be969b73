package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// lockFile is held with flock by the server of a data directory. The kernel lets
// it go when the process ends, however it ends, so that nothing is left behind.
const lockFile = "lock"

// A DirLock is the right to be the one server of a data directory.
type DirLock struct {
	dir  string
	mu   sync.Mutex
	file *os.File // nil once it is released
}

// Lock takes the data directory for a server and creates it when it is missing.
// ErrLocked, with the process id of the holder when it is known, means that
// another server runs on it.
func Lock(dir string) (*DirLock, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		return nil, fmt.Errorf("%w: %s (process %s): stop it, or give this one another --data", ErrLocked, dir, pidText(holder[:n]))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data directory: %s: %w", path, err)
	}
	// The number is for people; that it could not be written changes nothing.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(fmt.Sprintln(os.Getpid())), 0)
	}
	return &DirLock{dir: dir, file: f}, nil
}

func pidText(b []byte) string {
	s := strings.TrimSpace(string(b))
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return "unknown"
	}
	return s
}

// Unlock gives the directory free. Only the first call counts. The file stays:
// to remove it would let two servers hold two files of one name.
func (l *DirLock) Unlock() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

func (l *DirLock) holds(dir string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file != nil && l.dir == dir
}
