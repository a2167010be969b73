package wire

import (
	"encoding/base64"
	"slices"
	"unicode/utf8"
)

// A cursor walks through one frame in either encoding. A fault of syntax ends the
// walk: broken is set and every method then answers at once with nothing. A fault
// of meaning (wrong type, twice, out of range) is noted, the first one counts,
// and the walk goes on, because the id that the answer needs may come later.
type cursor struct {
	b    []byte
	i    int
	enc  Encoding
	wire uint8 // protobuf: wire type of the field that next returned

	broken bool
	fault  fault
	path   [4]field // the objects that the cursor is in, below the kind
	depth  int

	scratch []byte // text that does not stand in b as it is
}

// level is where the cursor stands in one object.
type level struct {
	end     int // protobuf: index after the object
	done    bool
	first   bool
	inner   bool // has an entry in cursor.path
	allowed *fieldSet
	seen    fieldSet
	present fieldSet // fields that next returned
}

// fail ends the walk with a fault of syntax at index i.
func (s *cursor) fail(i int, want string) {
	if !s.broken {
		s.broken = true
		s.fault = fault{set: true, syntax: true, code: BadFrame, at: i, want: want}
	}
	s.i = len(s.b)
}

// refuse notes a fault of meaning in field f of the present object.
func (s *cursor) refuse(code Code, f field, want string) {
	if !s.fault.set {
		s.fault = fault{set: true, code: code, path: s.path, depth: s.depth, field: f, want: want}
	}
}

// refuseFrame notes a fault of the frame itself.
func (s *cursor) refuseFrame(want string) {
	if !s.fault.set {
		s.fault = fault{set: true, frame: true, code: BadFrame, want: want}
	}
}

// wrong notes that the value of f is not what it should be and steps over it.
func (s *cursor) wrong(f field, want string) {
	s.refuse(BadFrame, f, want)
	s.skip()
}

// skip steps over the value of the field that next returned, or in JSON over any
// value at the cursor. What is skipped is validated all the same.
func (s *cursor) skip() {
	if s.enc == Protobuf {
		s.skipProto()
		return
	}
	if s.broken {
		return
	}
	end, _, want := scanValue(s.b, s.i)
	if want != "" {
		s.fail(end, want)
		return
	}
	s.i = end
}

// open enters the object that is the value of f; f is fEnd for a kind itself.
func (s *cursor) open(f field, allowed *fieldSet) level {
	l := level{allowed: allowed}
	if s.enc == Protobuf {
		n, ok := s.length(f)
		if !ok {
			l.done = true
			return l
		}
		l.end = s.i + n
	} else {
		if s.broken || s.i >= len(s.b) || s.b[s.i] != '{' {
			s.wrong(f, "expected an object")
			l.done = true
			return l
		}
		s.i++
		l.first = true
	}
	if f != fEnd && s.depth < len(s.path) {
		s.path[s.depth] = f
		s.depth++
		l.inner = true
	}
	return l
}

// next moves to the next known field of the object and returns it, fEnd after
// the last. The caller must then read the field's value.
func (s *cursor) next(l *level) field {
	if !l.done && !s.broken {
		var f field
		if s.enc == Protobuf {
			f = s.nextProto(l)
		} else {
			f = s.nextJSON(l)
		}
		if f != fEnd {
			l.present.add(f)
			return f
		}
	}
	l.done = true
	if l.inner {
		s.depth--
		l.inner = false
	}
	return fEnd
}

// text reads a string. The result aliases the frame or the scratch space.
func (s *cursor) text(f field) []byte {
	if s.enc == Protobuf {
		n, ok := s.length(f)
		if !ok {
			return nil
		}
		text := s.b[s.i : s.i+n : s.i+n]
		s.i += n
		if !utf8.Valid(text) {
			s.refuse(BadFrame, f, "expected UTF-8")
			return nil
		}
		return text
	}
	if s.broken || s.b[s.i] != '"' {
		s.wrong(f, "expected a string")
		return nil
	}
	return s.quoted()
}

// copied reads a string and copies it.
func (s *cursor) copied(f field) string { return string(s.text(f)) }

const wantNumber = "expected a whole number from 0 to 9007199254740991"

// uint reads a number.
func (s *cursor) uint(f field) uint64 {
	if s.enc == Protobuf {
		return s.uintProto(f)
	}
	if s.broken {
		return 0
	}
	start, v := s.i, uint64(0)
	i := digits(s.b, start)
	if i == start || i-start > 16 || s.b[start] == '0' && i > start+1 || i < len(s.b) && numberGoesOn(s.b[i]) {
		s.wrong(f, wantNumber)
		return 0
	}
	for _, c := range s.b[start:i] {
		v = v*10 + uint64(c-'0')
	}
	if v > MaxInteger {
		s.refuse(BadFrame, f, wantNumber)
		v = 0
	}
	s.i = i
	return v
}

// numberGoesOn tells that c, after digits, makes them part of another value.
func numberGoesOn(c byte) bool { return c == '.' || c|0x20 == 'e' }

func (s *cursor) int64(f field) int64 { return int64(s.uint(f)) }
func (s *cursor) int(f field) int     { return int(s.uint(f)) }

// flag reads a truth value.
func (s *cursor) flag(f field) bool {
	if s.enc == Protobuf {
		if s.broken {
			return false
		}
		if s.wire != wireVarint {
			s.wrong(f, "expected a field of wire type 0")
			return false
		}
		return s.varint(len(s.b)) != 0
	}
	if s.broken {
		return false
	}
	rest := s.b[s.i:]
	switch {
	case len(rest) >= 4 && string(rest[:4]) == "true":
		s.i += 4
		return true
	case len(rest) >= 5 && string(rest[:5]) == "false":
		s.i += 5
	default:
		s.wrong(f, "expected true or false")
	}
	return false
}

// class reads a priority.
func (s *cursor) class(f field) Class {
	if s.enc == Protobuf {
		if v := s.uintProto(f); v < Classes {
			return classesByNumber[v]
		}
		s.refuse(BadFrame, f, wantClass)
		return Normal
	}
	switch string(s.text(f)) {
	case "critical":
		return Critical
	case "high":
		return High
	case "normal":
		return Normal
	case "low":
		return Low
	}
	s.refuse(BadFrame, f, wantClass)
	return Normal
}

// json reads a value that is carried as JSON text, the line ends between its
// tokens taken out.
func (s *cursor) json(f field) []byte {
	var value []byte
	var lines bool
	var want string
	if s.enc == Protobuf {
		n, ok := s.length(f)
		if !ok {
			return nil
		}
		value = s.b[s.i : s.i+n : s.i+n]
		s.i += n
		if f != fData && (n == 0 || string(value) == "null") {
			return nil // as in JSON, the same as leaving it out
		}
		if lines, want = scanDocument(value); want != "" {
			s.refuse(BadFrame, f, "expected JSON: "+want)
			return nil
		}
	} else {
		if s.broken {
			return nil
		}
		var end int
		if end, lines, want = scanValue(s.b, s.i); want != "" {
			s.fail(end, want)
			return nil
		}
		value = s.b[s.i:end:end]
		s.i = end
	}
	if !lines {
		return value
	}
	from := len(s.scratch)
	s.scratch = appendOneLine(s.scratch, value)
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}

// payload reads data or bytes, whichever f is.
func (s *cursor) payload(f field, p *Payload) {
	if s.enc == JSON && (p.Data != nil || p.Binary) {
		s.wrong(f, "a frame has either data or bytes")
		return
	}
	if f == fData {
		p.Data, p.Binary = s.json(f), false
	} else {
		p.Data, p.Binary = s.raw(f), true
	}
}

// raw reads bytes, which JSON carries as base64: the standard or the URL
// alphabet, padded or not, as in the JSON form of proto3. The result is not nil.
func (s *cursor) raw(f field) []byte {
	if s.enc == Protobuf {
		n, ok := s.length(f)
		if !ok {
			return []byte{}
		}
		value := s.b[s.i : s.i+n : s.i+n]
		s.i += n
		return value
	}
	text := s.text(f)
	for len(text) > 0 && text[len(text)-1] == '=' {
		text = text[:len(text)-1]
	}
	encoding := base64.RawStdEncoding
	for _, c := range text {
		if c == '-' || c == '_' {
			encoding = base64.RawURLEncoding
			break
		}
	}
	from := len(s.scratch)
	s.scratch = slices.Grow(s.scratch, encoding.DecodedLen(len(text)))
	n, err := encoding.Decode(s.scratch[from:cap(s.scratch)], text)
	if err != nil {
		s.refuse(BadFrame, f, "expected base64")
		n = 0
	}
	s.scratch = s.scratch[:from+n]
	return s.scratch[from : from+n : from+n]
}

// element moves to the next element of a list, which JSON writes as one array
// and protobuf as a field for each element; first is true before the first call
// for one occurrence of the field.
func (s *cursor) element(f field, first *bool) bool {
	if s.broken {
		return false
	}
	if s.enc == Protobuf {
		more := *first
		*first = false
		return more
	}
	if *first {
		if s.b[s.i] != '[' {
			s.wrong(f, "expected an array")
			return false
		}
		s.i++
	}
	return s.advance(first, ']')
}
