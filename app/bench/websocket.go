package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Opcodes of RFC 6455.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// maxServerFrame bounds what the generator takes from a server in one frame.
const maxServerFrame = 16 << 20

// A wsFrame is one WebSocket frame from the server.
type wsFrame struct {
	op      byte
	final   bool
	payload []byte
}

var errMasked = errors.New("websocket: the server masked a frame")

// nextFrame reads the first frame of b. n is 0 when b holds only a part of it;
// then need is how long b must be at least.
func nextFrame(b []byte) (f wsFrame, n, need int, err error) {
	if len(b) < 2 {
		return f, 0, 2, nil
	}
	if b[0]&0x70 != 0 {
		return f, 0, 0, fmt.Errorf("websocket: reserved bits %#x are set", b[0]&0x70)
	}
	if b[1]&0x80 != 0 {
		return f, 0, 0, errMasked
	}
	head, size := 2, int(b[1]&0x7f)
	switch size {
	case 126:
		if head = 4; len(b) < head {
			return f, 0, head, nil
		}
		size = int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		if head = 10; len(b) < head {
			return f, 0, head, nil
		}
		long := binary.BigEndian.Uint64(b[2:])
		if long > maxServerFrame {
			return f, 0, 0, fmt.Errorf("websocket: a frame of %d bytes, the generator takes %d", long, maxServerFrame)
		}
		size = int(long)
	}
	if len(b) < head+size {
		return f, 0, head + size, nil
	}
	return wsFrame{op: b[0] & 0x0f, final: b[0]&0x80 != 0, payload: b[head : head+size]}, head + size, 0, nil
}

// appendFrame adds one masked frame, as every client must send them, to dst.
func appendFrame(dst []byte, op byte, key uint32, payload []byte) []byte {
	dst = append(dst, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	dst = binary.LittleEndian.AppendUint32(dst, key)
	at := len(dst)
	dst = append(dst, payload...)
	mask(dst[at:], key)
	return dst
}

// mask applies key to b from its first byte on, eight bytes at a time.
func mask(b []byte, key uint32) {
	wide := uint64(key)<<32 | uint64(key)
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * (i & 3)))
	}
}
