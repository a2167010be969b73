package e2e

import (
	"math"
	"time"

	"agentnet/app/scale"
)

// madeUp is one span of samples of a fleet with so many instances, connections and
// messages a second in all, as the seconds of a real one would have been summed up:
// a few seconds stand for all of them.
func madeUp(from time.Time, span time.Duration, instances int, connections, messages float64) scale.Rollup {
	r := scale.Rollup{From: from, Span: span}
	share := messages / float64(max(instances, 1)) // what one instance does
	seconds := min(int(span/time.Second), 10)
	for i := range seconds {
		wobble := 1 + 0.04*math.Sin(float64(from.Unix()+int64(i)*7))
		s := scale.Slot{At: from.Add(time.Duration(i) * span / time.Duration(seconds)), Instances: instances}
		for sig, v := range map[scale.Signal]float64{
			scale.Connections: math.Round(connections * wobble), scale.MessagesIn: messages * wobble, scale.MessagesOut: messages * wobble * 2, scale.BytesIn: messages * 160, scale.BytesOut: messages * 330,
			scale.CPU: min(0.02+share/2500*wobble, 1), scale.Memory: 0.2 + connections/1e5, scale.MemoryBytes: 64<<20 + 2e4*connections, scale.MemoryLimit: 2 << 30, scale.KernelMemory: 0.01,
			scale.ErrorRate: 0, scale.QueueBytes: share * 3 * wobble, scale.AcceptRate: connections / 900, scale.RefusedRate: 0, scale.Reconnects: 0.1, scale.Broker: 1, scale.Descriptors: 0.02,
		} {
			s.Values.Set(sig, v)
		}
		s.Delivery.Observe(time.Duration(float64(60*time.Microsecond)*wobble*(1+share/400)), uint64(messages)+1)
		s.Delivery.Observe(time.Duration(float64(400*time.Microsecond)*wobble*(1+share/400)), uint64(messages/15)+1)
		s.API.Observe(8*time.Millisecond, 2)
		r.Add(&s)
	}
	return r
}
