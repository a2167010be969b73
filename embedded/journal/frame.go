package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A segment file starts with its header, twice, so that one damaged byte does not
// make the whole file unreadable. Frames follow without padding:
//
//	marker u32 | length u32 | CRC32C u32 | kind u8 | seq u64 | body
//
// length counts from kind on; the checksum covers salt, length, kind, seq and
// body. Marker and salt are random numbers of the process that wrote the segment.
// They let a reader find the next frame behind a damaged place, and because no
// agent can know them, no payload can pass for a frame.
const (
	magic       = "AGNJRNL1"
	headerSize  = 32 // magic 8, number 8, marker 4, salt 8, CRC32C 4
	segmentHead = 2 * headerSize

	frameHead = 12
	frameMin  = 9 // kind and seq

	// maxFrame bounds the length of one frame; a larger one is not believed.
	maxFrame = 16 << 20
)

// Kinds of frames.
const (
	kindPut    = 1 // body: an encoded message
	kindDelete = 2 // no body; seq is that of the message which is gone
)

// crcTable is Castagnoli's polynomial, which processors compute in hardware.
var crcTable = crc32.MakeTable(crc32.Castagnoli)

// A key is what the frames of one segment are marked and checked with.
type key struct {
	marker [4]byte
	salt   [8]byte
}

// newKey returns a random key.
func newKey() (k key) {
	rand.Read(k.marker[:]) // never fails
	rand.Read(k.salt[:])
	k.marker[0] |= 1 // not all zero: a hole in a file must not look like a frame
	return k
}

func (k *key) sum(lengthAndPayload []byte) uint32 {
	return crc32.Update(crc32.Checksum(k.salt[:], crcTable), crcTable, lengthAndPayload)
}

// appendHeader appends both copies of a segment's header.
func appendHeader(b []byte, number uint64, k key) []byte {
	h := append(make([]byte, 0, headerSize), magic...)
	h = binary.BigEndian.AppendUint64(h, number)
	h = append(h, k.marker[:]...)
	h = append(h, k.salt[:]...)
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(h, crcTable))
	return append(append(b, h...), h...)
}

var errHeader = errors.New("no readable header")

// parseHeader reads whichever copy of the header is whole.
func parseHeader(data []byte) (number uint64, k key, err error) {
	for at := 0; at+headerSize <= min(len(data), segmentHead); at += headerSize {
		h := data[at : at+headerSize]
		if string(h[:8]) != magic || crc32.Checksum(h[:28], crcTable) != binary.BigEndian.Uint32(h[28:]) {
			continue
		}
		copy(k.marker[:], h[16:20])
		copy(k.salt[:], h[20:28])
		return binary.BigEndian.Uint64(h[8:16]), k, nil
	}
	return 0, key{}, errHeader
}

// beginFrame appends a frame's head and returns where the frame begins; the body
// is appended next and endFrame completes the head.
func beginFrame(b []byte, k *key, kind byte, seq uint64) (out []byte, start int) {
	start = len(b)
	b = append(b, k.marker[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind)
	return binary.BigEndian.AppendUint64(b, seq), start
}

func endFrame(b []byte, k *key, start int) {
	f := b[start:]
	binary.BigEndian.PutUint32(f[4:], uint32(len(f)-frameHead))
	crc := crc32.Update(k.sum(f[4:8]), crcTable, f[frameHead:])
	binary.BigEndian.PutUint32(f[8:], crc)
}

// A frame is one record as it lies in a segment. body aliases the bytes that it
// was parsed from.
type frame struct {
	kind byte
	seq  uint64
	body []byte
	size int // with its head
}

// parseFrame reads the frame at the front of data. ok is false when there is no
// whole and undamaged one.
func parseFrame(data []byte, k *key) (f frame, ok bool) {
	if len(data) < frameHead+frameMin || !bytes.Equal(data[:4], k.marker[:]) {
		return frame{}, false
	}
	n := binary.BigEndian.Uint32(data[4:])
	if n < frameMin || n > maxFrame || int(n) > len(data)-frameHead {
		return frame{}, false
	}
	p := data[frameHead : frameHead+int(n)]
	if crc32.Update(k.sum(data[4:8]), crcTable, p) != binary.BigEndian.Uint32(data[8:]) {
		return frame{}, false
	}
	return frame{kind: p[0], seq: binary.BigEndian.Uint64(p[1:]), body: p[frameMin:], size: frameHead + int(n)}, true
}

// Damage is a stretch of a segment that holds no readable frame.
type Damage struct {
	File  string
	At    int64 // offset in bytes
	Bytes int64
}

func (d Damage) String() string { return fmt.Sprintf("%s: %d bytes at %d", d.File, d.Bytes, d.At) }

// scan calls fn for each whole frame from offset at on, with its offset. What lies
// between whole frames is returned as damaged stretches (start, length); tail is
// where the last whole frame ends.
func scan(data []byte, at int, k *key, fn func(off int, f frame)) (damaged [][2]int, tail int) {
	tail = at
	for at < len(data) {
		if f, ok := parseFrame(data[at:], k); ok {
			if at > tail {
				damaged = append(damaged, [2]int{tail, at - tail})
			}
			fn(at, f)
			at += f.size
			tail = at
			continue
		}
		next := bytes.Index(data[at+1:], k.marker[:])
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return damaged, tail
}
