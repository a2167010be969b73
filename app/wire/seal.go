package wire

import (
	"encoding/binary"
	"math/bits"
)

// HeaderRoom is the space in front of a frame that Seal needs: a server's
// WebSocket header (up to 10 bytes) and a protobuf length (up to 5).
const HeaderRoom = 16

// First bytes of a WebSocket frame that is a whole message, not masked.
const (
	finText   = 0x81
	finBinary = 0x82
)

// Seal makes a WebSocket message of the one frame in buf[HeaderRoom:]. It writes
// the protobuf length prefix and the RFC 6455 header right in front of the frame
// and returns the part of buf that is the whole message.
func Seal(enc Encoding, buf []byte) []byte {
	start, n := HeaderRoom, len(buf)-HeaderRoom
	opcode := byte(finText)
	if enc == Protobuf {
		opcode = finBinary
		size := varintLen(uint64(n))
		start -= size
		binary.PutUvarint(buf[start:], uint64(n))
		n += size
	}
	start -= headerLen(n)
	putHeader(buf[start:], opcode, n)
	return buf[start:]
}

// headerLen is the length of a server's WebSocket header for n bytes of payload.
func headerLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	}
	return 10
}

func putHeader(b []byte, opcode byte, n int) {
	b[0] = opcode
	switch {
	case n < 126:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	default:
		b[1] = 127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
}

// Body returns the payload of one sealed message. It shares memory with it.
func Body(sealed []byte) []byte {
	switch sealed[1] {
	case 126:
		return sealed[4:]
	case 127:
		return sealed[10:]
	}
	return sealed[2:]
}

// AppendJoined appends one WebSocket message, header included, that holds the
// frames of all sealed messages in order. For no messages it appends nothing.
func AppendJoined(dst []byte, enc Encoding, sealed [][]byte) []byte {
	if len(sealed) == 0 {
		return dst
	}
	n, opcode := 0, byte(finBinary)
	if enc == JSON {
		n, opcode = len(sealed)-1, finText
	}
	for _, s := range sealed {
		n += len(Body(s))
	}
	var header [10]byte
	putHeader(header[:], opcode, n)
	dst = append(dst, header[:headerLen(n)]...)
	for i, s := range sealed {
		if i > 0 && enc == JSON {
			dst = append(dst, '\n')
		}
		dst = append(dst, Body(s)...)
	}
	return dst
}

// AppendFramed appends the frame that the function appends, in the form in which
// frames stand behind each other in one WebSocket payload: JSON frames end with
// a line feed, protobuf frames follow their length. What several calls appended
// is therefore the payload of one message.
func AppendFramed(dst []byte, enc Encoding, frame func(dst []byte) []byte) []byte {
	start := len(dst)
	dst = frame(dst)
	if enc == JSON {
		return append(dst, '\n')
	}
	return insertLength(dst, start, 0)
}

// AppendFramedCommand is AppendFramed of AppendCommand.
func AppendFramedCommand(dst []byte, enc Encoding, c *Command) []byte {
	start := len(dst)
	if enc == JSON {
		return append(AppendCommand(dst, enc, c), '\n')
	}
	return insertLength(AppendCommand(append(dst, 0), enc, c), start, 1)
}

// insertLength puts the length of b[start+room:] as a varint at start, where room
// bytes were kept for it, moving what follows when the length needs another room.
func insertLength(b []byte, start, room int) []byte {
	n := len(b) - start - room
	size := varintLen(uint64(n))
	if size != room {
		if size > room {
			b = append(b, make([]byte, size-room)...)
		}
		copy(b[start+size:], b[start+room:start+room+n])
		b = b[:start+size+n]
	}
	binary.PutUvarint(b[start:], uint64(n))
	return b
}

// varintLen is the number of bytes of v as a varint.
func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
