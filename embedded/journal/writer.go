package journal

import "fmt"

// keepBuffer is how large a batch's buffer may be to be used again; a burst's
// buffer is given back.
const keepBuffer = 4 << 20

// A batch is what one group commit makes durable.
type batch struct {
	buf     []byte // whole frames
	puts    []put
	deletes []uint64
}

// A put waits for its group. off is the place of its frame in batch.buf.
type put struct {
	id   string
	seq  uint64
	off  int
	size int32
	done func(error)
}

func (b *batch) reset() {
	clear(b.puts) // let go of ids and closures
	b.puts, b.deletes = b.puts[:0], b.deletes[:0]
	if cap(b.buf) > keepBuffer {
		b.buf = nil
	}
	b.buf = b.buf[:0]
}

// write is the writer goroutine: whatever waits when a group is done becomes the
// next group, so that groups grow with the load and a lone Put waits for nothing.
func (j *Journal) write() {
	defer close(j.ended)
	for range j.wake {
		for j.group() {
		}
		j.mu.Lock()
		stop, waiting := j.closed && len(j.next.puts) == 0, len(j.next.puts) > 0
		j.mu.Unlock()
		if waiting {
			j.signal() // came while a failed group was told
		}
		if stop {
			j.finish()
			return
		}
	}
}

// group commits one batch and reports whether there may be more to do.
func (j *Journal) group() (more bool) {
	j.mu.Lock()
	b := j.next
	j.next, j.spare = j.spare, nil
	broken, closing := j.broken, j.closed
	j.mu.Unlock()

	if broken == nil && !closing {
		more = j.compact(b)
	}
	if len(b.puts) > 0 || len(b.deletes) > 0 {
		err := broken
		if err == nil {
			err = j.commit(b)
		}
		more = err == nil // after a failure it is the next Put that tries again
		if err != nil {
			j.fail(b, err)
		}
	}
	b.reset()
	j.mu.Lock()
	j.spare = b
	j.mu.Unlock()
	return more
}

// commit writes b and, when it holds messages, waits for the disk; then it tells
// their senders.
func (j *Journal) commit(b *batch) error {
	if j.current.size >= j.cfg.SegmentBytes {
		if err := j.roll(); err != nil {
			return err
		}
	}
	s, buf := j.current, b.buf
	for _, seq := range b.deletes {
		var start int
		buf, start = beginFrame(buf, &j.key, kindDelete, seq)
		endFrame(buf, &j.key, start)
	}
	b.buf = buf
	if _, err := s.file.WriteAt(buf, s.size); err != nil {
		return j.undoWrite(s, err)
	}
	if len(b.puts) > 0 {
		if err := j.cfg.sync(s.file); err != nil {
			return j.breakDown(err)
		}
	}
	j.accept(s, b)
	return nil
}

// undoWrite takes a half-written group away again, so that the next one follows
// the last whole frame. The usual cause is a full disk, and that may pass.
func (j *Journal) undoWrite(s *segment, cause error) error {
	err := fmt.Errorf("write parked messages: %w", cause)
	if terr := s.file.Truncate(s.size); terr != nil {
		return j.breakDown(terr)
	}
	j.cfg.Logger.Error("journal: cannot write; messages are not parked until it works again", "error", err)
	return err
}

// breakDown ends all writing: after a failed fsync nothing that the kernel says
// of this file can be believed.
func (j *Journal) breakDown(cause error) error {
	err := fmt.Errorf("%w: %w", ErrBroken, cause)
	j.mu.Lock()
	j.broken = err
	j.mu.Unlock()
	j.cfg.Logger.Error("journal: the disk failed; no message is parked until a restart", "error", cause)
	return err
}

// accept enters what commit wrote and queues the good news.
func (j *Journal) accept(s *segment, b *batch) {
	base := s.size
	outs := make([]outcome, 0, len(b.puts))
	j.mu.Lock()
	for i := range b.puts {
		p := &b.puts[i]
		at, ok := j.live[p.id]
		if ok && at.seq == p.seq { // else it was deleted meanwhile
			if at.seg != nil {
				at.seg.live -= int64(at.size) // compaction moved it
			}
			j.live[p.id] = place{seq: p.seq, seg: s, off: base + int64(p.off), size: p.size}
			s.live += int64(p.size)
		}
		if p.done != nil {
			outs = append(outs, outcome{p.done, nil})
		} else {
			j.stats.Moved++
		}
	}
	s.size += int64(len(b.buf))
	j.stats.Puts += uint64(len(outs))
	if len(b.puts) > 0 {
		j.stats.Groups++
	}
	j.mu.Unlock()
	j.outcomes.add(outs...)
}

// fail tells the senders of b and keeps its deletions for the next group.
func (j *Journal) fail(b *batch, err error) {
	outs := make([]outcome, 0, len(b.puts))
	j.mu.Lock()
	for i := range b.puts {
		p := &b.puts[i]
		if p.done == nil {
			continue // a copy by compaction: the original is where it was
		}
		if at, ok := j.live[p.id]; ok && at.seq == p.seq {
			j.forgetLocked(p.id, at)
		}
		outs = append(outs, outcome{p.done, err})
	}
	j.moving = nil
	if j.broken == nil {
		j.next.deletes = append(j.next.deletes, b.deletes...)
	}
	j.stats.Failed += uint64(len(outs))
	j.mu.Unlock()
	j.outcomes.add(outs...)
}

// finish makes the last deletions durable, so that after a clean stop nothing is
// delivered twice.
func (j *Journal) finish() {
	if j.Stats().Broken != nil {
		return
	}
	if err := j.cfg.sync(j.current.file); err != nil {
		j.breakDown(err)
	}
}
