package journal

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestDiskFull fills a file system of 1 MiB: Puts get an error, nothing acked is
// lost, and parking works again when there is space.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatalf("mount a small tmpfs: %v (this test needs root)", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 600<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Dir: filepath.Join(dir, "parked"), SegmentBytes: 64 << 10}
	j := open(t, cfg)
	load(t, j)
	var acked []int
	failed := 0
	for n := 0; failed < 20; n++ {
		if n > 20_000 {
			t.Fatal("the disk never filled")
		}
		err := park(t, j, message(n))[0]
		if err == nil {
			acked = append(acked, n)
			continue
		}
		failed++
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Put(%d): %v, want %v", n, err, syscall.ENOSPC)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	mustPark(t, j, 50_000)
	if err := j.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	j = open(t, cfg)
	wantMessages(t, load(t, j), append(acked, 50_000)...)
	if st := j.Stats(); len(st.Damaged) != 0 {
		t.Errorf("damaged %v, want none", st.Damaged)
	}
	j.Close()
}
