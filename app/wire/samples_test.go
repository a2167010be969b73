package wire

import (
	"math/rand/v2"
	"strings"
)

// A sampler makes commands and events whose fields are set at random, to hold
// the encodings against each other.
type sampler struct{ *rand.Rand }

func newSampler(seed uint64) sampler { return sampler{rand.New(rand.NewPCG(seed, 42))} }

func (r sampler) some() bool { return r.IntN(3) > 0 }

func (r sampler) pick(words ...string) string { return words[r.IntN(len(words))] }

// number favours the lengths at which varints grow.
func (r sampler) number() uint64 {
	if r.IntN(4) == 0 {
		return 0
	}
	return r.Uint64N(MaxInteger+1) >> r.IntN(53)
}

func (r sampler) text() string {
	return r.pick("", "x", "hello", `quote " and \ slash`, "line\nend\ttab\x01", "žluťoučký", "日本語🙂", strings.Repeat("long ", r.IntN(40)))
}

func (r sampler) agent() string {
	return r.pick("a", "alice/calendar", "bob@x.y:8/Z_1-0", strings.Repeat("n", 128))
}
func (r sampler) channel() string {
	return r.pick("a", "a/b/c", "rooms/1", strings.Repeat("n/", 63)+"nn")
}

func (r sampler) json() []byte {
	return []byte(r.pick(`null`, `{}`, `[]`, `0`, `-1.5e+3`, `true`, `"text"`, `{"a":[1,{"b":"c"}],"d":"\ud83d\ude42 é"}`,
		`{"text":"`+strings.Repeat("x", r.IntN(300))+`"}`))
}

func (r sampler) payload() Payload {
	switch r.IntN(4) {
	case 0:
		return Payload{}
	case 1:
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return Payload{Data: b, Binary: true}
	}
	return Payload{Data: r.json()}
}

func (r sampler) headers() []Header {
	var hs []Header
	for i := range r.IntN(4) {
		hs = append(hs, Header{Name: string(rune('a'+i)) + r.text(), Value: r.text()})
	}
	return hs
}

func (r sampler) class() Class { return Class(r.IntN(Classes)) }

func (r sampler) since() Since {
	return Since{Epoch: r.pick("", "e1", "01J8"), Offset: r.number()}
}

func (r sampler) command(kind Kind) *Command {
	c := &Command{ID: r.number(), Kind: kind, Class: Normal}
	switch kind {
	case KindConnect:
		c.Connect = &Connect{Token: r.text(), Client: ClientInfo{Name: r.pick("", "go"), Version: r.pick("", "1.0")}}
		if r.some() {
			c.Connect.Agent = r.agent()
		}
		if r.some() {
			c.Connect.Resume = &Resume{Session: "s_1", Seq: r.number()}
			for range r.IntN(3) {
				at := r.since()
				c.Connect.Resume.Channels = append(c.Connect.Resume.Channels, ChannelPosition{r.channel(), at.Epoch, at.Offset})
			}
		}
	case KindSend:
		c.To, c.Payload, c.Class, c.Headers = []byte(r.agent()), r.payload(), r.class(), r.headers()
		c.TTLMS, c.Receipts = int64(r.number()>>24), r.some()
		c.Key = []byte(r.pick("", "k1", "key with \"quotes\""))
	case KindRequest:
		c.To, c.Payload, c.Class, c.Headers = []byte(r.agent()), r.payload(), r.class(), r.headers()
		c.Method, c.TimeoutMS = []byte(r.pick("", "book", "a\\b")), int64(r.number()>>34)
	case KindCancel:
		c.Request = 1 + r.number()>>1
	case KindReceipt:
		c.MessageID, c.Note = []byte("01J0000000000000000000000"), []byte(r.text())
		c.State = ReceiptState(r.pick("surfaced", "done", "refused", "held"))
	case KindReply:
		c.Request, c.More = 1+r.number()>>1, r.some()
		if r.some() {
			c.Payload = r.payload()
		} else {
			c.Err = &Error{Code: Code(r.pick("not_found", "room.taken")), Message: r.text(), RetryAfterMS: int64(r.number())}
		}
	case KindSubscribe, KindHistory:
		c.Channel = []byte(r.channel())
		if r.some() {
			c.HasSince, c.Since = true, r.since()
		}
		if kind == KindSubscribe {
			c.Presence = r.some()
		} else {
			c.Limit = int(r.number())
		}
	case KindUnsubscribe:
		c.Channel = []byte(r.channel())
	case KindPublish:
		c.Channel, c.Payload, c.Class, c.Headers = []byte(r.channel()), r.payload(), r.class(), r.headers()
		c.Key = []byte(r.pick("", "k1"))
	case KindPresence:
		if r.some() {
			c.Channel = []byte(r.channel())
		} else {
			c.Agent = []byte(r.agent())
		}
	case KindAgents:
		c.Match, c.After, c.Limit = []byte(r.pick("", "**", "a/*")), []byte(r.pick("", "alice/calendar")), int(r.number())
	case KindProfile:
		c.Profile = &Profile{State: AgentState(r.pick("", "available", "busy", "away"))}
		if r.some() {
			c.Profile.Card = []byte(`{"name":"Calendar"}`)
		}
		if r.some() {
			c.Profile.Keys = []byte(`[1]`)
		}
	case KindAck:
		c.Seq = r.number()
	case KindPing:
		c.RTTMS = int64(r.number())
	}
	return c
}

func (r sampler) message() Message {
	return Message{Seq: r.number(), Channel: r.pick("", "a/b"), Offset: r.number(), From: r.agent(), To: r.pick("", "b"),
		Payload: r.payload(), MessageID: "01J", TimeMS: int64(r.number()), Class: r.class(), Headers: r.headers()}
}

func (r sampler) state() AgentState {
	return AgentState(r.pick("available", "busy", "away", "offline"))
}

func (r sampler) event(kind Kind) *Event {
	e := &Event{Kind: kind}
	if r.some() {
		e.ID = r.number()
	}
	switch kind {
	case KindConnected:
		e.Connected = Connected{ID: e.ID, Session: "s_1", Agent: r.agent(), Node: "n1", Region: r.text(), Resumed: r.some(),
			Seq: r.number(), HeartbeatMS: int64(r.number()), ResumeMS: int64(r.number()), Version: r.text(),
			Limits: Limits{int(r.number()), int(r.number()), int(r.number()), int(r.number()), int(r.number()), int(r.number()), int(r.number()), int64(r.number()), int64(r.number())}}
	case KindOK:
		e.OK = OK{ID: e.ID, MessageID: r.text(), Outcome: Outcome(r.pick("", "delivered", "parked")), Sessions: int(r.number()),
			Epoch: r.text(), Offset: r.number(), Recovered: r.some(), Next: r.text(), Partial: r.some()}
		for range r.IntN(3) {
			e.OK.Messages = append(e.OK.Messages, r.message())
			e.OK.Members = append(e.OK.Members, Member{r.agent(), r.state(), int(r.number()), int64(r.number()), int(r.number())})
			e.OK.Agents = append(e.OK.Agents, AgentInfo{r.agent(), r.state(), int(r.number()), int64(r.number()), int(r.number()), []byte(`{"name":"x"}`), nil})
		}
	case KindError:
		e.Error = ErrorFrame{ID: e.ID, Key: r.text(), Err: Error{Code: NotFound, Message: r.text(), RetryAfterMS: int64(r.number())}}
	case KindMessage:
		e.ID, e.Message = 0, r.message()
	case KindRequest:
		e.ID, e.Request = 0, Request{r.number(), r.number(), r.agent(), r.text(), r.payload(), int64(r.number()), r.headers()}
	case KindReply:
		e.Reply = Reply{ID: e.ID, Seq: r.number(), From: r.agent(), More: r.some(), Payload: r.payload()}
		if r.some() {
			e.Reply.Err = &Error{Code: Timeout, Message: r.text()}
		}
	case KindReceipt:
		e.ID, e.Receipt = 0, Receipt{r.number(), "01J", r.agent(), ReceiptState(r.pick("delivered", "expired", "done")), r.text(), int64(r.number())}
	case KindPresence:
		e.ID, e.Presence = 0, PresenceEvent{r.channel(), r.pick("join", "leave", "state"), r.agent(), r.state()}
	case KindGap:
		e.ID, e.Gap = 0, Gap{r.pick("", "a/b"), r.number(), r.pick("", "e3"), r.number()}
	case KindNotice:
		e.ID, e.Notice = 0, Notice{"drain", r.text(), r.text(), int64(r.number()), int64(r.number()), nil}
		for range r.IntN(3) {
			e.Notice.Endpoints = append(e.Notice.Endpoints, r.text())
		}
	case KindPong:
		e.Pong = Pong{e.ID, int64(r.number()), int64(r.number())}
	case KindCancel:
		e.ID, e.CancelRequest = 0, r.number()
	}
	return e
}

// appendEvent appends the frame of an event with the function for its kind.
func appendEvent(dst []byte, enc Encoding, e *Event) []byte {
	switch e.Kind {
	case KindConnected:
		return AppendConnected(dst, enc, &e.Connected)
	case KindOK:
		return AppendOK(dst, enc, &e.OK)
	case KindError:
		return AppendError(dst, enc, &e.Error)
	case KindMessage:
		return AppendMessage(dst, enc, &e.Message)
	case KindRequest:
		return AppendRequest(dst, enc, &e.Request)
	case KindReply:
		return AppendReply(dst, enc, &e.Reply)
	case KindReceipt:
		return AppendReceipt(dst, enc, &e.Receipt)
	case KindPresence:
		return AppendPresence(dst, enc, &e.Presence)
	case KindGap:
		return AppendGap(dst, enc, &e.Gap)
	case KindNotice:
		return AppendNotice(dst, enc, &e.Notice)
	case KindPong:
		return AppendPong(dst, enc, &e.Pong)
	}
	return AppendCancel(dst, enc, e.CancelRequest)
}
