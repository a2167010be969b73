package ws

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"agentnet/app/wire"
)

// Opcodes of RFC 6455, section 11.8, and two words of our own for what decoder.next
// has found.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA

	opNone  = 0x10 // nothing whole is there yet
	opEmpty = 0x11 // a fragment without payload that ends nothing
)

const (
	bitFin  = 0x80
	bitRSV1 = 0x40
	bitMask = 0x80

	maxControl    = 125 // payload of a control frame
	maxHead       = 14  // header of a masked frame
	maxServerHead = 10  // header of an unmasked frame
)

// appendHead appends the header of an unmasked frame. first is its first byte.
func appendHead(dst []byte, first byte, length int) []byte {
	switch {
	case length <= 125:
		return append(dst, first, byte(length))
	case length <= 0xffff:
		return append(dst, first, 126, byte(length>>8), byte(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, 127), uint64(length))
	}
}

// appendControl appends a control frame; payload is at most maxControl bytes.
func appendControl(dst []byte, op byte, payload []byte) []byte {
	return append(append(dst, bitFin|op, byte(len(payload))), payload...)
}

// appendClose appends a close frame. Code 0 makes an empty one. A reason that is
// too long is cut between two characters.
func appendClose(dst []byte, code wire.CloseCode, reason string) []byte {
	if code == 0 {
		return append(dst, bitFin|opClose, 0)
	}
	reason = cutText(reason, maxControl-2)
	dst = append(dst, bitFin|opClose, byte(2+len(reason)), byte(code>>8), byte(code))
	return append(dst, reason...)
}

// cutText returns the longest valid beginning of s that has at most n bytes.
func cutText(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		if len(s) > 0 && s[len(s)-1] >= utf8.RuneSelf {
			s = s[:len(s)-1]
		}
	}
	if !utf8.ValidString(s) {
		return ""
	}
	return s
}

// parseClose reads the payload of a peer's close frame. Code 0 means that it had none.
func parseClose(p []byte) (wire.CloseCode, fault) {
	if len(p) == 0 {
		return 0, fault{}
	}
	if len(p) == 1 {
		return 0, fault{wire.CloseProtocolError, "close_payload", "a close frame has a code of two bytes or none"}
	}
	code := wire.CloseCode(binary.BigEndian.Uint16(p))
	if !validCloseCode(code) {
		return 0, fault{wire.CloseProtocolError, "close_code", "this close code must not be sent"}
	}
	if !utf8.Valid(p[2:]) {
		return 0, fault{wire.CloseInvalidPayload, "utf8", "the close reason is not UTF-8"}
	}
	return code, fault{}
}

// validCloseCode tells whether a peer may send code: those that RFC 6455 and the
// IANA registry allow on the wire, and the ranges for libraries and applications.
func validCloseCode(code wire.CloseCode) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}

// unmask takes the mask off p in place and returns the key for the byte after it.
// The key is the four bytes of the mask, read as little endian.
func unmask(p []byte, key uint32) uint32 {
	next := bits.RotateLeft32(key, -8*(len(p)&3))
	wide := uint64(key)<<32 | uint64(key)
	for len(p) >= 32 {
		b := p[:32:32]
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^wide)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^wide)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^wide)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^wide)
		p = p[32:]
	}
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(wide >> (8 * i))
	}
	return next
}
