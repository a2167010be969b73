package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const segmentSuffix = ".journal"

// A segment is one file. Only the newest is written to; only the oldest is
// removed, so that a deletion record never goes while the message that it deletes
// is still there.
type segment struct {
	number uint64
	path   string
	file   *os.File
	key    key

	size int64 // guarded by Journal.mu; written by the writer only
	live int64 // bytes of live frames; guarded by Journal.mu
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// listSegments returns the numbers of the segments in dir, oldest first.
func listSegments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		hex, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if n, err := strconv.ParseUint(hex, 16, 64); err == nil && e.Name() == filepath.Base(segmentPath(dir, n)) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// createSegment makes a new file whose name and header are durable.
func createSegment(dir string, number uint64, k key) (*segment, error) {
	s := &segment{number: number, path: segmentPath(dir, number), key: k}
	var err error
	if s.file, err = os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	head := appendHeader(nil, number, k)
	if _, err = s.file.Write(head); err == nil {
		err = s.file.Sync()
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		s.file.Close()
		os.Remove(s.path)
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s.size = int64(len(head))
	return s, nil
}

// roll makes a new segment the current one.
func (j *Journal) roll() error {
	number := uint64(1)
	j.mu.Lock()
	if n := len(j.segments); n > 0 {
		number = j.segments[n-1].number + 1
	}
	j.mu.Unlock()
	s, err := createSegment(j.cfg.Dir, number, j.key)
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.segments = append(j.segments, s)
	j.mu.Unlock()
	j.current = s
	return nil
}
