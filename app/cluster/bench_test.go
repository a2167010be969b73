package cluster

import (
	"context"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/embedded"
)

// BenchmarkAppend stores batches of 32 publications in one channel of 1000, on the
// embedded store.
//
//	go test -run '^$' -bench Append -benchtime 2000x ./app/cluster
func BenchmarkAppend(b *testing.B) {
	const batch = 32
	server, err := embedded.Start(b.Context(), embedded.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close(context.Background())
	broker, err := OpenBroker(b.Context(), BrokerConfig{Dial: server.Dial})
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	if _, err := broker.Open(b.Context(), "c", "E"); err != nil {
		b.Fatal(err)
	}
	offset := uint64(1)
	for b.Loop() {
		if err := broker.Append(b.Context(), "c", "E", relay.Keep{Count: 1000, Age: time.Hour}, publications(offset, offset+batch-1, time.Now())); err != nil {
			b.Fatal(err)
		}
		offset += batch
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "µs/publication")
}
