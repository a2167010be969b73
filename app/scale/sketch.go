package scale

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Sketch holds the spread of values so that it can be merged: buckets whose
// bounds grow by 5%, only those that are occupied. Quantiles are right to 2.5%,
// minimum, maximum and mean exactly. The zero value is empty.
type Sketch struct {
	count    uint64
	sum      float64
	min, max float64
	zero     uint64   // values too small to tell from nothing
	buckets  []bucket // by index, rising
}

type bucket struct {
	index int32
	n     uint64
}

const (
	sketchGrowth = 1.05
	// maxSketchBuckets bounds one sketch: 256 buckets span a factor of 265,000.
	// Beyond it the lowest are merged: the high quantiles are those that matter.
	maxSketchBuckets = 256
	sketchTiny       = 1e-12
)

var logGrowth = math.Log(sketchGrowth)

// Add counts one value; what is no number or negative is left out.
func (s *Sketch) Add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
		return
	}
	if s.count == 0 {
		s.min, s.max = v, v
	}
	s.min, s.max = math.Min(s.min, v), math.Max(s.max, v)
	s.count++
	s.sum += v
	if v < sketchTiny {
		s.zero++
		return
	}
	s.put(int32(math.Ceil(math.Log(v)/logGrowth)), 1)
}

func (s *Sketch) put(index int32, n uint64) {
	i, found := slices.BinarySearchFunc(s.buckets, index, func(b bucket, want int32) int { return int(b.index) - int(want) })
	if found {
		s.buckets[i].n += n
		return
	}
	s.buckets = slices.Insert(s.buckets, i, bucket{index, n})
	if len(s.buckets) > maxSketchBuckets {
		s.buckets[1].n += s.buckets[0].n
		s.buckets = slices.Delete(s.buckets, 0, 1)
	}
}

// Merge adds o to s.
func (s *Sketch) Merge(o *Sketch) {
	if o.count == 0 {
		return
	}
	if s.count == 0 {
		s.min, s.max = o.min, o.max
	}
	s.min, s.max = math.Min(s.min, o.min), math.Max(s.max, o.max)
	s.count += o.count
	s.sum += o.sum
	s.zero += o.zero
	for _, b := range o.buckets {
		s.put(b.index, b.n)
	}
}

// Count is the number of values.
func (s *Sketch) Count() uint64 { return s.count }

// Min is the lowest value, exactly; 0 for an empty sketch.
func (s *Sketch) Min() float64 { return s.min }

// Max is the highest value, exactly.
func (s *Sketch) Max() float64 { return s.max }

// Mean is the mean of all values.
func (s *Sketch) Mean() float64 {
	if s.count == 0 {
		return 0
	}
	return s.sum / float64(s.count)
}

// Quantile estimates the q-quantile.
func (s *Sketch) Quantile(q float64) float64 {
	if s.count == 0 {
		return 0
	}
	want := uint64(max(1, math.Ceil(min(max(q, 0), 1)*float64(s.count))))
	seen := s.zero
	if seen >= want {
		return s.min
	}
	for _, b := range s.buckets {
		if seen += b.n; seen >= want {
			middle := math.Exp((float64(b.index) - 0.5) * logGrowth)
			return min(max(middle, s.min), s.max)
		}
	}
	return s.max
}

// AppendBinary writes the stored form behind b: a few bytes for a calm signal.
func (s *Sketch) AppendBinary(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, s.count)
	if s.count == 0 {
		return b, nil
	}
	for _, v := range [...]float64{s.sum, s.min, s.max} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	b = binary.AppendUvarint(b, s.zero)
	b = binary.AppendUvarint(b, uint64(len(s.buckets)))
	last := int32(0)
	for _, k := range s.buckets {
		b = binary.AppendVarint(b, int64(k.index-last))
		b = binary.AppendUvarint(b, k.n)
		last = k.index
	}
	return b, nil
}

// errSketch is the cause of every refusal of stored bytes.
var errSketch = errors.New("these bytes are no sketch")

// ReadSketch reads one sketch from the front of b and returns what follows it.
func ReadSketch(b []byte) (Sketch, []byte, error) {
	r := reader{b: b}
	var s Sketch
	if s.count = r.uvarint(); s.count == 0 {
		return Sketch{}, r.b, r.err
	}
	s.sum, s.min, s.max = r.float(), r.float(), r.float()
	s.zero = r.uvarint()
	n := r.uvarint()
	if n > maxSketchBuckets {
		return Sketch{}, nil, fmt.Errorf("%w: %d buckets", errSketch, n)
	}
	index, total := int64(0), s.zero
	for i := range n {
		step := r.varint()
		index += step
		k := bucket{index: int32(index), n: r.uvarint()}
		if r.err == nil && (index < -100_000 || index > 100_000 || i > 0 && step <= 0 || k.n == 0 || k.n > s.count) {
			return Sketch{}, nil, fmt.Errorf("%w: bucket %d", errSketch, i)
		}
		total += k.n
		s.buckets = append(s.buckets, k)
	}
	ok := finite(s.sum) && finite(s.min) && finite(s.max) && s.min >= 0 && s.min <= s.max && total == s.count
	if r.err == nil && !ok {
		r.err = fmt.Errorf("%w: its numbers do not fit together", errSketch)
	}
	if r.err != nil {
		return Sketch{}, nil, r.err
	}
	return s, r.b, nil
}

// A reader takes numbers from bytes and remembers the first error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) {
	if n <= 0 {
		r.b, r.err = nil, errSketch
		return
	}
	r.b = r.b[n:]
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	r.take(n)
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	r.take(n)
	return v
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.take(0)
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.take(8)
	return v
}
