package wire

// space steps over white space of JSON.
func (s *cursor) space() {
	if s.i < len(s.b) && s.b[s.i] <= ' ' {
		s.i, _ = skipSpace(s.b, s.i, false)
	}
}

func (s *cursor) nextJSON(l *level) field {
	for {
		if !s.advance(&l.first, '}') {
			return fEnd
		}
		key := s.name()
		if s.broken {
			return fEnd
		}
		f := fieldOf(key)
		if f == fEnd || !l.allowed.has(f) {
			s.skip()
		} else if l.seen.has(f) {
			s.wrong(f, "given twice")
		} else if l.seen.add(f); f != fData && s.null() {
			continue
		} else {
			return f
		}
		if s.broken {
			return fEnd
		}
	}
}

// advance moves to the next member of a JSON object or element of an array, which
// the closing byte ends. It answers false, the closing byte read, when there is
// none.
func (s *cursor) advance(first *bool, closing byte) bool {
	s.space()
	if s.i >= len(s.b) {
		s.fail(s.i, "expected the end of an object or array")
		return false
	}
	c := s.b[s.i]
	if c == closing {
		s.i++
		return false
	}
	if *first {
		*first = false
		return true
	}
	if c != ',' {
		s.fail(s.i, "expected ',' or the end of the object or array")
		return false
	}
	s.i++
	if s.space(); s.i >= len(s.b) {
		s.fail(s.i, "expected a value after ','")
		return false
	}
	return true
}

// name reads a key of a JSON object and moves to its value.
func (s *cursor) name() []byte {
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		s.fail(s.i, "expected a key in quotes")
		return nil
	}
	key := s.quoted()
	s.space()
	if s.i >= len(s.b) || s.b[s.i] != ':' {
		s.fail(s.i, "expected ':'")
		return nil
	}
	s.i++
	s.space()
	if s.i >= len(s.b) {
		s.fail(s.i, "expected a value")
	}
	return key
}

// null steps over a JSON null, which says the same as leaving the field out.
func (s *cursor) null() bool {
	if s.i+4 > len(s.b) || string(s.b[s.i:s.i+4]) != "null" {
		return false
	}
	s.i += 4
	return true
}

// quoted reads the JSON string at the cursor. The result aliases the frame or
// the scratch space.
func (s *cursor) quoted() []byte {
	start := s.i + 1
	end, escaped, want := scanString(s.b, start)
	if want != "" {
		s.fail(end, want)
		return nil
	}
	s.i = end + 1
	text := s.b[start:end:end]
	if !escaped {
		return text
	}
	from := len(s.scratch)
	s.scratch = appendUnescaped(s.scratch, text)
	return s.scratch[from:len(s.scratch):len(s.scratch)]
}
