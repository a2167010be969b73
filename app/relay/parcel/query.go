package parcel

import "agentnet/app/wire"

// What a Query may ask.
const (
	AskAgents  uint8 = iota + 1 // a page of the directory
	AskMembers                  // who is in Channel
	AskAgent                    // how Agent is
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
	Send    []string // globs that the asker may send to
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
