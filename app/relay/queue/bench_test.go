package queue

import "testing"

func BenchmarkPushNext(b *testing.B) {
	var q Queue
	it := Item{Sealed: make([]byte, 128), Source: &channel{}}
	dst := make([]Item, 16)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		q.Push(Limits{}, it, DropOldest)
		if i%16 == 15 {
			q.Next(dst, 1<<16)
		}
	}
}

// BenchmarkSlowConsumer is a session that never reads, in 100 channels.
func BenchmarkSlowConsumer(b *testing.B) {
	for name, p := range map[string]Policy{"oldest": DropOldest, "newest": DropNewest} {
		b.Run(name, func(b *testing.B) {
			var q Queue
			sources := make([]any, 100)
			for i := range sources {
				sources[i] = &channel{}
			}
			it := Item{Sealed: make([]byte, 4096)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				it.Source = sources[i%100]
				q.Push(Limits{}, it, p)
			}
		})
	}
}
