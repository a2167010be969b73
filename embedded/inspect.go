package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// SnapshotFile and RunningFile are names within Config.Dir: the content as it was
// saved last, and a note that is there while a Server runs. A snapshot beside the
// note is taken for what a crash left, which may be older than what clients saw.
const (
	SnapshotFile = snapshotName
	RunningFile  = runningName
)

// An Inspection is what a snapshot holds.
type Inspection struct {
	Saved time.Time
	Clean bool // written at an orderly stop
	Keys  int
	Bytes int64
}

// maxInspect bounds the file that Inspect reads into memory.
const maxInspect = 4 << 30

// Inspect reads the snapshot in dir without changing anything. The error is
// os.ErrNotExist when there is none.
func Inspect(dir string) (Inspection, error) {
	path := filepath.Join(dir, snapshotName)
	info, err := os.Stat(path)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect snapshot: %w", err)
	}
	if info.Size() > maxInspect {
		return Inspection{}, fmt.Errorf("inspect snapshot: %w: %d bytes, at most %d", errSnapshot, info.Size(), int64(maxInspect))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect snapshot: %w", err)
	}
	snap, err := decodeSnapshot(data)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect snapshot: %s: %w", path, err)
	}
	return Inspection{Saved: snap.saved, Clean: snap.clean, Keys: len(snap.items), Bytes: info.Size()}, nil
}
