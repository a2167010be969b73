package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSnapshotDiskFull keeps the last good snapshot when there is no space for a
// new one.
func TestSnapshotDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k,mode=0700"); err != nil {
		t.Fatalf("mount a small tmpfs: %v (this test needs root)", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	cfg := Config{Dir: filepath.Join(dir, "data")}
	s := start(t, cfg)
	c := dial(t, s)
	c.must(t, "SET", "small", "1")
	if err := s.Snapshot(); err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	c.must(t, "SET", "large", strings.Repeat("x", 1<<20))
	if err := s.Snapshot(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Snapshot on a full disk: %v, want %v", err, syscall.ENOSPC)
	}
	if st := s.Stats(); st.Failed != 1 {
		t.Errorf("failed = %d, want 1", st.Failed)
	}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, snapshotName))
	if err != nil {
		t.Fatal(err)
	}
	if snap, err := decodeSnapshot(data); err != nil || len(snap.items) != 1 {
		t.Errorf("the last good one: %v, %v, want one key", snap, err)
	}
	c.must(t, "DEL", "large")
	stop(t, s)
	s = start(t, cfg)
	if v := dial(t, s).must(t, "GET", "small"); v != "1" {
		t.Errorf("small = %v, want 1", v)
	}
	stop(t, s)
}
