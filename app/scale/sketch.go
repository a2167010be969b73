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
	s.put(bucketOf(v), 1)
}

// bucketOf is the bucket of a value above sketchTiny.
func bucketOf(v float64) int32 { return int32(math.Ceil(math.Log(v) / logGrowth)) }

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
	if len(s.buckets) == 0 {
		s.buckets = slices.Clone(o.buckets)
		return
	}
	i := 0
	for _, b := range o.buckets { // both rise: one walk finds all places
		for i < len(s.buckets) && s.buckets[i].index < b.index {
			i++
		}
		if i < len(s.buckets) && s.buckets[i].index == b.index {
			s.buckets[i].n += b.n
			continue
		}
		s.put(b.index, b.n)
		i = 0 // put may have merged the lowest two
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

// AppendBinary writes the stored form behind b: nothing of an empty sketch, two
// numbers of a signal that never changed. Minimum, maximum and sum keep seven
// digits unless they are whole. Buckets mostly lie side by side and hold few
// values: such a one takes one byte.
func (s *Sketch) AppendBinary(b []byte) ([]byte, error) { return s.append(b, false) }

// append writes the stored form; bare leaves the buckets out, where quantiles come
// from elsewhere.
func (s *Sketch) append(b []byte, bare bool) ([]byte, error) {
	if s.count == 0 {
		return b, nil
	}
	steady := s.min == s.max
	b = binary.AppendUvarint(b, s.count<<1|uint64(flag(steady)))
	if steady {
		return appendNumber(b, s.min), nil
	}
	for _, v := range [...]float64{s.sum, s.min, s.max} {
		b = appendNumber(b, v)
	}
	if bare {
		return b, nil
	}
	b = binary.AppendUvarint(b, s.zero)
	last := int32(0)
	for i, k := range s.buckets {
		if beside := i > 0 && k.index == last+1; beside {
			b = binary.AppendUvarint(b, k.n<<1)
		} else {
			b = binary.AppendUvarint(b, k.n<<1|1)
			b = binary.AppendVarint(b, int64(k.index-last))
		}
		last = k.index
	}
	return b, nil
}

// Whole numbers are stored as twice themselves plus one; others behind a tag.
const (
	tagSingle = 0 // four bytes follow
	tagDouble = 2 // eight
	maxWhole  = 1 << 52
)

func appendNumber(b []byte, v float64) []byte {
	switch {
	case v == math.Trunc(v) && v < maxWhole:
		return binary.AppendUvarint(b, uint64(v)<<1|1)
	case v < math.MaxFloat32 && v > 1e-30:
		return binary.LittleEndian.AppendUint32(append(b, tagSingle), math.Float32bits(float32(v)))
	}
	return binary.LittleEndian.AppendUint64(append(b, tagDouble), math.Float64bits(v))
}

func flag(v bool) int {
	if v {
		return 1
	}
	return 0
}

// errSketch is the cause of every refusal of stored bytes.
var errSketch = errors.New("these bytes are no sketch")

// ReadSketch reads what AppendBinary wrote, all of b.
func ReadSketch(b []byte) (Sketch, error) { return readSketch(b, rollupVersion) }

// readSketch reads the form that a version of the rollup has.
func readSketch(b []byte, version byte) (Sketch, error) {
	var s Sketch
	if len(b) == 0 {
		return s, nil
	}
	r := reader{b: b}
	head := r.uvarint()
	if s.count = head >> 1; s.count == 0 || s.count > maxWhole {
		return Sketch{}, fmt.Errorf("%w: %d values", errSketch, s.count)
	}
	if head&1 == 1 {
		v := r.number()
		if r.err != nil || len(r.b) > 0 || !finite(v) || v < 0 {
			return Sketch{}, fmt.Errorf("%w: its one value cannot be read", errSketch)
		}
		s.min, s.max, s.sum = v, v, v*float64(s.count)
		if v < sketchTiny {
			s.zero = s.count
		} else {
			s.put(bucketOf(v), s.count)
		}
		return s, nil
	}
	s.sum, s.min, s.max = r.number(), r.number(), r.number()
	bare := version > 1 && r.err == nil && len(r.b) == 0
	if !bare {
		s.zero = r.uvarint()
		s.buckets = make([]bucket, 0, min(len(r.b), maxSketchBuckets))
	}
	index, total := int64(0), s.zero
	for i := 0; len(r.b) > 0; i++ {
		step, n := int64(1), uint64(0)
		if version == 1 {
			step, n = r.varint(), r.uvarint()
		} else if n = r.uvarint(); n&1 == 1 {
			step = r.varint()
		}
		if version > 1 {
			n >>= 1
		}
		index += step
		k := bucket{index: int32(index), n: n}
		if r.err == nil && (i >= maxSketchBuckets || index < -100_000 || index > 100_000 || i > 0 && step <= 0 || k.n == 0 || k.n > s.count) {
			return Sketch{}, fmt.Errorf("%w: bucket %d", errSketch, i)
		}
		total += k.n
		s.buckets = append(s.buckets, k)
	}
	ok := finite(s.sum) && finite(s.min) && finite(s.max) && s.sum >= 0 && s.min >= 0 && s.min <= s.max && (bare || total == s.count)
	if r.err == nil && !ok {
		r.err = fmt.Errorf("%w: its numbers do not fit together", errSketch)
	}
	if r.err != nil {
		return Sketch{}, r.err
	}
	return s, nil
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

// number reads what appendNumber wrote.
func (r *reader) number() float64 {
	head := r.uvarint()
	if head&1 == 1 {
		return float64(head >> 1)
	}
	var v float64
	size := 0
	switch {
	case head == tagSingle && len(r.b) >= 4:
		size, v = 4, float64(math.Float32frombits(binary.LittleEndian.Uint32(r.b)))
	case head == tagDouble && len(r.b) >= 8:
		size, v = 8, math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	}
	r.take(size)
	return v
}

// part reads a part that is led by its length.
func (r *reader) part() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.take(0)
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}
