package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	snapshotName = "embedded.snapshot"
	runningName  = "embedded.running" // there while a Server runs: still there at a start, it was a crash
	keepCorrupt  = 3                  // unreadable snapshots that are kept for the operator
)

// snapshotFiles is the folder of one Server.
type snapshotFiles struct {
	dir     string
	log     *slog.Logger
	crashed bool // the last run did not stop in order
}

func openSnapshotFiles(dir string, log *slog.Logger) (*snapshotFiles, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := &snapshotFiles{dir: dir, log: log}
	_, err := os.Stat(f.path(runningName))
	f.crashed = err == nil
	if err := os.Remove(f.path(snapshotName + ".tmp")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f, nil
}

func (f *snapshotFiles) path(name string) string { return filepath.Join(f.dir, name) }

// markRunning notes durably that what is on disk is from now on not all.
func (f *snapshotFiles) markRunning() error {
	file, err := os.OpenFile(f.path(runningName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close(), syncDir(f.dir))
}

// markStopped takes the note away again.
func (f *snapshotFiles) markStopped() error {
	if err := os.Remove(f.path(runningName)); err != nil {
		return err
	}
	return syncDir(f.dir)
}

// load returns the snapshot, nil when there is none that can be used. One that
// cannot be read is put aside; the error is about the folder.
func (f *snapshotFiles) load(limit int64) (*snapshot, error) {
	path := f.path(snapshotName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, f.setAside(fmt.Errorf("%w: %d bytes, at most %d", errSnapshot, info.Size(), limit))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, f.setAside(err)
	}
	snap, err := decodeSnapshot(data)
	if err != nil {
		return nil, f.setAside(err)
	}
	return snap, nil
}

// setAside renames an unreadable snapshot and keeps the newest few.
func (f *snapshotFiles) setAside(cause error) error {
	name := snapshotName + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(f.path(snapshotName), f.path(name)); err != nil {
		return err
	}
	f.log.Error("embedded redis: the snapshot cannot be used; it was put aside and the store starts empty", "kept_as", name, "error", cause)
	old, err := filepath.Glob(f.path(snapshotName + ".corrupt-*"))
	if err != nil {
		return err
	}
	slices.Sort(old)
	for _, path := range old[:max(0, len(old)-keepCorrupt)] {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return syncDir(f.dir)
}

// replace writes a new snapshot beside the old one and then takes its place, so
// that there is always a whole one. It returns the size.
func (f *snapshotFiles) replace(write func(*os.File) error) (size int64, err error) {
	tmp := f.path(snapshotName + ".tmp")
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	if err = write(file); err == nil {
		err = file.Sync()
	}
	if info, serr := file.Stat(); serr == nil {
		size = info.Size()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(tmp, f.path(snapshotName))
	}
	if err != nil {
		os.Remove(tmp)
		return 0, err
	}
	return size, syncDir(f.dir)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Snapshot saves the content now. Without Config.Dir it does nothing.
func (s *Server) Snapshot() error {
	if s.files == nil {
		return nil
	}
	return s.save(false)
}

func (s *Server) save(clean bool) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	begin := time.Now()
	items := 0
	size, err := s.files.replace(func(f *os.File) error {
		w := newSnapshotWriter(f, 2*s.cfg.MaxBytes, s.now(), s.runID, clean)
		for it := range s.items() {
			if it.kind == kindStream && len(it.entries) == 0 {
				continue
			}
			w.item(it)
			if w.err != nil {
				break
			}
		}
		items = w.items
		return w.end()
	})
	if err != nil {
		s.failed.Add(1)
		return fmt.Errorf("save the embedded redis: %w", err)
	}
	s.saved.Store(&Saved{At: s.now(), Took: time.Since(begin), Bytes: size, Keys: items})
	return nil
}

// hold waits until a snapshot may be taken, or the server stops.
func (s *Server) hold() {
	if s.cfg.Hold == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	held := make(chan struct{})
	defer func() { <-held }()
	go func() {
		defer close(held)
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer cancel()
	s.cfg.Hold(ctx)
}

// keepSaving saves on a timer, when there was a change.
func (s *Server) keepSaving() {
	every := time.NewTicker(s.cfg.SnapshotEvery)
	defer every.Stop()
	last := uint64(0)
	for {
		select {
		case <-s.stop:
			return
		case <-every.C:
		}
		changes := s.meter.changes.Load()
		if changes == last {
			continue
		}
		s.hold()
		s.meter.recount()
		if err := s.save(false); err != nil {
			s.cfg.Logger.Error("embedded redis: no snapshot; the last one stands", "error", err)
			continue
		}
		last = changes
	}
}
