package api

import (
	"math"
	"time"

	"agentnet/app/relay"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// nativeSchema is the resolution of the native form: bounds grow by 2^(2^-2), the
// same factor as the relay's.
const nativeSchema = 2

// A latencyMetric is one reading of a relay.Histogram as a Prometheus histogram
// in both forms at once: classic buckets for everybody, native ones for servers
// that scrape protobuf.
//
// The relay's bounds are 2^(i/4-20) s and the native ones 2^(k/4) s, so that both
// forms have the same buckets, count and sum.
type latencyMetric struct {
	desc    *prometheus.Desc
	read    relay.Histogram
	first   int // of the classic bounds: an index into the relay's
	last    int
	created time.Time
}

// classicStep makes each classic bound twice the one before.
const classicStep = 4

// nativeOffset added to the relay's bucket is the native one.
func nativeOffset() int {
	return int(math.Round(4 * math.Log2(relay.Bound(0).Seconds())))
}

// Desc is part of prometheus.Metric.
func (m *latencyMetric) Desc() *prometheus.Desc { return m.desc }

// Write is part of prometheus.Metric.
func (m *latencyMetric) Write(out *dto.Metric) error {
	h := &dto.Histogram{
		SampleCount:      proto.Uint64(m.read.Count()),
		SampleSum:        proto.Float64(m.read.Sum.Seconds()),
		CreatedTimestamp: timestamppb.New(m.created),
	}
	m.classic(h)
	m.native(h)
	out.Histogram = h
	return nil
}

// classic fills in the cumulative buckets. The last bucket of the relay has no
// upper bound, so that it counts for +Inf only.
func (m *latencyMetric) classic(h *dto.Histogram) {
	var seen uint64
	for i := range relay.HistogramBuckets - 1 {
		seen += m.read.Counts[i]
		if i >= m.first && i <= m.last && (i-m.first)%classicStep == 0 {
			h.Bucket = append(h.Bucket, &dto.Bucket{
				CumulativeCount: proto.Uint64(seen),
				UpperBound:      proto.Float64(relay.Bound(i).Seconds()),
			})
		}
	}
}

// native fills in the sparse buckets: spans of neighbours, each bucket as the
// difference to the one before. Bucket 0 of the relay, which reaches down to 0, is
// the zero bucket.
func (m *latencyMetric) native(h *dto.Histogram) {
	offset := nativeOffset()
	h.Schema = proto.Int32(nativeSchema)
	h.ZeroThreshold = proto.Float64(math.Exp2(float64(offset) / 4))
	h.ZeroCount = proto.Uint64(m.read.Counts[0])
	next, before := 0, int64(0) // the bucket that would need no new span
	for i := 1; i < relay.HistogramBuckets; i++ {
		n := int64(m.read.Counts[i])
		if n == 0 {
			continue
		}
		index := i + offset
		switch spans := len(h.PositiveSpan); {
		case spans == 0:
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(int32(index)), Length: proto.Uint32(1)})
		case index == next:
			*h.PositiveSpan[spans-1].Length++
		default:
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(int32(index - next)), Length: proto.Uint32(1)})
		}
		h.PositiveDelta = append(h.PositiveDelta, n-before)
		next, before = index+1, n
	}
	if len(h.PositiveSpan) == 0 {
		// A span of nothing tells that this is a native histogram although it is empty.
		h.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
}
