package wire

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// A writer appends one frame in either encoding. Fields that hold nothing are
// left out unless a method says otherwise.
type writer struct {
	b   []byte
	enc Encoding
}

// fieldKeys are the fields as JSON keys after another member.
var fieldKeys = makeFieldKeys()

func makeFieldKeys() (keys [fieldCount]string) {
	for f := fEnd + 1; f < fieldCount; f++ {
		keys[f] = `,"` + fieldWords[f] + `":`
	}
	return keys
}

// kindKeys are the kinds as JSON keys with the start of their object.
var kindKeys = makeKindKeys()

func makeKindKeys() (keys [len(kindWords)]string) {
	for k, word := range kindWords {
		keys[k] = `"` + word + `":{`
	}
	return keys
}

// frame starts a frame of the kind, which has this number in the schema. hint is
// a guess of its length. The result is for close.
func (w *writer) frame(id uint64, kind Kind, number uint64, hint int) (mark int, room int) {
	if w.enc == JSON {
		w.b = append(w.b, '{')
		if id != 0 {
			w.b = append(w.b, `"id":`...)
			w.b = strconv.AppendUint(w.b, id, 10)
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, kindKeys[kind]...)
		return 0, 0
	}
	if id != 0 {
		w.b = append(w.b, 1<<3|wireVarint)
		w.b = appendVarint(w.b, id)
	}
	w.b = appendVarint(w.b, number<<3|wireBytes)
	return w.reserve(hint)
}

// endFrame ends what frame started.
func (w *writer) endFrame(mark, room int) []byte {
	if w.enc == JSON {
		return append(w.b, '}', '}')
	}
	w.b = insertLength(w.b, mark, room)
	return w.b
}

// reserve keeps room for the length of a message of about hint bytes.
func (w *writer) reserve(hint int) (mark, room int) {
	mark, room = len(w.b), varintLen(uint64(hint))
	w.b = append(w.b, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"[:room]...)
	return mark, room
}

// open starts the object that is the value of f.
func (w *writer) open(f field) (mark, room int) {
	w.key(f, wireBytes)
	if w.enc == JSON {
		w.b = append(w.b, '{')
		return 0, 0
	}
	return w.reserve(0)
}

// close ends what open started.
func (w *writer) close(mark, room int) {
	if w.enc == JSON {
		w.b = append(w.b, '}')
	} else {
		w.b = insertLength(w.b, mark, room)
	}
}

// key writes the key or tag of a field.
func (w *writer) key(f field, wire byte) {
	if w.enc == JSON {
		key := fieldKeys[f]
		if w.b[len(w.b)-1] == '{' {
			key = key[1:]
		}
		w.b = append(w.b, key...)
		return
	}
	if f < 16 {
		w.b = append(w.b, byte(f)<<3|wire)
	} else {
		w.b = append(w.b, byte(f)<<3|wire|0x80, byte(f>>4))
	}
}

// uint writes a number.
func (w *writer) uint(f field, v uint64) {
	if v != 0 {
		w.key(f, wireVarint)
		w.number(v)
	}
}

// uintAlways writes a number that readers of JSON shall find even when it is 0.
func (w *writer) uintAlways(f field, v uint64) {
	if v != 0 || w.enc == JSON {
		w.key(f, wireVarint)
		w.number(v)
	}
}

func (w *writer) number(v uint64) {
	if w.enc == JSON {
		w.b = strconv.AppendUint(w.b, v, 10)
	} else {
		w.b = appendVarint(w.b, v)
	}
}

// int writes a number that is not negative; a negative one is left out.
func (w *writer) int(f field, v int64) {
	if v > 0 {
		w.uint(f, uint64(v))
	}
}

// intAlways is uintAlways for a number that is not negative.
func (w *writer) intAlways(f field, v int64) { w.uintAlways(f, uint64(max(v, 0))) }

// flag writes a truth value.
func (w *writer) flag(f field, v bool) {
	if v {
		w.flagAlways(f, v)
	}
}

// flagAlways writes a truth value that readers of JSON shall find even when it is
// false.
func (w *writer) flagAlways(f field, v bool) {
	switch {
	case w.enc == JSON:
		w.key(f, wireVarint)
		w.b = strconv.AppendBool(w.b, v)
	case v:
		w.key(f, wireVarint)
		w.b = append(w.b, 1)
	}
}

// text writes a string.
func (w *writer) text(f field, v string) {
	if v != "" {
		w.key(f, wireBytes)
		w.textValue(v)
	}
}

// textAlways writes a string that readers of JSON shall find even when it is
// empty.
func (w *writer) textAlways(f field, v string) {
	if v != "" || w.enc == JSON {
		w.key(f, wireBytes)
		w.textValue(v)
	}
}

func (w *writer) textValue(v string) {
	if w.enc == JSON {
		w.b = appendQuoted(w.b, v)
		return
	}
	if !utf8.ValidString(v) {
		w.b = appendRepaired(w.b, v)
		return
	}
	w.b = appendVarint(w.b, uint64(len(v)))
	w.b = append(w.b, v...)
}

// textBytes is text for a value that is not a string yet.
func (w *writer) textBytes(f field, v []byte) {
	switch {
	case len(v) == 0:
	case plainRun(v, 0) == len(v):
		w.key(f, wireBytes)
		if w.enc == JSON {
			w.b = append(w.b, '"')
			w.b = append(w.b, v...)
			w.b = append(w.b, '"')
			return
		}
		w.b = appendVarint(w.b, uint64(len(v)))
		w.b = append(w.b, v...)
	default:
		w.text(f, string(v))
	}
}

// class writes a priority that is not the default.
func (w *writer) class(c Class) {
	if c == Normal || c >= Classes {
		return
	}
	if w.enc == JSON {
		w.key(fPriority, wireBytes)
		w.b = append(w.b, '"')
		w.b = append(w.b, classWords[c]...)
		w.b = append(w.b, '"')
		return
	}
	w.key(fPriority, wireVarint)
	w.b = append(w.b, byte(classNumbers[c]))
}

// payload writes data or bytes, nothing for no payload.
func (w *writer) payload(p *Payload) {
	switch {
	case p.Binary:
		w.key(fBytes, wireBytes)
		if w.enc == JSON {
			w.b = append(w.b, '"')
			w.b = base64.StdEncoding.AppendEncode(w.b, p.Data)
			w.b = append(w.b, '"')
			return
		}
		w.b = appendVarint(w.b, uint64(len(p.Data)))
		w.b = append(w.b, p.Data...)
	case len(p.Data) > 0:
		w.json(fData, p.Data)
	}
}

// json writes a value that is JSON text already.
func (w *writer) json(f field, v []byte) {
	if len(v) == 0 { // no JSON value is empty
		return
	}
	w.key(f, wireBytes)
	if w.enc == Protobuf {
		w.b = appendVarint(w.b, uint64(len(v)))
	}
	w.b = append(w.b, v...)
}

// headers writes names and values.
func (w *writer) headers(hs []Header) {
	if len(hs) == 0 {
		return
	}
	if w.enc == Protobuf {
		for i := range hs {
			mark, room := w.open(fHeaders)
			w.b = append(w.b, 1<<3|wireBytes)
			w.textValue(hs[i].Name)
			w.b = append(w.b, 2<<3|wireBytes)
			w.textValue(hs[i].Value)
			w.close(mark, room)
		}
		return
	}
	w.open(fHeaders)
	for i := range hs {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendQuoted(w.b, hs[i].Name)
		w.b = append(w.b, ':')
		w.b = appendQuoted(w.b, hs[i].Value)
	}
	w.b = append(w.b, '}')
}

// fault writes an error as the value of f.
func (w *writer) fault(f field, e *Error) {
	if e == nil {
		return
	}
	mark, room := w.open(f)
	w.faultFields(e)
	w.close(mark, room)
}

func (w *writer) faultFields(e *Error) {
	w.text(fCode, string(e.Code))
	w.text(fMessage, e.Message)
	w.int(fRetryAfterMS, e.RetryAfterMS)
}

// list starts a list in JSON; a protobuf list has no start.
func (w *writer) list(f field) {
	if w.enc == JSON {
		w.key(f, wireBytes)
		w.b = append(w.b, '[')
	}
}

// endList ends what list started.
func (w *writer) endList() {
	if w.enc == JSON {
		w.b = append(w.b, ']')
	}
}

// element starts an object of the list f, close ends it.
func (w *writer) element(f field) (mark, room int) {
	if w.enc == Protobuf {
		return w.open(f)
	}
	if w.b[len(w.b)-1] != '[' {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, '{')
	return 0, 0
}

// textElement writes a string of the list f.
func (w *writer) textElement(f field, v string) {
	if w.enc == Protobuf {
		w.key(f, wireBytes)
	} else if w.b[len(w.b)-1] != '[' {
		w.b = append(w.b, ',')
	}
	w.textValue(v)
}

func appendVarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendRepaired appends a protobuf string of v with U+FFFD for what is not UTF-8.
func appendRepaired(b []byte, v string) []byte {
	repaired := string([]rune(v))
	b = appendVarint(b, uint64(len(repaired)))
	return append(b, repaired...)
}

// appendQuoted appends v as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendQuoted(b []byte, v string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(v); {
		c := v[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(v[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, v[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		b = append(b, v[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(b, v[start:]...), '"')
}
