package wire

import (
	"fmt"
	"unicode/utf8"
)

// headers reads names and values. The strings are copies that share one piece of
// memory.
func (s *cursor) headers(f field, into []Header, lim *Limits) []Header {
	if s.enc == Protobuf {
		return s.headerProto(f, into, lim)
	}
	if s.broken || s.b[s.i] != '{' {
		s.wrong(f, "expected an object of strings")
		return nil
	}
	s.i++
	size := 0
	for first := true; s.advance(&first, '}'); {
		name := s.name()
		if s.broken {
			return nil
		}
		if s.null() {
			continue
		}
		if s.b[s.i] != '"' {
			s.wrong(f, "expected an object of strings")
			continue
		}
		value := s.quoted()
		size += len(name) + len(value)
		into = s.addHeader(f, into, lim, name, value, size)
	}
	return into
}

// addHeader appends a header unless a limit forbids it; size is that of all
// headers of the frame.
func (s *cursor) addHeader(f field, into []Header, lim *Limits, name, value []byte, size int) []Header {
	switch {
	case s.broken:
		return into
	case len(name) == 0:
		s.refuse(BadFrame, f, "expected a header's name that is not empty")
		return into
	case lim.HeaderCount > 0 && len(into) >= lim.HeaderCount:
		s.refuse(TooLarge, f, fmt.Sprintf("more than %d headers", lim.HeaderCount))
		return into
	case lim.HeaderBytes > 0 && size > lim.HeaderBytes:
		s.refuse(TooLarge, f, fmt.Sprintf("more than %d bytes of headers", lim.HeaderBytes))
		return into
	}
	for i := range into {
		if into[i].Name == string(name) {
			if s.enc == JSON {
				s.refuse(BadFrame, f, "a header is given twice")
			}
			into[i].Value = string(value)
			return into
		}
	}
	return append(into, Header{string(name), string(value)})
}

// headerProto reads one entry of the map of headers.
func (s *cursor) headerProto(f field, into []Header, lim *Limits) []Header {
	n, ok := s.length(f)
	if !ok {
		return into
	}
	// Name and value have the numbers 1 and 2, as in every map.
	entry := fieldsOf(fTo, fChannel)
	l := level{end: s.i + n, allowed: &entry}
	var name, value []byte
	for g := s.next(&l); g != fEnd; g = s.next(&l) {
		if g == fTo {
			name = s.entryText(f)
		} else {
			value = s.entryText(f)
		}
	}
	size := len(name) + len(value)
	for i := range into {
		size += len(into[i].Name) + len(into[i].Value)
	}
	return s.addHeader(f, into, lim, name, value, size)
}

// entryText is text for a name or value of the headers f.
func (s *cursor) entryText(f field) []byte {
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
