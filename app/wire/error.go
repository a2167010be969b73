package wire

import (
	"errors"
	"fmt"
	"strings"
)

// A FrameError refuses one frame. The connection and the other frames of the
// message are not touched by it.
type FrameError struct {
	ID  uint64 // of the refused frame, 0 when it had none or it could not be read
	Key string // dedup key of a frame without an id
	Err Error
}

func (e *FrameError) Error() string { return e.Err.Error() }

// Unwrap returns the refusal as a *wire.Error.
func (e *FrameError) Unwrap() error { return &e.Err }

// ErrMalformed says that a WebSocket message cannot be taken apart into frames.
// The connection is closed with CloseProtocolError.
var ErrMalformed = errors.New("malformed message: the length before a frame does not fit the message")

// A fault is why a frame is refused.
type fault struct {
	set    bool
	code   Code
	syntax bool // the walk ended at index at
	frame  bool // of the frame, not of its kind
	at     int  // of a fault of syntax: where
	path   [4]field
	depth  int
	field  field
	want   string
}

// describe returns what was wrong, where, without any of the frame's contents.
// at is the index in the message where the frame starts.
func (f *fault) describe(kind Kind, start int) string {
	var b strings.Builder
	if f.syntax {
		fmt.Fprintf(&b, "byte %d: ", max(f.at-start, 0))
	} else if kind != KindNone && !f.frame {
		b.WriteString(kind.String())
		for _, p := range f.path[:f.depth] {
			b.WriteByte('.')
			b.WriteString(fieldWords[p])
		}
		if f.field != fEnd {
			b.WriteByte('.')
			b.WriteString(fieldWords[f.field])
		}
		b.WriteString(": ")
	}
	b.WriteString(f.want)
	return b.String()
}
