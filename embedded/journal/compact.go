package journal

import (
	"bytes"
	"os"
	"path/filepath"
)

const (
	// moveBytes is how much compaction adds to one group: small enough that a Put
	// behind it waits for a few milliseconds at most.
	moveBytes = 256 << 10
	// moveScan is how many bytes it looks through for that, with the index locked.
	moveScan = 1 << 20
)

// A move is the rewriting of the oldest segment's live messages, a piece with
// each group.
type move struct {
	seg  *segment
	data []byte
	at   int
}

// compact removes old segments that hold nothing live, and when more than half of
// the files is dead adds a piece of the oldest one's live messages to b. more says
// that it has not come to an end.
func (j *Journal) compact(b *batch) (more bool) {
	oldest, wanted := j.removeDead()
	if !wanted {
		return false
	}
	if j.moving == nil || j.moving.seg != oldest {
		data := make([]byte, oldest.size)
		if _, err := oldest.file.ReadAt(data, 0); err != nil {
			j.stuck = true
			j.cfg.Logger.Error("journal: cannot read an old file, so that none is freed until a restart; check the disk",
				"file", filepath.Base(oldest.path), "error", err)
			return false
		}
		j.moving = &move{seg: oldest, data: data, at: segmentHead}
	}
	j.movePiece(b, j.moving)
	return true
}

// movePiece copies live frames of m into b, about moveBytes of them.
func (j *Journal) movePiece(b *batch, m *move) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if m.at >= len(m.data) {
		// The last piece is committed, and what is live in there still can be read
		// no more.
		j.forgetUnreadableLocked(m.seg)
		return
	}
	full, end := len(b.buf)+moveBytes, min(m.at+moveScan, len(m.data))
	for m.at < end && len(b.buf) < full {
		f, ok := parseFrame(m.data[m.at:], &m.seg.key)
		if !ok {
			m.at = nextFrame(m.data, m.at+1, &m.seg.key)
			continue
		}
		off := int64(m.at)
		m.at += f.size
		if f.kind == kindPut {
			j.moveLocked(b, m.seg, off, f)
		}
	}
}

// moveLocked adds one message to b if it is live. j.mu must be held.
func (j *Journal) moveLocked(b *batch, from *segment, off int64, f frame) {
	id, _ := messageID(f.body)
	if p, ok := j.live[id]; !ok || p.seg != from || p.off != off {
		return
	}
	buf, start := beginFrame(b.buf, &j.key, kindPut, f.seq)
	buf = append(buf, f.body...)
	endFrame(buf, &j.key, start)
	b.buf = buf
	b.puts = append(b.puts, put{id: id, seq: f.seq, off: start, size: int32(len(buf) - start)})
}

// nextFrame returns where the next whole frame at or behind at begins.
func nextFrame(data []byte, at int, k *key) int {
	for {
		n := bytes.Index(data[min(at, len(data)):], k.marker[:])
		if n < 0 {
			return len(data)
		}
		if _, ok := parseFrame(data[at+n:], k); ok {
			return at + n
		}
		at += n + 1
	}
}

func (j *Journal) forgetUnreadableLocked(s *segment) {
	for id, p := range j.live {
		if p.seg == s {
			j.forgetLocked(id, p)
			j.damage(Damage{filepath.Base(s.path), p.off, int64(p.size)})
		}
	}
}

// removeDead removes the oldest segments as long as nothing in them is live. It
// returns the oldest that is left, and whether moving its messages would pay.
func (j *Journal) removeDead() (oldest *segment, wanted bool) {
	for {
		j.mu.Lock()
		if j.stuck || !j.loaded || len(j.segments) < 2 {
			j.mu.Unlock()
			return nil, false
		}
		oldest = j.segments[0]
		if oldest.live > 0 {
			wanted = j.diskBytesLocked() > 2*j.liveBytes+3*j.cfg.SegmentBytes
			j.mu.Unlock()
			return oldest, wanted
		}
		j.mu.Unlock()
		j.moving = nil
		if !j.discard(oldest) {
			return nil, false
		}
	}
}

// discard removes the oldest segment. The folder is synced before the next one
// can go: were a newer file gone and an older one back after a power cut, the
// messages whose deletion stood in the newer one would come back.
func (j *Journal) discard(s *segment) bool {
	err := os.Remove(s.path)
	if err == nil {
		err = syncDir(j.cfg.Dir)
	}
	if err != nil {
		j.stuck = true
		j.cfg.Logger.Error("journal: cannot remove an old file, so that none is freed until a restart; check the folder's rights",
			"file", filepath.Base(s.path), "error", err)
		return false
	}
	j.mu.Lock()
	j.segments = j.segments[1:]
	j.mu.Unlock()
	s.file.Close() // nothing was written through it that matters now
	return true
}
