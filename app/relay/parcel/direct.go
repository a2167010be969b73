package parcel

import "agentnet/app/wire"

// A Letter is a direct message on its way to a node that holds its receiver.
type Letter struct {
	Number    uint64 // of the sending node; the Outcome names it
	From, To  string
	ID        string // message id
	TimeMS    int64  // accepted, wall clock
	TTLMS     int64  // 0: it is not parked for an agent that is nowhere
	Class     wire.Class
	Receipts  bool
	Spare     bool     // others of the receiver's sessions are live elsewhere: it is kept for those away, not parked
	Targets   []string // all nodes that it was posted to
	Headers   []wire.Header
	Payload   wire.Payload
	ExpiresMS int64 // of a parked letter: its own end instead of the ttl
}

func (*Letter) Kind() Kind { return KindLetter }
func (l *Letter) Code(c *Coder) {
	c.Uint(&l.Number)
	c.Text(&l.From)
	c.Text(&l.To)
	c.Text(&l.ID)
	c.Int(&l.TimeMS)
	c.Int(&l.TTLMS)
	c.Byte((*uint8)(&l.Class))
	c.Flags(&l.Receipts, &l.Spare)
	c.texts(&l.Targets)
	c.headers(&l.Headers)
	c.payload(&l.Payload)
	c.Int(&l.ExpiresMS)
}

// Sent is a Letter as its first node posts it: with the dedup key that the sender
// gave. Nodes that do not know the key read the Letter.
type Sent struct {
	Letter
	Key []byte
}

// Code implements Body.
func (s *Sent) Code(c *Coder) {
	s.Letter.Code(c)
	if c.Added() {
		c.Bytes(&s.Key)
	}
}

// Results of an Outcome.
const (
	Failed    uint8 = iota // Err says why
	Delivered              // to Sessions live sessions
	Parked                 // on disk there
	Absent                 // the node does not hold the agent
	Published              // at Epoch and Offset
	Done                   // taken over, or carried out
)

// An Outcome is what became of one thing that was asked of a node.
type Outcome struct {
	Number   uint64
	Result   uint8
	Sessions int
	Epoch    string
	Offset   uint64
	Err      *wire.Error
}

// Code codes one outcome of a batch.
func (o *Outcome) Code(c *Coder) {
	c.Uint(&o.Number)
	c.Byte(&o.Result)
	switch o.Result {
	case Failed:
		c.refusal(&o.Err)
	case Delivered:
		c.Count(&o.Sessions)
	case Published:
		c.Text(&o.Epoch)
		c.Uint(&o.Offset)
	}
}

// Outcomes are the outcomes that one turn had for one node.
type Outcomes struct{ List []Outcome }

func (*Outcomes) Kind() Kind { return KindOutcomes }
func (o *Outcomes) Code(c *Coder) {
	List(c, &o.List, func(c *Coder, v *Outcome) { v.Code(c) })
}

// A Receipt tells a sender's node what became of a message. With Seek the node
// that posts it does not know the message: whoever accepted it does.
type Receipt struct {
	Number uint64
	To     string // the sender of the message
	ID     string
	From   string // its receiver
	State  wire.ReceiptState
	Note   string
	TimeMS int64
	Seek   bool
}

func (*Receipt) Kind() Kind { return KindReceipt }
func (r *Receipt) Code(c *Coder) {
	c.Uint(&r.Number)
	c.Text(&r.To)
	c.Text(&r.ID)
	c.Text(&r.From)
	Word(c, &r.State)
	c.Text(&r.Note)
	c.Int(&r.TimeMS)
	c.Flags(&r.Seek)
}

// Mail hands parked messages of one agent to another node. Keep asks it to park
// them although it does not hold the agent, because the posting node leaves. With
// Secret they wait for that session, which moved: others have had their copies.
type Mail struct {
	Number  uint64
	Keep    bool
	Letters []Letter
	Secret  []byte
	Private bool // that session alone gets them: whoever else waits for them has copies of its own
}

func (*Mail) Kind() Kind { return KindMail }
func (m *Mail) Code(c *Coder) {
	c.Uint(&m.Number)
	c.Flags(&m.Keep)
	List(c, &m.Letters, func(c *Coder, l *Letter) { l.Code(c) })
	c.Bytes(&m.Secret)
	if c.Added() {
		c.Flags(&m.Private)
	}
}

// An Ask is a request for an agent of the node that it is posted to.
type Ask struct {
	Number    uint64 // of the asking node: what Answer and Cancel name
	From, To  string
	Method    string
	Class     wire.Class
	Headers   []wire.Header
	Payload   wire.Payload
	TimeoutMS int64
	Handed    bool // it was handed on already: not again
}

func (*Ask) Kind() Kind { return KindAsk }
func (a *Ask) Code(c *Coder) {
	c.Uint(&a.Number)
	c.Text(&a.From)
	c.Text(&a.To)
	c.Text(&a.Method)
	c.Byte((*uint8)(&a.Class))
	c.headers(&a.Headers)
	c.payload(&a.Payload)
	c.Int(&a.TimeoutMS)
	c.Flags(&a.Handed)
}

// An Answer is one reply on its way back to the asking node.
type Answer struct {
	Number    uint64
	Adopted   bool // Number is the posting node's: its asker moved to this node
	Unreached bool // Err says why no agent was asked
	More      bool
	Index     uint64 // 1 and up by one within a request, so that a lost one is noticed
	From      string
	Err       *wire.Error
	Payload   wire.Payload
}

func (*Answer) Kind() Kind { return KindAnswer }
func (a *Answer) Code(c *Coder) {
	c.Uint(&a.Number)
	c.Flags(&a.Adopted, &a.Unreached, &a.More)
	c.Uint(&a.Index)
	c.Text(&a.From)
	c.refusal(&a.Err)
	c.payload(&a.Payload)
}

// A Cancel ends a request that nobody waits for any more.
type Cancel struct {
	Number  uint64
	Adopted bool // Number is that of the node it is posted to
}

func (*Cancel) Kind() Kind { return KindCancel }
func (a *Cancel) Code(c *Coder) {
	c.Uint(&a.Number)
	c.Flags(&a.Adopted)
}

// A Reply comes from a session that moved, for a request that the node which it is
// posted to numbered.
type Reply struct {
	Request uint64
	Agent   string
	More    bool
	Err     *wire.Error
	Payload wire.Payload
}

func (*Reply) Kind() Kind { return KindReply }
func (r *Reply) Code(c *Coder) {
	c.Uint(&r.Request)
	c.Text(&r.Agent)
	c.Flags(&r.More)
	c.refusal(&r.Err)
	c.payload(&r.Payload)
}
