package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"agentnet/app/scale"
)

// What the first byte of a parcel says that it is. A kind that is not known comes
// from a newer node and is left out.
const (
	parcelSample    = 1 // a sample, as below
	parcelKnowledge = 2 // the leader's engine, as JSON
	parcelAsk       = 3 // a command for the leader, as JSON
	parcelAnswer    = 4 // its answer
)

// errParcel is the cause of every refusal of a parcel.
var errParcel = errors.New("these bytes are no parcel of this version")

const (
	sampleVersion = 1
	maxName       = 128 // of a node or region, in bytes
	maxParcel     = 8 << 20
)

// appendSample writes a sample: some 200 bytes for a node with load.
func appendSample(b []byte, s *scale.Sample) []byte {
	b = append(b, parcelSample, sampleVersion)
	for _, text := range [...]string{s.Node, s.Region} {
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	for _, at := range [...]time.Time{s.At, s.Started, s.Ready} {
		ms := int64(0)
		if !at.IsZero() {
			ms = at.UnixMilli()
		}
		b = binary.AppendVarint(b, ms)
	}
	draining := byte(0)
	if s.Draining {
		draining = 1
	}
	b = append(b, draining, byte(scale.SignalCount))
	for _, r := range s.Values {
		b = append(b, byte(r.State))
		if r.State == scale.Fresh {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.Value))
		}
	}
	for _, h := range [...]*scale.Histogram{&s.Delivery, &s.API} {
		part := h.AppendBinary(nil)
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}

// readSample reads what appendSample wrote, without the kind.
func readSample(b []byte) (s scale.Sample, err error) {
	r := scanner{b: b}
	if r.byte() != sampleVersion {
		return s, fmt.Errorf("sample: %w", errParcel)
	}
	s.Node, s.Region = r.text(), r.text()
	for _, at := range [...]*time.Time{&s.At, &s.Started, &s.Ready} {
		if ms := r.varint(); ms != 0 {
			*at = time.UnixMilli(ms).UTC()
		}
	}
	s.Draining = r.byte() == 1
	for i := range int(r.byte()) {
		v := scale.Reading{State: scale.Validity(r.byte())}
		if v.State > scale.Fresh {
			return s, fmt.Errorf("sample: %w", errParcel)
		}
		if v.State == scale.Fresh {
			v.Value = r.float()
		}
		if i >= int(scale.SignalCount) {
			continue // a signal of a newer node
		}
		if v.State == scale.Fresh {
			s.Values.Set(scale.Signal(i), v.Value)
		} else {
			s.Values[i] = v
		}
	}
	for _, h := range [...]*scale.Histogram{&s.Delivery, &s.API} {
		if part := r.bytes(); len(part) > 0 && !r.bad {
			if err := h.UnmarshalBinary(part); err != nil {
				return s, fmt.Errorf("sample: %w", err)
			}
		}
	}
	if r.bad || s.Node == "" || s.At.IsZero() {
		return s, fmt.Errorf("sample: %w", errParcel)
	}
	return s, nil
}

// A scanner takes values from bytes; after the first fault all are zero.
type scanner struct {
	b   []byte
	bad bool
}

func (r *scanner) cut(n int) []byte {
	if n < 0 || n > len(r.b) || r.bad {
		r.b, r.bad = nil, true
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *scanner) byte() byte {
	if b := r.cut(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *scanner) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		n = -1
	}
	r.cut(n)
	return v
}

func (r *scanner) bytes() []byte {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(len(r.b)) {
		r.cut(-1)
		return nil
	}
	r.cut(n)
	return r.cut(int(v))
}

func (r *scanner) text() string {
	b := r.bytes()
	if len(b) > maxName {
		r.bad = true
		return ""
	}
	return string(b)
}

func (r *scanner) float() float64 {
	if b := r.cut(8); b != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return 0
}
