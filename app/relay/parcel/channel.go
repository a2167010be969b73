package parcel

import "agentnet/app/wire"

// A Pub is one publication.
type Pub struct {
	Offset  uint64
	ID      string
	From    string
	TimeMS  int64
	Class   wire.Class
	Headers []wire.Header
	Payload wire.Payload
}

// Code codes one publication.
func (p *Pub) Code(c *Coder) {
	c.Uint(&p.Offset)
	c.Text(&p.ID)
	c.Text(&p.From)
	c.Int(&p.TimeMS)
	c.Byte((*uint8)(&p.Class))
	c.headers(&p.Headers)
	c.payload(&p.Payload)
}

// A Publish asks a channel's home to accept a publication. Origin is the node that
// waits for the outcome; empty: who posts it.
type Publish struct {
	Number  uint64
	Channel string
	Origin  string
	Hops    uint8
	Pub     Pub
}

func (*Publish) Kind() Kind { return KindPublish }
func (p *Publish) Code(c *Coder) {
	c.Uint(&p.Number)
	c.Text(&p.Channel)
	c.Text(&p.Origin)
	c.Byte(&p.Hops)
	p.Pub.Code(c)
}

// Pubs are publications of one channel, in order and without holes, from its home
// to a node with subscribers.
type Pubs struct {
	Channel string
	Epoch   string
	List    []Pub
}

func (*Pubs) Kind() Kind { return KindPubs }
func (p *Pubs) Code(c *Coder) {
	c.Text(&p.Channel)
	c.Text(&p.Epoch)
	List(c, &p.List, func(c *Coder, v *Pub) { v.Code(c) })
}

// A Sync asks a channel's home where the channel stands, and for what its window
// has after an offset of an epoch.
type Sync struct {
	Number  uint64
	Channel string
	Epoch   string // empty: the whole window is wanted
	After   uint64
}

func (*Sync) Kind() Kind { return KindSync }
func (s *Sync) Code(c *Coder) {
	c.Uint(&s.Number)
	c.Text(&s.Channel)
	c.Text(&s.Epoch)
	c.Uint(&s.After)
}

// A State answers a Sync. With Heir set the posting node was the home and makes
// the receiver its heir, without having been asked.
type State struct {
	Number  uint64
	Channel string
	Epoch   string
	Last    uint64
	Heir    bool
	NotHome bool // ask again: another node is the home
	More    bool // more of the same answer follows
	Holed   bool // the stored history ended
	LastMS  int64
	Saved   uint64 // of an heir: up to here history is stored
	List    []Pub
}

func (*State) Kind() Kind { return KindState }
func (s *State) Code(c *Coder) {
	c.Uint(&s.Number)
	c.Text(&s.Channel)
	c.Text(&s.Epoch)
	c.Uint(&s.Last)
	c.Flags(&s.Heir, &s.NotHome, &s.More, &s.Holed)
	c.Int(&s.LastMS)
	c.Uint(&s.Saved)
	List(c, &s.List, func(c *Coder, v *Pub) { v.Code(c) })
}

// An Event is a presence event of a channel.
type Event struct {
	Channel string
	What    string
	Agent   string
	State   wire.AgentState
}

func (*Event) Kind() Kind { return KindEvent }
func (e *Event) Code(c *Coder) {
	c.Text(&e.Channel)
	c.Text(&e.What)
	c.Text(&e.Agent)
	Word(c, &e.State)
}
