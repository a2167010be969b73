package cluster

import (
	"encoding/binary"
	"errors"
	"iter"
	"time"
)

// A batch is what one PUBLISH carries: a header, then records (topic, length,
// bytes). There are two kinds. A stream batch goes to one node; its records are
// numbered without a hole for each pair of nodes. A broadcast batch goes to all
// nodes of a region and carries only what is said again and again.
const (
	batchVersion = 2

	kindStream    = 1
	kindBroadcast = 2

	// maxParcel bounds one record: what one PUBLISH may carry with room for others.
	maxParcel = 8 << 20
	// maxName bounds the names of nodes and regions.
	maxName = 64
)

// Places of the fixed fields of a stream batch's header.
const (
	atLife   = 2  // of the origin
	atEpoch  = 10 // of the origin's stream to this destination
	atTo     = 14 // life of the destination
	atNumber = 22 // of the first record
	atSent   = 30 // bytes of the stream before this batch
	atAck    = 38 // bytes of the destination's stream that the origin has taken
	atOldest = 46 // number of the first record that Redis had not taken yet
	atCount  = 54 // records
	atName   = 58 // length, then the origin's name
)

// A Topic says who a parcel is for within a node. Topics from 128 on belong to
// this package.
type Topic uint8

// The topics of the node's parts.
const (
	TopicRelay   Topic = 1 // relay.Peers
	TopicControl Topic = 2 // replication of control data
	TopicSample  Topic = 3 // load samples
	TopicAsk     Topic = 4 // questions to other nodes and their answers
)

// What nodes tell each other of themselves.
const (
	topicHello     Topic = 128 + iota // a node's own description
	topicBye                          // it leaves in order
	topicPing                         // clock of the sender
	topicPong                         // the same, back
	topicAck                          // nothing but the header's ack
	topicSnapStart                    // all that the origin hosts follows
	topicSnapEnd                      // it was all
	topicSnapAck                      // the receiver routes by it
	topicResync                       // send all again
	topicAgent                        // an agent came, changed or went
	topicChannel                      // subscribers of a channel came or went
	topicClaim                        // the origin wants to be a channel's home
	topicAgree                        // it may, as far as this node knows
	topicHome                         // a channel has this home
	topicNoHome                       // and now none
	topicShed                         // give connections away, says the leader
	topicGive                         // the destination is the home from here on
)

var errBatch = errors.New("malformed batch")

// A header is the front of a batch.
type header struct {
	kind   byte
	name   []byte // of the origin; points into the batch
	life   uint64
	epoch  uint32
	to     uint64
	first  uint64 // number of the first record
	sent   uint64
	ack    uint64
	oldest uint64 // what comes before this number is not sent again
	count  uint32
}

// appendHeader appends the header of a stream batch; number, ack and count are
// filled in later.
func appendHeader(b []byte, name string, life uint64, epoch uint32, to uint64) []byte {
	b = append(b, batchVersion, kindStream)
	b = binary.LittleEndian.AppendUint64(b, life)
	b = binary.LittleEndian.AppendUint32(b, epoch)
	b = binary.LittleEndian.AppendUint64(b, to)
	b = append(b, make([]byte, atName-atNumber)...)
	b = append(b, byte(len(name)))
	return append(b, name...)
}

// appendBroadcast appends the header of a broadcast batch.
func appendBroadcast(b []byte, name string, life uint64) []byte {
	b = append(b, batchVersion, kindBroadcast)
	b = binary.LittleEndian.AppendUint64(b, life)
	b = append(b, byte(len(name)))
	return append(b, name...)
}

// parseHeader returns a batch's header and its records.
func parseHeader(b []byte) (h header, records []byte, err error) {
	if len(b) < 2 || b[0] != batchVersion {
		return h, nil, errBatch
	}
	h.kind = b[1]
	at := 10
	switch {
	case h.kind == kindBroadcast && len(b) > at:
	case h.kind == kindStream && len(b) > atName:
		at = atName
		h.epoch = binary.LittleEndian.Uint32(b[atEpoch:])
		h.to = binary.LittleEndian.Uint64(b[atTo:])
		h.first = binary.LittleEndian.Uint64(b[atNumber:])
		h.sent = binary.LittleEndian.Uint64(b[atSent:])
		h.ack = binary.LittleEndian.Uint64(b[atAck:])
		h.oldest = binary.LittleEndian.Uint64(b[atOldest:])
		h.count = binary.LittleEndian.Uint32(b[atCount:])
	default:
		return h, nil, errBatch
	}
	h.life = binary.LittleEndian.Uint64(b[atLife:])
	end := at + 1 + int(b[at])
	if b[at] == 0 || b[at] > maxName || len(b) < end {
		return h, nil, errBatch
	}
	h.name = b[at+1 : end]
	return h, b[end:], nil
}

// appendRecord appends one record.
func appendRecord(b []byte, t Topic, parcel []byte) []byte {
	b = append(b, byte(t))
	b = binary.AppendUvarint(b, uint64(len(parcel)))
	return append(b, parcel...)
}

// records yields each record; its bytes point into b and have no room behind them.
// It ends at the first malformed one.
func records(b []byte) iter.Seq2[Topic, []byte] {
	return func(yield func(Topic, []byte) bool) {
		for len(b) > 1 {
			n, w := binary.Uvarint(b[1:])
			if w <= 0 || n > uint64(len(b)-1-w) {
				return
			}
			end := 1 + w + int(n)
			if !yield(Topic(b[0]), b[1+w:end:end]) {
				return
			}
			b = b[end:]
		}
	}
}

// A hello is what a node tells of itself.
type hello struct {
	name, region, addr, version, fingerprint string

	life    uint64
	started time.Time
	state   State
	leader  bool
	fence   uint64 // highest fencing token that the node has seen
	load    Load
	hears   []uint64 // lives of the nodes that it hears
	// settings are what the fingerprint stands for, "name=hash …"; told once.
	settings string
}

// helloVersion is the first byte of an encoded hello; what later versions append
// is skipped by older ones.
const helloVersion = 1

func appendHello(b []byte, h *hello) []byte {
	b = append(b, helloVersion, byte(h.state))
	b = binary.AppendUvarint(b, h.life)
	for _, text := range []string{h.name, h.region, h.addr, h.version, h.fingerprint} {
		b = appendText(b, text)
	}
	b = binary.AppendVarint(b, h.started.UnixMilli())
	leads := byte(0)
	if h.leader {
		leads = 1
	}
	b = append(b, leads)
	b = binary.AppendUvarint(b, h.fence)
	b = binary.AppendUvarint(b, uint64(max(h.load.Connections, 0)))
	b = binary.AppendUvarint(b, uint64(max(h.load.Capacity, 0)))
	for _, share := range []float64{h.load.CPU, h.load.Memory, h.load.MessagesPerS} {
		b = binary.AppendUvarint(b, uint64(max(share, 0)*1000+0.5))
	}
	b = binary.AppendUvarint(b, uint64(len(h.hears)))
	for _, life := range h.hears {
		b = binary.LittleEndian.AppendUint64(b, life)
	}
	return appendText(b, h.settings)
}

func parseHello(b []byte) (h hello, err error) {
	if len(b) < 2 || b[0] != helloVersion {
		return h, errBatch
	}
	h.state = State(b[1])
	r := reader{b: b[2:]}
	h.life = r.uvarint()
	for _, text := range []*string{&h.name, &h.region, &h.addr, &h.version, &h.fingerprint} {
		*text = r.text()
	}
	h.started = time.UnixMilli(r.varint())
	h.leader = r.byte() == 1
	h.fence = r.uvarint()
	h.load.Connections, h.load.Capacity = int(r.uvarint()&(1<<40-1)), int(r.uvarint()&(1<<40-1))
	for _, share := range []*float64{&h.load.CPU, &h.load.Memory, &h.load.MessagesPerS} {
		*share = float64(r.uvarint()) / 1000
	}
	n := r.uvarint()
	if n > uint64(len(r.b))/8 {
		return h, errBatch
	}
	for range n {
		h.hears = append(h.hears, binary.LittleEndian.Uint64(r.b))
		r.b = r.b[8:]
	}
	h.settings = r.text()
	if r.bad || h.name == "" || len(h.name) > maxName || len(h.region) > maxName || h.life == 0 || h.state > Gone {
		return h, errBatch
	}
	return h, nil
}
