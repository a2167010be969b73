package bench

import (
	"bytes"
	"fmt"
)

// marker starts the stamp inside a payload. It needs no escaping in JSON, so that
// a payload looks the same in every dialect.
const marker = "~agn!"

// Lengths of the stamp's parts, in hexadecimal digits.
const (
	timeDigits   = 16
	senderDigits = 6
	seqDigits    = 8
	stampLen     = len(marker) + timeDigits + senderDigits + seqDigits
)

// MinPayload is the smallest payload that holds a stamp, in bytes; the two
// quotes of the JSON string count.
const MinPayload = stampLen + 2

// A stamp says when a message was due and which one it is.
type stamp struct {
	due    int64  // nanoseconds on the monotonic clock of the machine
	sender uint32 // number of the sender within its part
	seq    uint32 // 0, 1, 2 … of that sender towards one receiver or channel
}

// newPayload returns a JSON string of size bytes with room for a stamp.
func newPayload(size int) ([]byte, error) {
	if size < MinPayload {
		return nil, fmt.Errorf("payload of %d bytes: a stamped payload needs at least %d", size, MinPayload)
	}
	p := bytes.Repeat([]byte{'x'}, size)
	p[0], p[size-1] = '"', '"'
	copy(p[1:], marker)
	return p, nil
}

// put writes s into a payload of newPayload.
func (s stamp) put(payload []byte) {
	at := payload[1+len(marker):]
	putHex(at[:timeDigits], uint64(s.due))
	putHex(at[timeDigits:timeDigits+senderDigits], uint64(s.sender))
	putHex(at[timeDigits+senderDigits:timeDigits+senderDigits+seqDigits], uint64(s.seq))
}

// readStamp finds the stamp in a frame.
func readStamp(frame []byte) (s stamp, ok bool) {
	i := bytes.Index(frame, []byte(marker))
	if i < 0 || len(frame)-i < stampLen {
		return s, false
	}
	at := frame[i+len(marker):]
	due, ok1 := readHex(at[:timeDigits])
	sender, ok2 := readHex(at[timeDigits : timeDigits+senderDigits])
	seq, ok3 := readHex(at[timeDigits+senderDigits : timeDigits+senderDigits+seqDigits])
	return stamp{due: int64(due), sender: uint32(sender), seq: uint32(seq)}, ok1 && ok2 && ok3
}

func putHex(dst []byte, v uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = "0123456789abcdef"[v&15]
		v >>= 4
	}
}

func readHex(src []byte) (v uint64, ok bool) {
	for _, c := range src {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
