package cluster

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"time"
)

func sampleHello() hello {
	return hello{name: "n1", region: "east", addr: "https://n1.example", version: "1.2.3", fingerprint: "abc", life: 77, started: time.UnixMilli(1_700_000_000_000),
		state: Draining, leader: true, fence: 9, load: Load{Connections: 5, Capacity: 10, CPU: 0.25, Memory: 0.5, MessagesPerS: 12.5}, hears: []uint64{1, 1 << 63}, settings: "a=1 b=2 "}
}

func TestHelloRoundTrip(t *testing.T) {
	want := sampleHello()
	got, err := parseHello(appendHello(nil, &want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	longer := append(appendHello(nil, &want), "what a later version adds"...)
	if got, err := parseHello(longer); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with more behind it: got %+v, %v", got, err)
	}
}

func TestBatchRoundTrip(t *testing.T) {
	var o outbox
	o.wake = make(chan struct{}, flights)
	o.reset(&link{}, appendHeader(nil, "n1", 7, 3, 9))
	big := bytes.Repeat([]byte("x"), batchBytes)
	for _, p := range [][]byte{[]byte("one"), {}, big, []byte("last")} {
		if refused := o.push(TopicRelay, p); refused != "" {
			t.Fatal(refused)
		}
	}
	if refused := o.push(TopicRelay, make([]byte, maxParcel+1)); refused != ReasonTooLarge {
		t.Errorf("a parcel too large: %q", refused)
	}
	var got [][]byte
	next, sent := uint64(1), uint64(0)
	for b, _, gen := o.take(); b != nil; b, _, gen = o.take() {
		o.landed(b, gen)
		h, body, err := parseHeader(b)
		if err != nil || h.kind != kindStream || string(h.name) != "n1" || h.life != 7 || h.epoch != 3 || h.to != 9 || h.first != next || h.sent != sent {
			t.Fatalf("got header %+v, %v", h, err)
		}
		for topic, p := range records(body) {
			if topic != TopicRelay {
				t.Errorf("topic %d", topic)
			}
			got = append(got, p)
		}
		next, sent = next+uint64(h.count), sent+uint64(len(b))
	}
	if len(got) != 4 || string(got[0]) != "one" || len(got[1]) != 0 || !bytes.Equal(got[2], big) || string(got[3]) != "last" || next != 5 {
		t.Errorf("%d parcels came, up to number %d", len(got), next-1)
	}
	if records, n := o.backlog(); records != 0 || n != 0 {
		t.Errorf("%d records and %d bytes are left in an empty outbox", records, n)
	}
}

// TestOutboxBounds shows the bound of a node's queue, that this package's own records
// still fit then, and that what a node does not take stops the sending.
func TestOutboxBounds(t *testing.T) {
	var o outbox
	o.wake = make(chan struct{}, flights)
	if refused := o.push(TopicRelay, nil); refused != ReasonUnknown {
		t.Errorf("closed: %q", refused)
	}
	o.reset(&link{}, appendHeader(nil, "n1", 7, 3, 9))
	p := make([]byte, 100_000)
	pushed := 0
	for o.push(TopicRelay, p) == "" {
		pushed++
	}
	if bytes := pushed * len(p); bytes < outBytes-2*len(p) || bytes > outBytes {
		t.Errorf("%d bytes fit, want about %d", bytes, outBytes)
	}
	if refused := o.push(topicAgent, p[:100]); refused != "" {
		t.Errorf("an announcement: %q", refused)
	}
	taken := 0
	for b, _, gen := o.take(); b != nil; b, _, gen = o.take() {
		o.landed(b, gen)
		taken += len(b)
	}
	if taken < window || taken > window+2*batchBytes {
		t.Errorf("%d bytes were sent without a word of the receiver, want about %d", taken, window)
	}
	o.ack(uint64(taken))
	if b, _, _ := o.take(); b == nil {
		t.Error("after the receiver's word nothing is sent")
	}
	if dropped := o.reset(nil, nil); dropped == 0 {
		t.Error("what waited was not counted")
	}
}

// TestStreamOrder puts batches into order, skips what came before, and tells holes
// after a while.
func TestStreamOrder(t *testing.T) {
	now := time.Now()
	batch := func(first, count uint64) item {
		return item{header: header{first: first, oldest: first, count: uint32(count)}}
	}
	var s stream
	want := func(first, skip, lost uint64, ok bool) {
		t.Helper()
		it, sk, l, o := s.ready(now)
		if it.header.first != first || sk != skip || l != lost || o != ok {
			t.Errorf("got %d, skip %d, lost %d, %v; want %d, %d, %d, %v", it.header.first, sk, l, o, first, skip, lost, ok)
		}
	}
	s.add(batch(5, 3), now) // the first one says where it begins
	want(5, 0, 0, true)
	s.add(batch(10, 2), now)
	want(0, 0, 0, false)
	s.add(batch(8, 2), now) // the one that was overtaken
	want(8, 0, 0, true)
	want(10, 0, 0, true)
	s.add(batch(8, 2), now) // again
	want(0, 0, 0, false)
	s.add(batch(11, 3), now) // half of it again
	want(11, 1, 0, true)
	s.add(batch(20, 1), now)
	want(0, 0, 0, false)
	now = now.Add(holdFor)
	want(0, 0, 6, true)
	want(20, 0, 0, true)
	for i := range uint64(holdBatches) {
		s.add(batch(100+i, 1), now)
	}
	want(0, 0, 79, true) // too many wait
	for i := range uint64(holdBatches) {
		want(100+i, 0, 0, true)
	}
	for i := range uint64(2 * holdBatches) {
		it := batch(121+i, 1)
		it.header.oldest = 116 // is being sent again
		s.add(it, now)
	}
	now = now.Add(100 * holdFor)
	want(0, 0, 0, false)
	s.add(batch(116, 4), now)
	want(116, 0, 0, true)
	want(0, 0, 0, false)
	s.add(batch(153, 1), now) // by now 120 would have come
	want(0, 0, 1, true)
}

// TestOutboxGate shows how far batches may run ahead of one that is still on its way,
// and that nothing goes while one is sent again.
func TestOutboxGate(t *testing.T) {
	var o outbox
	o.wake = make(chan struct{}, flights)
	o.reset(&link{}, appendHeader(nil, "n1", 7, 3, 9))
	take := func(oldest uint64) (b []byte, gen uint32) {
		t.Helper()
		if o.push(TopicRelay, []byte("x")) != "" {
			t.Fatal("a parcel was refused")
		}
		b, _, gen = o.take()
		if h, _, err := parseHeader(b); oldest == 0 && b != nil || oldest != 0 && (err != nil || h.oldest != oldest) {
			t.Fatalf("got a batch of %d bytes with oldest %d, %v; want oldest %d (0: none)", len(b), h.oldest, err, oldest)
		}
		return b, gen
	}
	first, gen := take(1)
	for range overtakes {
		b, gen := take(1)
		o.landed(b, gen)
	}
	take(0)
	if o.asleep != 1 || len(o.wake) != 0 {
		t.Fatalf("%d senders sleep and %d are woken, want 1 and none", o.asleep, len(o.wake))
	}
	if o.landed(first, gen); len(o.wake) != 1 {
		t.Error("the sender that waited was not woken")
	}
	next := uint64(overtakes + 2)
	again, gen := take(next)
	if !o.again(again, gen) {
		t.Error("a batch of the present stream is not wanted")
	}
	take(0)
	o.landed(again, gen)
	take(next + 1) // the parcel that waited
	o.reset(&link{}, appendHeader(nil, "n1", 7, 4, 9))
	if o.again(again, gen) {
		t.Error("a batch of the last stream is still wanted")
	}
	take(1)
}

func FuzzBatch(f *testing.F) {
	h := sampleHello()
	f.Add(appendRecord(appendBroadcast(nil, "n1", 77), topicHello, appendHello(nil, &h)))
	b := appendHeader(nil, "n1", 7, 3, 9)
	binary.LittleEndian.PutUint64(b[atNumber:], 1)
	at := home{epoch: "E", time: 5, moves: 2}
	b = appendRecord(b, topicHome, homeRecord(&at, "news", true))
	b = appendRecord(b, topicClaim, claimRecord(5, "E", "news"))
	f.Add(appendRecord(b, topicShed, shedRecord(9, Move{Count: 3, To: []string{"a"}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := New(t.Context(), Config{Name: "n2", Region: "east", media: func(Region) medium { return &simMedium{redis: newSimRedis()} }})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		n.receive(b)
		_, body, err := parseHeader(b)
		if err != nil {
			return
		}
		p := n.meet("n1")
		for topic, parcel := range records(body) {
			if _, err := parseHello(parcel); err == nil && topic == topicHello {
				continue
			}
			n.told(parcel)
			for _, t := range []Topic{topicClaim, topicAgree, topicHome, topicNoHome, topicGive} {
				parseHome(t, parcel)
			}
			_ = p
		}
	})
}
