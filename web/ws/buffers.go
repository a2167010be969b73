package ws

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	minBufferBits = 9  // 512 bytes
	maxBufferBits = 24 // 16 MiB; larger ones are left to the garbage collector
)

// buffers lends byte slices whose capacity is a power of two. All methods may be
// called concurrently.
type buffers struct {
	// classes[i] holds the first bytes of arrays of 1<<(minBufferBits+i) bytes. A
	// pointer goes into a pool without an allocation, a slice does not.
	classes [maxBufferBits - minBufferBits + 1]sync.Pool

	// unfinished is how many bytes wait for the rest of their messages, of all
	// connections together.
	unfinished atomic.Int64
}

// keep appends p to an unfinished message. ok is false when too much is kept of all
// clients together; then nothing was changed.
func (s *buffers) keep(msg, p []byte) (longer []byte, ok bool) {
	before := int64(cap(msg))
	if len(msg)+len(p) > cap(msg) && s.unfinished.Load() > unfinishedBound {
		return msg, false
	}
	longer = s.append(msg, p)
	s.unfinished.Add(int64(cap(longer)) - before)
	return longer, true
}

// drop gives a kept message back.
func (s *buffers) drop(msg []byte) {
	s.unfinished.Add(-int64(cap(msg)))
	s.put(msg)
}

// get returns an empty slice with room for n bytes.
func (s *buffers) get(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits)
	if class > maxBufferBits {
		return make([]byte, 0, n)
	}
	if p, ok := s.classes[class-minBufferBits].Get().(*byte); ok {
		return unsafe.Slice(p, 1<<class)[:0]
	}
	return make([]byte, 0, 1<<class)
}

// put takes a slice of get back; its owner must not use it any more.
func (s *buffers) put(b []byte) {
	c := cap(b)
	if c < 1<<minBufferBits || c > 1<<maxBufferBits || c&(c-1) != 0 {
		return
	}
	s.classes[bits.Len(uint(c))-1-minBufferBits].Put(unsafe.SliceData(b[:c]))
}

// append appends p to b, which is nil or came from get. A b that is too small is
// given back and must not be used any more.
func (s *buffers) append(b, p []byte) []byte {
	if need := len(b) + len(p); need > cap(b) {
		wider := append(s.get(max(need, 2*cap(b))), b...)
		if b != nil {
			s.put(b)
		}
		b = wider
	}
	return append(b, p...)
}
