package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"agentnet/app/relay"
)

// maxDamaged bounds how many damaged places Stats lists; all are counted in the log.
const maxDamaged = 100

// recover reads all segments and builds the index. It runs before the writer.
func (j *Journal) recover() error {
	numbers, err := listSegments(j.cfg.Dir)
	if err != nil {
		return err
	}
	found := map[uint64]string{} // ids by seq
	var gone []uint64
	for i, n := range numbers {
		seqs, err := j.recoverSegment(n, i == len(numbers)-1, found)
		if err != nil {
			return err
		}
		// After each file, so that what is long dead takes no memory.
		gone = append(gone, j.forgetGone(seqs, found)...)
	}
	j.forgetGone(gone, found)
	return nil
}

// forgetGone takes the messages that deletion records name out of the index, and
// returns the records that named none.
func (j *Journal) forgetGone(seqs []uint64, found map[uint64]string) (others []uint64) {
	for _, seq := range seqs {
		id, ok := found[seq]
		if !ok {
			others = append(others, seq)
			continue
		}
		delete(found, seq)
		j.forgetLocked(id, j.live[id])
	}
	return others
}

// recoverSegment reads one file: its messages go into the index, the seqs of its
// deletion records are returned. newest says that a torn end is to be expected.
func (j *Journal) recoverSegment(number uint64, newest bool, found map[uint64]string) (gone []uint64, err error) {
	path := segmentPath(j.cfg.Dir, number)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	_, k, err := parseHeader(data)
	if err != nil {
		f.Close()
		return nil, j.setAside(path, len(data), newest)
	}
	s := &segment{number: number, path: path, file: f, key: k, size: int64(len(data))}
	j.segments = append(j.segments, s)
	damaged, tail := scan(data, segmentHead, &k, func(off int, fr frame) {
		j.seq = max(j.seq, fr.seq)
		switch fr.kind {
		case kindPut:
			if !j.index(s, int64(off), fr, found) {
				j.damage(Damage{filepath.Base(path), int64(off), int64(fr.size)})
			}
		case kindDelete:
			gone = append(gone, fr.seq)
		}
	})
	for _, d := range damaged {
		j.damage(Damage{filepath.Base(path), int64(d[0]), int64(d[1])})
	}
	if tail < len(data) {
		return gone, j.cutTail(s, tail, newest)
	}
	return gone, nil
}

// index enters a message's frame. A message that compaction had copied before a
// crash is there twice; the later copy counts.
func (j *Journal) index(s *segment, off int64, fr frame, found map[uint64]string) bool {
	id, ok := messageID(fr.body)
	if !ok {
		return false
	}
	if old, ok := j.live[id]; ok {
		delete(found, old.seq)
		j.forgetLocked(id, old)
	}
	size := int32(fr.size)
	found[fr.seq] = id
	j.live[id] = place{seq: fr.seq, seg: s, off: off, size: size}
	j.liveBytes += int64(size)
	s.live += int64(size)
	return true
}

// cutTail takes away what follows the last whole frame. At the end of the newest
// segment that is what a crash leaves of a write that nobody was told of.
func (j *Journal) cutTail(s *segment, tail int, newest bool) error {
	n := s.size - int64(tail)
	if newest {
		j.stats.TornBytes += n
		j.cfg.Logger.Info("journal: an unfinished write of the last run was cut off", "file", filepath.Base(s.path), "bytes", n)
	} else {
		j.damage(Damage{filepath.Base(s.path), int64(tail), n})
	}
	if err := s.file.Truncate(int64(tail)); err != nil {
		return fmt.Errorf("cut the torn end: %w", err)
	}
	s.size = int64(tail)
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("cut the torn end: %w", err)
	}
	return nil
}

// setAside takes a file without a readable header out of the way. A crash while a
// segment is made leaves one that is short and empty; anything else is kept for
// the operator.
func (j *Journal) setAside(path string, size int, newest bool) error {
	if newest && size <= segmentHead {
		return os.Remove(path)
	}
	j.damage(Damage{filepath.Base(path), 0, int64(size)})
	return os.Rename(path, path+".damaged")
}

func (j *Journal) damage(d Damage) {
	if len(j.stats.Damaged) < maxDamaged {
		j.stats.Damaged = append(j.stats.Damaged, d)
	}
	j.cfg.Logger.Error("journal: damaged place, the messages in it are lost; check the disk",
		"file", d.File, "offset", d.At, "bytes", d.Bytes)
}

// Load implements relay.Journal. Messages that can no longer be read are logged
// and left out; fn may call Delete.
func (j *Journal) Load(fn func(*relay.Parked) error) error {
	j.mu.Lock()
	if j.loaded {
		j.mu.Unlock()
		return errors.New("load journal: it was loaded already; load it once, before the first Put")
	}
	type stored struct {
		id string
		place
	}
	all := make([]stored, 0, len(j.live))
	for id, p := range j.live {
		if p.seg != nil {
			all = append(all, stored{id, p})
		}
	}
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.loaded = true
		j.mu.Unlock()
		j.signal() // segments may be removed from now on
	}()
	slices.SortFunc(all, func(a, b stored) int { return cmp.Compare(a.seq, b.seq) })
	var buf []byte
	for _, p := range all {
		buf = slices.Grow(buf[:0], int(p.size))[:p.size]
		parked, err := readMessage(p.place, buf)
		if err != nil {
			j.mu.Lock()
			if now, ok := j.live[p.id]; ok && now == p.place {
				j.forgetLocked(p.id, now)
			}
			j.damage(Damage{filepath.Base(p.seg.path), p.off, int64(p.size)})
			j.mu.Unlock()
			continue
		}
		if err := fn(parked); err != nil {
			return fmt.Errorf("load journal: %w", err)
		}
	}
	return nil
}

func readMessage(p place, buf []byte) (*relay.Parked, error) {
	if _, err := p.seg.file.ReadAt(buf, p.off); err != nil {
		return nil, err
	}
	f, ok := parseFrame(buf, &p.seg.key)
	if !ok || f.seq != p.seq {
		return nil, errMessage
	}
	return decodeMessage(f.body)
}
