package parcel

import "agentnet/app/wire"

// What a Query may ask.
const (
	AskAgents   uint8 = iota + 1 // a page of the directory
	AskMembers                   // who is in Channel
	AskAgent                     // how Agent is
	AskChannels                  // a page of the channels that it has; the answer is Listed
)

// A Query asks every node what only all can answer.
type Query struct {
	Number  uint64
	What    uint8
	Channel string
	Agent   string
	Match   string
	After   string
	Limit   int
	Send    []string // globs of the agents that the asker may send to, or of the channels that it may hear
	Self    string
}

func (*Query) Kind() Kind { return KindQuery }
func (q *Query) Code(c *Coder) {
	c.Uint(&q.Number)
	c.Byte(&q.What)
	c.Text(&q.Channel)
	c.Text(&q.Agent)
	c.Text(&q.Match)
	c.Text(&q.After)
	c.Count(&q.Limit)
	c.texts(&q.Send)
	c.Text(&q.Self)
}

// Found answers a Query.
type Found struct {
	Number uint64
	Cut    bool // there is more than the answer holds
	Agents []wire.AgentInfo
}

func (*Found) Kind() Kind { return KindFound }
func (f *Found) Code(c *Coder) {
	c.Uint(&f.Number)
	c.Flags(&f.Cut)
	List(c, &f.Agents, func(c *Coder, a *wire.AgentInfo) {
		c.Text(&a.Agent)
		Word(c, &a.State)
		c.Count(&a.Sessions)
		c.Int(&a.LastActiveMS)
		c.Count(&a.Queue)
		c.Bytes(&a.Card)
		c.Bytes(&a.Keys)
	})
}

// Listed answers a Query of channels.
type Listed struct {
	Number   uint64
	Node     string // that answers
	Cut      bool   // there is more than the answer holds
	Channels []Channel
}

// A Channel is what one node knows of a channel.
type Channel struct {
	Name        string
	Epoch       string
	Offset      uint64
	Subscribers int
	MilliPerS   uint64 // publications in 1,000 s
	LastMS      int64
	Home        string // the node that orders it, as far as this one knows
}

// Kind says what it is.
func (*Listed) Kind() Kind { return KindListed }

// Code describes its fields.
func (l *Listed) Code(c *Coder) {
	c.Uint(&l.Number)
	c.Text(&l.Node)
	c.Flags(&l.Cut)
	List(c, &l.Channels, func(c *Coder, v *Channel) {
		c.Text(&v.Name)
		c.Text(&v.Epoch)
		c.Uint(&v.Offset)
		c.Count(&v.Subscribers)
		c.Uint(&v.MilliPerS)
		c.Int(&v.LastMS)
		c.Text(&v.Home)
	})
}
