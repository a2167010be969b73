package wire

// Wire types of protobuf. 3 and 4 are groups, which proto3 does not have.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// varint reads a varint that must end before end.
func (s *cursor) varint(end int) uint64 {
	if s.i < end && s.b[s.i] < 0x80 {
		s.i++
		return uint64(s.b[s.i-1])
	}
	var v uint64
	for n, i := 0, s.i; i < end; i++ {
		c := s.b[i]
		if n == 9 && c > 1 {
			s.fail(i, "expected a varint of 64 bits")
			return 0
		}
		v |= uint64(c&0x7f) << (7 * n)
		if c < 0x80 {
			s.i = i + 1
			return v
		}
		n++
	}
	s.fail(s.i, "expected a whole varint")
	return 0
}

// tag reads the number and type of a field whose value must end before end. The
// value is checked here, against the object that it is in, so that reading it
// needs no more checks.
func (s *cursor) tag(end int) (number uint64) {
	tag := s.varint(end)
	if s.broken {
		return 0
	}
	s.wire = uint8(tag & 7)
	number = tag >> 3
	if number == 0 || number > 1<<29-1 {
		s.fail(s.i, "expected a field number")
		return 0
	}
	s.fits(end)
	return number
}

// frameField is tag for the fields of the frame itself.
func (s *cursor) frameField() (number uint64) { return s.tag(len(s.b)) }

// nextProto returns the next known field of the object and skips unknown ones.
func (s *cursor) nextProto(l *level) field {
	for s.i < l.end {
		number := s.tag(l.end)
		if s.broken {
			return fEnd
		}
		if number < uint64(fieldCount) && l.allowed.has(field(number)) {
			return field(number)
		}
		s.skipProto()
	}
	return fEnd
}

// fits checks that the value at the cursor ends within the object.
func (s *cursor) fits(end int) {
	at := s.i
	switch s.wire {
	case wireVarint:
		s.varint(end)
	case wireFixed64:
		s.i += 8
	case wireFixed32:
		s.i += 4
	case wireBytes:
		n := s.varint(end)
		if !s.broken && n > uint64(end-s.i) {
			s.fail(at, "expected a field that ends within its message")
		}
		if !s.broken {
			s.i += int(n)
		}
	default:
		s.fail(at, "expected no group")
	}
	if !s.broken && s.i > end {
		s.fail(at, "expected a field that ends within its message")
	}
	if !s.broken {
		s.i = at
	}
}

// skipProto steps over the value at the cursor, which fits has checked.
func (s *cursor) skipProto() {
	if s.broken {
		return
	}
	switch s.wire {
	case wireVarint:
		s.varint(len(s.b))
	case wireFixed64:
		s.i += 8
	case wireFixed32:
		s.i += 4
	case wireBytes:
		n := s.varint(len(s.b))
		s.i += int(n)
	}
}

// length reads the length of a string, bytes or message; the value follows.
func (s *cursor) length(f field) (n int, ok bool) {
	if s.broken {
		return 0, false
	}
	if s.wire != wireBytes {
		s.wrong(f, "expected a field of wire type 2")
		return 0, false
	}
	v := s.varint(len(s.b))
	return int(v), !s.broken
}

// uintProto reads a number that JSON can carry too.
func (s *cursor) uintProto(f field) uint64 {
	if s.broken {
		return 0
	}
	if s.wire != wireVarint {
		s.wrong(f, "expected a field of wire type 0")
		return 0
	}
	v := s.varint(len(s.b))
	if v > MaxInteger {
		s.refuse(BadFrame, f, wantNumber)
		return 0
	}
	return v
}
