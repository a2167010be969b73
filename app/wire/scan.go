package wire

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions of this file read JSON text at an index and return where they
// stopped. A want that is not empty says what should have stood there.

// plainRun returns the index of the first byte at or after i that does not simply
// belong to a string: a quote, a backslash, a control byte or a byte beyond
// ASCII; len(b) when there is none. It looks at eight bytes at once.
func plainRun(b []byte, i int) int {
	const (
		ones   = 0x0101010101010101
		highs  = 0x8080808080808080
		quotes = '"' * ones
		slants = '\\' * ones
		spaces = ' ' * ones
	)
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		q, s := w^quotes, w^slants
		// A borrow can only spoil bytes above a true hit, and the lowest hit counts.
		hit := ((w - spaces) &^ w) | ((q - ones) &^ q) | ((s - ones) &^ s) | w
		if hit &= highs; hit != 0 {
			return i + bits.TrailingZeros64(hit)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return i
}

// scanString reads a string whose opening quote stands before i and returns the
// index of its closing quote. escaped tells that something in it stands for
// something else.
func scanString(b []byte, i int) (end int, escaped bool, want string) {
	for {
		i = plainRun(b, i)
		if i >= len(b) {
			return i, escaped, "expected the end of a string"
		}
		switch c := b[i]; {
		case c == '"':
			return i, escaped, ""
		case c == '\\':
			n := escapeLen(b[i:])
			if n == 0 {
				return i, escaped, "expected an escape of JSON"
			}
			escaped = true
			i += n
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return i, escaped, "expected UTF-8"
			}
			i += n
		default:
			return i, escaped, "expected no control byte in a string"
		}
	}
}

// escapeLen returns the length of the escape that b starts with, 0 when it is
// none of JSON's.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendUnescaped appends what a scanned string stands for. Half of a surrogate
// pair stands for U+FFFD, as in encoding/json.
func appendUnescaped(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			dst = append(dst, s[i])
			i++
			continue
		}
		switch c := s[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(s[i+2:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(utf8.RuneError)
				if i+8 <= len(s) && s[i+2] == '\\' && s[i+3] == 'u' {
					low, _ = hex4(s[i+4:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
		i += 2
	}
	return dst
}

// skipSpace returns the index of the first byte at or after i that is not JSON's
// white space, and lines or whether a line end was among it.
func skipSpace(b []byte, i int, lines bool) (int, bool) {
	for ; i < len(b); i++ {
		switch b[i] {
		case ' ', '\t':
		case '\n', '\r':
			lines = true
		default:
			return i, lines
		}
	}
	return i, lines
}

// scanNumber returns the index after the number at i.
func scanNumber(b []byte, i int) (end int, want string) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	whole := digits(b, i)
	if whole == i {
		return i, "expected a value"
	}
	if b[i] == '0' && whole > i+1 {
		return i + 1, "expected no digit after a leading zero"
	}
	i = whole
	if i < len(b) && b[i] == '.' {
		end := digits(b, i+1)
		if end == i+1 {
			return end, "expected a digit after the point"
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := digits(b, i)
		if end == i {
			return end, "expected a digit in the exponent"
		}
		i = end
	}
	return i, ""
}

// digits returns the index of the first byte at or after i that is no digit.
func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// scanWord returns the index after the literal (true, false, null) at i.
func scanWord(b []byte, i int, word string) (end int, want string) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, "expected a value"
	}
	return i + len(word), ""
}

// scanScalar reads a value at i that is neither an object nor an array.
func scanScalar(b []byte, i int) (end int, want string) {
	switch b[i] {
	case '"':
		end, _, want = scanString(b, i+1)
		if want == "" {
			end++
		}
		return end, want
	case 't':
		return scanWord(b, i, "true")
	case 'f':
		return scanWord(b, i, "false")
	case 'n':
		return scanWord(b, i, "null")
	}
	return scanNumber(b, i)
}

// scanValue returns the index after the value at i, which is any JSON value that
// is not nested deeper than MaxDepth. lines tells that line ends stand between
// its tokens. It remembers the way up in one word instead of on the stack.
func scanValue(b []byte, i int) (end int, lines bool, want string) {
	var objects uint64 // bit d: level d+1 is an object, not an array
	depth := 0
value:
	if i >= len(b) {
		return i, lines, "expected a value"
	}
	switch b[i] {
	case '{':
		if depth == MaxDepth {
			return i, lines, "expected at most 64 levels of nesting"
		}
		i, lines = skipSpace(b, i+1, lines)
		objects |= 1 << depth
		depth++
		if i < len(b) && b[i] == '}' {
			i++
			depth--
			goto after
		}
		goto key
	case '[':
		if depth == MaxDepth {
			return i, lines, "expected at most 64 levels of nesting"
		}
		i, lines = skipSpace(b, i+1, lines)
		objects &^= 1 << depth
		depth++
		if i < len(b) && b[i] == ']' {
			i++
			depth--
			goto after
		}
		goto value
	default:
		if i, want = scanScalar(b, i); want != "" {
			return i, lines, want
		}
	}
after:
	if depth == 0 {
		return i, lines, ""
	}
	i, lines = skipSpace(b, i, lines)
	if i >= len(b) {
		return i, lines, "expected the end of an object or array"
	}
	if objects>>(depth-1)&1 == 0 {
		switch b[i] {
		case ',':
			i, lines = skipSpace(b, i+1, lines)
			goto value
		case ']':
			i++
			depth--
			goto after
		}
		return i, lines, "expected ',' or ']'"
	}
	switch b[i] {
	case ',':
		i, lines = skipSpace(b, i+1, lines)
	case '}':
		i++
		depth--
		goto after
	default:
		return i, lines, "expected ',' or '}'"
	}
key:
	if i >= len(b) || b[i] != '"' {
		return i, lines, "expected a key in quotes"
	}
	if i, _, want = scanString(b, i+1); want != "" {
		return i, lines, want
	}
	i, lines = skipSpace(b, i+1, lines)
	if i >= len(b) || b[i] != ':' {
		return i, lines, "expected ':'"
	}
	i, lines = skipSpace(b, i+1, lines)
	goto value
}

// ValidJSON reports whether text is one JSON value, perhaps with white space
// around, that a frame can carry as data: strict RFC 8259, UTF-8, nested at most
// MaxDepth deep.
func ValidJSON(text []byte) bool {
	_, want := scanDocument(text)
	return want == ""
}

// scanDocument checks that text is one JSON value with white space around.
func scanDocument(text []byte) (lines bool, want string) {
	i, before := skipSpace(text, 0, false)
	i, lines, want = scanValue(text, i)
	if want != "" {
		return lines, want
	}
	i, lines = skipSpace(text, i, lines)
	if i < len(text) {
		want = "expected nothing after the value"
	}
	return lines || before, want
}

// appendOneLine appends JSON text without the line ends between its tokens. In
// valid JSON a raw line end stands nowhere else.
func appendOneLine(dst, text []byte) []byte {
	for _, c := range text {
		if c != '\n' && c != '\r' {
			dst = append(dst, c)
		}
	}
	return dst
}
