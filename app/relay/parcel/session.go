package parcel

import "agentnet/app/wire"

// A Take asks for a session whose client came to another node.
type Take struct {
	Ticket uint64
	Secret []byte // the hash that stands for the session's secret
	Agent  string
	Seq    uint64 // what the client has
	Hops   uint8  // how often it was handed on
	Asker  string // who wants it; empty: who posts this
}

func (*Take) Kind() Kind { return KindTake }
func (t *Take) Code(c *Coder) {
	c.Uint(&t.Ticket)
	c.Bytes(&t.Secret)
	c.Text(&t.Agent)
	c.Uint(&t.Seq)
	c.Byte(&t.Hops)
	c.Text(&t.Asker)
}

// Answers to a Take.
const (
	TakeGranted uint8 = iota + 1 // the session follows
	TakeUnknown                  // the node has no such session
	TakeRefused                  // it has, but cannot hand it over now
)

// A Place is where a session stands in a channel.
type Place struct {
	Channel  string
	Epoch    string
	Offset   uint64
	Presence bool
}

// A Key is a dedup key with the answer that repetitions of its command get.
type Key struct {
	Key       []byte
	Kind      wire.Kind
	LeftMS    int64 // until it is forgotten
	MessageID string
	Outcome   wire.Outcome
	Sessions  int
	Epoch     string
	Offset    uint64
}

// Code codes one key.
func (k *Key) Code(c *Coder) {
	c.Bytes(&k.Key)
	c.Byte((*uint8)(&k.Kind))
	c.Int(&k.LeftMS)
	c.Text(&k.MessageID)
	Word(c, &k.Outcome)
	c.Count(&k.Sessions)
	c.Text(&k.Epoch)
	c.Uint(&k.Offset)
}

// An Open is a request that is under way while a session moves: one of its own
// (Asked is what its client calls it) or one that it is to answer (Asked is 0).
type Open struct {
	Number uint64 // of the node that numbered it
	Node   string // that node; empty: who posts this
	Asked  uint64
	To     string
	LeftMS int64
	Index  uint64 // answers so far
}

// A Frame is one direct frame that the client has not acknowledged, or that came
// after its session moved, as a protobuf frame of the protocol. Seq 0 in a tail:
// the receiver gives it one.
type Frame struct {
	Data      []byte
	ExpiresMS int64 // until which it may be parked should the session end
	Parked    bool  // it waits in the mailbox too
	Receipts  bool
	Handed    bool // some session was given it
	Bare      bool // a cancel, or a message that may have come there on another way
}

// Code codes one frame.
func (f *Frame) Code(c *Coder) {
	c.Bytes(&f.Data)
	c.Int(&f.ExpiresMS)
	c.Flags(&f.Parked, &f.Receipts, &f.Handed, &f.Bare)
}

// A Handover is a whole session, in as many parcels as its size asks for.
type Handover struct {
	Ticket uint64
	Result uint8
	More   bool // another parcel follows; only frames and letters add up
	Last   uint64
	Lost   uint64
	Acks   bool
	Went   uint64 // what the last socket was surely given
	State  wire.AgentState
	BeatMS int64
	Places []Place
	Opens  []Open
	Keys   []Key
	Card   []byte
	AgKeys []byte
	Frames []Frame
	Blind  bool     // direct frames may have been lost
	BornMS int64    // when the session began, wall clock
	Lately []uint64 // hashes of the messages that came in the last seconds
	Newest []byte   // the stamp of its newest own message
}

func (*Handover) Kind() Kind { return KindHandover }
func (h *Handover) Code(c *Coder) {
	c.Uint(&h.Ticket)
	c.Byte(&h.Result)
	c.Flags(&h.More, &h.Acks, &h.Blind)
	c.Uint(&h.Last)
	c.Uint(&h.Lost)
	c.Uint(&h.Went)
	Word(c, &h.State)
	c.Int(&h.BeatMS)
	List(c, &h.Places, func(c *Coder, p *Place) {
		c.Text(&p.Channel)
		c.Text(&p.Epoch)
		c.Uint(&p.Offset)
		c.Flags(&p.Presence)
	})
	List(c, &h.Opens, func(c *Coder, o *Open) {
		c.Uint(&o.Number)
		c.Text(&o.Node)
		c.Uint(&o.Asked)
		c.Text(&o.To)
		c.Int(&o.LeftMS)
		c.Uint(&o.Index)
	})
	List(c, &h.Keys, func(c *Coder, k *Key) { k.Code(c) })
	c.Bytes(&h.Card)
	c.Bytes(&h.AgKeys)
	List(c, &h.Frames, func(c *Coder, f *Frame) { f.Code(c) })
	c.Int(&h.BornMS)
	List(c, &h.Lately, func(c *Coder, v *uint64) { c.Uint(v) })
	if c.Added() {
		c.Bytes(&h.Newest)
	}
}

// A Taken tells the old node that the session lives at the new one now.
type Taken struct {
	Secret []byte
	Ticket uint64
}

func (*Taken) Kind() Kind { return KindTaken }
func (t *Taken) Code(c *Coder) {
	c.Bytes(&t.Secret)
	c.Uint(&t.Ticket)
}

// A Tail is what came for a session after it was handed over. The first, which
// may be empty, tells that the old node has let go of it. With Refused the old
// node has the session back: the new one must forget it.
type Tail struct {
	Secret  []byte
	Index   uint64 // 0 and up by one
	Refused bool
	Lost    uint64 // frames that found no room
	Frames  []Frame
	Owed    uint64 // of the first: letters of Mail that belong before what comes next
}

func (*Tail) Kind() Kind { return KindTail }
func (t *Tail) Code(c *Coder) {
	c.Bytes(&t.Secret)
	c.Uint(&t.Index)
	c.Flags(&t.Refused)
	c.Uint(&t.Lost)
	List(c, &t.Frames, func(c *Coder, f *Frame) { f.Code(c) })
	if c.Added() {
		c.Uint(&t.Owed)
	}
}
