package embedded

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// A snapshot file is
//
//	magic | version u8 | flags u8 | saved ms varint | run id | items | end u8 | CRC32C u32
//
// with an item as kind u8 (never the end's 0), key, expiry ms varint (0: never),
// and its value; texts and lists come after their length as a uvarint.
const (
	snapshotMagic   = "AGNSNAP"
	snapshotVersion = 1
	flagClean       = 1
	endOfItems      = 0
)

// A snapshot is the content of a Server at a time.
type snapshot struct {
	saved time.Time
	runID string
	clean bool // written at a stop: nothing came after it
	items []*item
}

var errSnapshot = errors.New("malformed snapshot")

// crcTable is Castagnoli's polynomial, which processors compute in hardware.
var crcTable = crc32.MakeTable(crc32.Castagnoli)

// A snapshotWriter writes one snapshot. The first error is kept; end returns it.
type snapshotWriter struct {
	w       *bufio.Writer
	sum     hash.Hash32
	scratch []byte
	size    int64
	limit   int64
	items   int
	err     error
}

var errSnapshotSize = errors.New("the content is larger than a snapshot may be")

func newSnapshotWriter(w io.Writer, limit int64, saved time.Time, runID string, clean bool) *snapshotWriter {
	sw := &snapshotWriter{sum: crc32.New(crcTable), limit: limit}
	sw.w = bufio.NewWriterSize(io.MultiWriter(w, sw.sum), 64<<10)
	flags := byte(0)
	if clean {
		flags = flagClean
	}
	sw.bytes([]byte(snapshotMagic))
	sw.bytes([]byte{snapshotVersion, flags})
	sw.varint(saved.UnixMilli())
	sw.text(runID)
	return sw
}

func (w *snapshotWriter) item(it *item) {
	w.bytes([]byte{it.kind})
	w.text(it.key)
	ms := int64(0)
	if !it.expires.IsZero() {
		ms = it.expires.UnixMilli()
	}
	w.varint(ms)
	if it.kind == kindStream {
		w.uvarint(uint64(len(it.entries)))
		for _, e := range it.entries {
			w.text(e.ID)
			w.texts(e.Values)
		}
	} else {
		w.texts(it.fields)
		for _, score := range it.scores {
			w.bytes(binary.BigEndian.AppendUint64(w.scratch[:0], math.Float64bits(score)))
		}
	}
	w.items++
}

// end writes the checksum.
func (w *snapshotWriter) end() error {
	w.bytes([]byte{endOfItems})
	if w.err == nil {
		w.err = w.w.Flush()
	}
	w.bytes(binary.BigEndian.AppendUint32(nil, w.sum.Sum32()))
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

func (w *snapshotWriter) bytes(b []byte) {
	if w.size += int64(len(b)); w.size > w.limit && w.err == nil {
		w.err = errSnapshotSize
	}
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *snapshotWriter) varint(v int64) {
	w.scratch = binary.AppendVarint(w.scratch[:0], v)
	w.bytes(w.scratch)
}

func (w *snapshotWriter) uvarint(v uint64) {
	w.scratch = binary.AppendUvarint(w.scratch[:0], v)
	w.bytes(w.scratch)
}

func (w *snapshotWriter) text(s string) {
	w.uvarint(uint64(len(s)))
	if w.size += int64(len(s)); w.size > w.limit && w.err == nil {
		w.err = errSnapshotSize
	}
	if w.err == nil {
		_, w.err = w.w.WriteString(s)
	}
}

func (w *snapshotWriter) texts(list []string) {
	w.uvarint(uint64(len(list)))
	for _, s := range list {
		w.text(s)
	}
}

// decodeSnapshot reads a whole file. Nothing of a file with a wrong checksum is used.
func decodeSnapshot(b []byte) (*snapshot, error) {
	if len(b) < len(snapshotMagic)+7 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: no header", errSnapshot)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, crcTable) != sum {
		return nil, fmt.Errorf("%w: wrong checksum", errSnapshot)
	}
	r := &snapshotReader{b: body[len(snapshotMagic):]}
	if v := r.byte(); v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads version %d", errSnapshot, v, snapshotVersion)
	}
	snap := &snapshot{clean: r.byte()&flagClean != 0}
	snap.saved = time.UnixMilli(r.varint())
	snap.runID = r.text()
	for {
		kind := r.byte()
		if kind == endOfItems || r.bad {
			break
		}
		snap.items = append(snap.items, r.item(kind))
	}
	if r.bad || len(r.b) != 0 {
		return nil, errSnapshot
	}
	return snap, nil
}

// A snapshotReader takes fields from the front of b. After the first fault it
// yields zero values.
type snapshotReader struct {
	b   []byte
	bad bool
}

func (r *snapshotReader) item(kind byte) *item {
	it := &item{kind: kind, key: r.text()}
	if ms := r.varint(); ms != 0 {
		it.expires = time.UnixMilli(ms)
	}
	switch kind {
	case kindStream:
		for range r.count(2) {
			it.entries = append(it.entries, miniredis.StreamEntry{ID: r.text(), Values: r.texts()})
		}
	case kindString, kindHash, kindSet, kindZSet:
		it.fields = r.texts()
		if kind == kindHash && len(it.fields)%2 != 0 || kind == kindString && len(it.fields) != 1 {
			r.fault()
		}
		if kind == kindZSet {
			for range it.fields {
				it.scores = append(it.scores, math.Float64frombits(r.uint64()))
			}
		}
	default:
		r.fault()
	}
	return it
}

func (r *snapshotReader) fault() { r.bad, r.b = true, nil }

func (r *snapshotReader) byte() byte {
	if len(r.b) == 0 {
		r.fault()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *snapshotReader) uint64() uint64 {
	if len(r.b) < 8 {
		r.fault()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *snapshotReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fault()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many parts follow, each of at least size bytes, so that a false
// number allocates nothing.
func (r *snapshotReader) count(size int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)/size) {
		r.fault()
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

func (r *snapshotReader) text() string {
	n := r.count(1)
	if n > len(r.b) {
		r.fault()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *snapshotReader) texts() (list []string) {
	for range r.count(1) {
		list = append(list, r.text())
	}
	return list
}
