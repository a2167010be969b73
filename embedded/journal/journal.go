// Package journal keeps parked messages on disk: it is the relay.Journal of one
// node.
//
// What it promises: when done got nil, the message is on stable storage and Load
// gives it back after kill -9 or a power cut, until Delete. A Delete may be undone
// by a crash. When done got an error, the message is not known to be stored. A
// torn end is cut at Open; damage in the middle costs the records that it hit, is
// counted and logged, and never silent. What it is not: a database; it holds an
// index of ids in memory and reads messages only in Load.
//
// Why a journal of our own and not SQLite, and how its files work, stands in
// DESIGN.md.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"agentnet/app/relay"
)

// Errors that done gets. Anything else is a failed write of the disk.
var (
	ErrFull      = errors.New("the journal of parked messages is full")
	ErrBusy      = errors.New("the disk cannot keep up with messages to park")
	ErrTooLarge  = errors.New("the message is too large to park")
	ErrDuplicate = errors.New("a message of this id is parked already")
	ErrClosed    = errors.New("the journal is closed")

	// ErrBroken follows a failed fsync. The kernel may have dropped the pages and
	// would report success the next time, so that nothing is promised any more
	// until the journal is opened again, which reads what the disk really has.
	ErrBroken = errors.New("the journal's disk failed; check the disk and restart the node")
)

// Config says where a Journal lives and how much it may hold. A limit of 0 or
// less means the default.
type Config struct {
	Dir    string // made when it does not exist, with mode 0700
	Logger *slog.Logger

	MaxCount     int   // parked messages, default 100,000
	MaxBytes     int64 // their encoded bytes, default 256 MiB; the files take up to 2× that and 6 segments
	MaxMessage   int   // encoded bytes of one message, default 1 MiB
	MaxWaiting   int   // encoded bytes that wait for the disk, default 16 MiB
	SegmentBytes int64 // a file is closed when it has grown to this, default 8 MiB

	sync func(*os.File) error // datasync, but in tests of a failing disk
}

func (c Config) withDefaults() Config {
	positive(&c.MaxCount, 100_000)
	positive(&c.MaxBytes, 256<<20)
	positive(&c.MaxMessage, 1<<20)
	positive(&c.MaxWaiting, 16<<20)
	positive(&c.SegmentBytes, 8<<20)
	c.MaxMessage = min(c.MaxMessage, maxFrame-frameMin)
	if c.sync == nil {
		c.sync = datasync
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func positive[N int | int64](n *N, otherwise N) {
	if *n <= 0 {
		*n = otherwise
	}
}

// A place is where a live message's frame lies. seg is nil until it is written.
type place struct {
	seq  uint64
	seg  *segment
	off  int64
	size int32
}

// A Journal implements relay.Journal.
type Journal struct {
	cfg      Config
	key      key // of the segments that this process writes
	lock     *os.File
	outcomes *outcomes
	wake     chan struct{} // one slot: something waits for the writer
	ended    chan struct{} // closed when the writer has ended

	// Owned by the writer goroutine once it runs.
	current *segment
	moving  *move
	stuck   bool // an old file could not be read or removed: none is, until a restart

	mu        sync.Mutex
	live      map[string]place
	liveBytes int64
	segments  []*segment // oldest first; the last is current
	seq       uint64
	next      *batch // what the writer takes next
	spare     *batch // recycled
	loaded    bool   // Load has ended: segments may be moved and removed
	closed    bool
	broken    error
	stats     Stats
}

var _ relay.Journal = (*Journal)(nil)

// Stats is one reading of a Journal.
type Stats struct {
	Count     int   // live messages
	Bytes     int64 // of live messages, encoded
	DiskBytes int64
	Segments  int

	Puts    uint64 // made durable by this process
	Groups  uint64 // of these, how many fsyncs it took
	Failed  uint64 // Puts that got an error from the disk
	Refused uint64 // Puts that a limit refused
	Moved   uint64 // frames rewritten by compaction

	TornBytes int64    // cut off the end at Open
	Damaged   []Damage // found at Open, at most 100
	Broken    error    // not nil after a failed fsync
}

// Open reads the folder's segments and starts the writer. Only one process can
// have a folder open.
func Open(cfg Config) (*Journal, error) {
	cfg = cfg.withDefaults()
	j := &Journal{
		cfg: cfg, key: newKey(),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
		live: map[string]place{}, next: &batch{}, spare: &batch{},
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	var err error
	if j.lock, err = lockFile(filepath.Join(cfg.Dir, "lock")); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err = j.recover(); err == nil {
		err = j.roll()
	}
	if err != nil {
		j.closeFiles()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.outcomes = newOutcomes()
	go j.write()
	return j, nil
}

// Put implements relay.Journal.
func (j *Journal) Put(p *relay.Parked, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	j.mu.Lock()
	err := j.putLocked(p, done)
	if err != nil {
		j.stats.Refused++
	}
	j.mu.Unlock()
	if err != nil {
		j.outcomes.add(outcome{done, err})
		return
	}
	j.signal()
}

func (j *Journal) putLocked(p *relay.Parked, done func(error)) error {
	switch {
	case j.closed:
		return ErrClosed
	case j.broken != nil:
		return j.broken
	case len(j.live) >= j.cfg.MaxCount:
		return fmt.Errorf("%w: it holds %d messages", ErrFull, len(j.live))
	case j.liveBytes >= j.cfg.MaxBytes:
		return fmt.Errorf("%w: it holds %d bytes", ErrFull, j.liveBytes)
	case j.diskBytesLocked() >= 2*j.cfg.MaxBytes+6*j.cfg.SegmentBytes:
		return fmt.Errorf("%w: its files take %d bytes", ErrFull, j.diskBytesLocked())
	case len(j.next.buf) >= j.cfg.MaxWaiting:
		return fmt.Errorf("%w: %d bytes wait", ErrBusy, len(j.next.buf))
	}
	if _, ok := j.live[p.MessageID]; ok {
		return ErrDuplicate
	}
	b := j.next
	buf, start := beginFrame(b.buf, &j.key, kindPut, j.seq+1)
	buf = appendMessage(buf, p)
	if size := len(buf) - start - frameHead - frameMin; size > j.cfg.MaxMessage {
		b.buf = buf[:start]
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, j.cfg.MaxMessage)
	}
	endFrame(buf, &j.key, start)
	j.seq++
	b.buf = buf
	size := int32(len(buf) - start)
	b.puts = append(b.puts, put{id: p.MessageID, seq: j.seq, off: start, size: size, done: done})
	j.live[p.MessageID] = place{seq: j.seq, size: size}
	j.liveBytes += int64(size)
	return nil
}

// Delete implements relay.Journal.
func (j *Journal) Delete(messageID string) {
	j.mu.Lock()
	p, ok := j.live[messageID]
	if ok {
		j.forgetLocked(messageID, p)
		j.next.deletes = append(j.next.deletes, p.seq) // at most one for each live message
	}
	j.mu.Unlock()
	if ok {
		j.signal()
	}
}

// forgetLocked takes a message out of the index. j.mu must be held.
func (j *Journal) forgetLocked(id string, p place) {
	delete(j.live, id)
	j.liveBytes -= int64(p.size)
	if p.seg != nil {
		p.seg.live -= int64(p.size)
	}
}

func (j *Journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Close makes durable what was accepted, tells all that wait, and lets the folder
// go. A second Close does nothing.
func (j *Journal) Close() error {
	j.mu.Lock()
	was := j.closed
	j.closed = true
	j.mu.Unlock()
	if was {
		<-j.ended
		return nil
	}
	j.signal()
	<-j.ended
	j.outcomes.close()
	err := j.Stats().Broken
	return errors.Join(err, j.closeFiles())
}

func (j *Journal) closeFiles() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.file.Close())
	}
	j.segments = nil
	errs = append(errs, j.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}

// Stats returns a reading of the counters and sizes.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	st := j.stats
	st.Count, st.Bytes = len(j.live), j.liveBytes
	st.Segments, st.DiskBytes = len(j.segments), j.diskBytesLocked()
	st.Broken = j.broken
	return st
}

func (j *Journal) diskBytesLocked() (n int64) {
	for _, s := range j.segments {
		n += s.size
	}
	return n
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
