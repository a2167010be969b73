package wire

import "time"

// MaxInteger is the largest number in a frame: what a JavaScript number holds
// exactly.
const MaxInteger = 1<<53 - 1

// MaxDepth bounds the nesting of a JSON payload. 64 is far beyond what agents
// say to each other and small enough for one machine word to remember the way.
const MaxDepth = 64

// Bounds of short texts in frames, in bytes.
const (
	KeyBytes    = 128  // dedup keys
	MethodBytes = 128  // methods of requests
	NoteBytes   = 1024 // notes of receipts
	CursorBytes = 256  // agents.after
	IDBytes     = 64   // message ids, epochs, session secrets and the codes of reply errors
)

// DefaultLimits returns the limits of a relay that was told nothing else.
func DefaultLimits() Limits {
	return Limits{
		FrameBytes:    64 << 10,
		MessageBytes:  1 << 20,
		Subscriptions: 1024,
		HeaderCount:   32,
		HeaderBytes:   4 << 10,
		MaxTTLMS:      (7 * 24 * time.Hour).Milliseconds(),
		MaxTimeoutMS:  (10 * time.Minute).Milliseconds(),
	}
}
