package parcel

import (
	"encoding/binary"
	"unsafe"

	"agentnet/app/wire"
)

// A Coder writes the fields of a parcel one after the other, or reads them back in
// the same order, so that one function describes both directions. What it reads
// aliases the parcel. After a fault every further field reads as zero.
type Coder struct {
	b       []byte
	reading bool
	bad     bool
}

// Added says whether fields that were added to a kind later are there. When it is
// false the parcel is of an older node, and they stay zero.
func (c *Coder) Added() bool { return !c.reading || len(c.b) > 0 }

// Uint codes a number.
func (c *Coder) Uint(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	n, k := binary.Uvarint(c.b)
	if k <= 0 {
		c.fail()
		n, k = 0, 0
	}
	*v, c.b = n, c.b[k:]
}

// Int codes a number that may be below 0.
func (c *Coder) Int(v *int64) {
	u := uint64(*v<<1) ^ uint64(*v>>63)
	c.Uint(&u)
	*v = int64(u>>1) ^ -int64(u&1)
}

// Count codes a small number that is never below 0.
func (c *Coder) Count(v *int) {
	u := uint64(max(*v, 0))
	c.Uint(&u)
	if u > 1<<31 {
		c.fail()
		u = 0
	}
	*v = int(u)
}

// Byte codes one byte.
func (c *Coder) Byte(v *uint8) {
	if !c.reading {
		c.b = append(c.b, *v)
		return
	}
	if len(c.b) == 0 {
		c.fail()
		*v = 0
		return
	}
	*v, c.b = c.b[0], c.b[1:]
}

// Flags codes up to eight yes or no.
func (c *Coder) Flags(vs ...*bool) {
	var bits uint8
	for i, v := range vs {
		if *v {
			bits |= 1 << i
		}
	}
	c.Byte(&bits)
	for i, v := range vs {
		*v = bits&(1<<i) != 0
	}
}

// Bytes codes a text. Nothing and an empty one are the same.
func (c *Coder) Bytes(v *[]byte) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	var n uint64
	c.Uint(&n)
	if n > uint64(len(c.b)) {
		c.fail()
		n = 0
	}
	*v = nil
	if n > 0 {
		*v = c.b[:n:n]
	}
	c.b = c.b[n:]
}

// Text is Bytes for strings.
func (c *Coder) Text(v *string) {
	b := unsafe.Slice(unsafe.StringData(*v), len(*v))
	c.Bytes(&b)
	*v = unsafe.String(unsafe.SliceData(b), len(b))
}

// Word is Text for named types of strings.
func Word[T ~string](c *Coder, v *T) {
	s := string(*v)
	c.Text(&s)
	*v = T(s)
}

// List codes a list of anything. A list that claims more entries than it has bytes
// is a fault.
func List[T any](c *Coder, list *[]T, each func(c *Coder, v *T)) {
	n := len(*list)
	c.Count(&n)
	if c.reading {
		*list = nil
		if n > len(c.b) {
			c.fail()
			return
		}
		if n > 0 {
			*list = make([]T, 0, min(n, 4096))
		}
		for range n {
			var v T
			if each(c, &v); c.bad {
				*list = nil
				return
			}
			*list = append(*list, v)
		}
		return
	}
	for i := range *list {
		each(c, &(*list)[i])
	}
}

func (c *Coder) texts(v *[]string) {
	List(c, v, func(c *Coder, s *string) { c.Text(s) })
}

func (c *Coder) headers(v *[]wire.Header) {
	List(c, v, func(c *Coder, h *wire.Header) { c.Text(&h.Name); c.Text(&h.Value) })
}

// payload keeps apart no payload, an empty one and binary ones.
func (c *Coder) payload(p *wire.Payload) {
	given := p.Data != nil
	c.Flags(&given, &p.Binary)
	c.Bytes(&p.Data)
	if given && p.Data == nil {
		p.Data = []byte{}
	}
}

// refusal codes an error that may be missing.
func (c *Coder) refusal(e **wire.Error) {
	given := *e != nil
	c.Flags(&given)
	if !given {
		*e = nil
		return
	}
	if c.reading {
		*e = new(wire.Error)
	}
	Word(c, &(*e).Code)
	c.Text(&(*e).Message)
	c.Int(&(*e).RetryAfterMS)
}

func (c *Coder) fail() {
	c.bad = true
	c.b = nil
}
