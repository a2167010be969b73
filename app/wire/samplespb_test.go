package wire

import pb "agentnet/app/wire/agentnetpb"

func pbHeaders(hs []Header) map[string]string {
	m := map[string]string{}
	for _, h := range hs {
		m[h.Name] = h.Value
	}
	return m
}

func pbPriority(c Class) pb.Priority { return pb.Priority(pb.Priority_value[c.String()]) }

func pbSince(c *Command) *pb.Since {
	if !c.HasSince {
		return nil
	}
	return &pb.Since{Epoch: c.Since.Epoch, Offset: c.Since.Offset}
}

func pbFailure(e *Error) *pb.Failure {
	if e == nil {
		return nil
	}
	return &pb.Failure{Code: string(e.Code), Message: e.Message, RetryAfterMs: uint64(e.RetryAfterMS)}
}

// pbCommand is the generated form of a command.
func pbCommand(c *Command) *pb.ClientFrame {
	f := &pb.ClientFrame{Id: c.ID}
	switch c.Kind {
	case KindConnect:
		v := &pb.Connect{Token: c.Connect.Token, Agent: c.Connect.Agent}
		if c.Connect.Client != (ClientInfo{}) {
			v.Client = &pb.Client{Name: c.Connect.Client.Name, Version: c.Connect.Client.Version}
		}
		if r := c.Connect.Resume; r != nil {
			v.Resume = &pb.Resume{Session: r.Session, Seq: r.Seq}
			for _, at := range r.Channels {
				v.Resume.Channels = append(v.Resume.Channels, &pb.Position{Channel: at.Channel, Epoch: at.Epoch, Offset: at.Offset})
			}
		}
		f.Kind = &pb.ClientFrame_Connect{Connect: v}
	case KindSend:
		v := &pb.Send{To: string(c.To), Priority: pbPriority(c.Class), TtlMs: uint64(c.TTLMS), Key: string(c.Key), Headers: pbHeaders(c.Headers), Receipts: c.Receipts}
		if c.Payload.Binary {
			v.Payload = &pb.Send_Bytes{Bytes: c.Payload.Data}
		} else if c.Payload.Data != nil {
			v.Payload = &pb.Send_Data{Data: c.Payload.Data}
		}
		f.Kind = &pb.ClientFrame_Send{Send: v}
	case KindRequest:
		v := &pb.Request{To: string(c.To), Method: string(c.Method), Priority: pbPriority(c.Class), TimeoutMs: uint64(c.TimeoutMS), Headers: pbHeaders(c.Headers)}
		if c.Payload.Binary {
			v.Payload = &pb.Request_Bytes{Bytes: c.Payload.Data}
		} else if c.Payload.Data != nil {
			v.Payload = &pb.Request_Data{Data: c.Payload.Data}
		}
		f.Kind = &pb.ClientFrame_Request{Request: v}
	case KindCancel:
		f.Kind = &pb.ClientFrame_Cancel{Cancel: &pb.Cancel{Request: c.Request}}
	case KindReceipt:
		f.Kind = &pb.ClientFrame_Receipt{Receipt: &pb.Receipt{Id: string(c.MessageID), State: string(c.State), Note: string(c.Note)}}
	case KindReply:
		v := &pb.Reply{Request: c.Request, More: c.More, Error: pbFailure(c.Err)}
		if c.Payload.Binary {
			v.Payload = &pb.Reply_Bytes{Bytes: c.Payload.Data}
		} else if c.Payload.Data != nil {
			v.Payload = &pb.Reply_Data{Data: c.Payload.Data}
		}
		f.Kind = &pb.ClientFrame_Reply{Reply: v}
	case KindSubscribe:
		f.Kind = &pb.ClientFrame_Subscribe{Subscribe: &pb.Subscribe{Channel: string(c.Channel), Since: pbSince(c), Presence: c.Presence}}
	case KindUnsubscribe:
		f.Kind = &pb.ClientFrame_Unsubscribe{Unsubscribe: &pb.Unsubscribe{Channel: string(c.Channel)}}
	case KindPublish:
		v := &pb.Publish{Channel: string(c.Channel), Priority: pbPriority(c.Class), Key: string(c.Key), Headers: pbHeaders(c.Headers)}
		if c.Payload.Binary {
			v.Payload = &pb.Publish_Bytes{Bytes: c.Payload.Data}
		} else if c.Payload.Data != nil {
			v.Payload = &pb.Publish_Data{Data: c.Payload.Data}
		}
		f.Kind = &pb.ClientFrame_Publish{Publish: v}
	case KindHistory:
		f.Kind = &pb.ClientFrame_History{History: &pb.History{Channel: string(c.Channel), Since: pbSince(c), Limit: uint64(c.Limit)}}
	case KindPresence:
		f.Kind = &pb.ClientFrame_Presence{Presence: &pb.Presence{Channel: string(c.Channel), Agent: string(c.Agent)}}
	case KindAgents:
		f.Kind = &pb.ClientFrame_Agents{Agents: &pb.Agents{Match: string(c.Match), Limit: uint64(c.Limit), After: string(c.After)}}
	case KindProfile:
		f.Kind = &pb.ClientFrame_Profile{Profile: &pb.Profile{Card: c.Profile.Card, Keys: c.Profile.Keys, State: string(c.Profile.State)}}
	case KindAck:
		f.Kind = &pb.ClientFrame_Ack{Ack: &pb.Ack{Seq: c.Seq}}
	case KindPing:
		f.Kind = &pb.ClientFrame_Ping{Ping: &pb.Ping{RttMs: uint64(c.RTTMS)}}
	}
	return f
}

func pbMessage(m *Message) *pb.Message {
	v := &pb.Message{Seq: m.Seq, Channel: m.Channel, Offset: m.Offset, From: m.From, To: m.To, Id: m.MessageID,
		Time: uint64(m.TimeMS), Priority: pbPriority(m.Class), Headers: pbHeaders(m.Headers)}
	if m.Payload.Binary {
		v.Payload = &pb.Message_Bytes{Bytes: m.Payload.Data}
	} else if m.Payload.Data != nil {
		v.Payload = &pb.Message_Data{Data: m.Payload.Data}
	}
	return v
}

// pbEvent is the generated form of an event.
func pbEvent(e *Event) *pb.ServerFrame {
	f := &pb.ServerFrame{Id: e.ID}
	switch e.Kind {
	case KindConnected:
		v := &e.Connected
		l := &v.Limits
		c := &pb.Connected{Session: v.Session, Agent: v.Agent, Node: v.Node, Region: v.Region, Resumed: v.Resumed, Seq: v.Seq,
			HeartbeatMs: uint64(v.HeartbeatMS), ResumeMs: uint64(v.ResumeMS),
			Limits: &pb.Limits{FrameBytes: uint64(l.FrameBytes), MessageBytes: uint64(l.MessageBytes), Subscriptions: uint64(l.Subscriptions),
				HeaderCount: uint64(l.HeaderCount), HeaderBytes: uint64(l.HeaderBytes), MessagesPerS: uint64(l.MessagesPerS),
				BytesPerS: uint64(l.BytesPerS), MaxTtlMs: uint64(l.MaxTTLMS), MaxTimeoutMs: uint64(l.MaxTimeoutMS)}}
		if v.Version != "" {
			c.Server = &pb.Server{Version: v.Version}
		}
		f.Kind = &pb.ServerFrame_Connected{Connected: c}
	case KindOK:
		v := &e.OK
		o := &pb.Ok{Id: v.MessageID, Outcome: string(v.Outcome), Sessions: uint64(v.Sessions), Epoch: v.Epoch, Offset: v.Offset, Recovered: v.Recovered, Next: v.Next, Partial: v.Partial}
		for i := range v.Messages {
			o.Messages = append(o.Messages, pbMessage(&v.Messages[i]))
		}
		for _, m := range v.Members {
			o.Members = append(o.Members, &pb.Member{Agent: m.Agent, State: string(m.State), Sessions: uint64(m.Sessions), LastActiveMs: uint64(m.LastActiveMS), Queue: uint64(m.Queue)})
		}
		for _, a := range v.Agents {
			o.Agents = append(o.Agents, &pb.AgentInfo{Agent: a.Agent, State: string(a.State), Sessions: uint64(a.Sessions), LastActiveMs: uint64(a.LastActiveMS), Queue: uint64(a.Queue), Card: a.Card, Keys: a.Keys})
		}
		f.Kind = &pb.ServerFrame_Ok{Ok: o}
	case KindError:
		v := &e.Error
		f.Kind = &pb.ServerFrame_Error{Error: &pb.Error{Code: string(v.Err.Code), Message: v.Err.Message, RetryAfterMs: uint64(v.Err.RetryAfterMS), Key: v.Key}}
	case KindMessage:
		f.Kind = &pb.ServerFrame_Message{Message: pbMessage(&e.Message)}
	case KindRequest:
		v := &e.Request
		q := &pb.RequestEvent{Seq: v.Seq, Request: v.Request, From: v.From, Method: v.Method, Deadline: uint64(v.DeadlineMS), Headers: pbHeaders(v.Headers)}
		if v.Payload.Binary {
			q.Payload = &pb.RequestEvent_Bytes{Bytes: v.Payload.Data}
		} else if v.Payload.Data != nil {
			q.Payload = &pb.RequestEvent_Data{Data: v.Payload.Data}
		}
		f.Kind = &pb.ServerFrame_Request{Request: q}
	case KindReply:
		v := &e.Reply
		p := &pb.ReplyEvent{Seq: v.Seq, From: v.From, More: v.More, Error: pbFailure(v.Err)}
		if v.Payload.Binary {
			p.Payload = &pb.ReplyEvent_Bytes{Bytes: v.Payload.Data}
		} else if v.Payload.Data != nil {
			p.Payload = &pb.ReplyEvent_Data{Data: v.Payload.Data}
		}
		f.Kind = &pb.ServerFrame_Reply{Reply: p}
	case KindReceipt:
		v := &e.Receipt
		f.Kind = &pb.ServerFrame_Receipt{Receipt: &pb.ReceiptEvent{Seq: v.Seq, Id: v.MessageID, From: v.From, State: string(v.State), Note: v.Note, Time: uint64(v.TimeMS)}}
	case KindPresence:
		v := &e.Presence
		f.Kind = &pb.ServerFrame_Presence{Presence: &pb.PresenceEvent{Channel: v.Channel, Event: v.Event, Agent: v.Agent, State: string(v.State)}}
	case KindGap:
		f.Kind = &pb.ServerFrame_Gap{Gap: &pb.Gap{Channel: e.Gap.Channel, Missed: e.Gap.Missed, Epoch: e.Gap.Epoch, Offset: e.Gap.Offset}}
	case KindNotice:
		v := &e.Notice
		f.Kind = &pb.ServerFrame_Notice{Notice: &pb.Notice{Kind: v.Kind, Level: v.Level, Message: v.Message, Until: uint64(v.UntilMS), ReconnectInMs: uint64(v.ReconnectInMS), Endpoints: v.Endpoints}}
	case KindPong:
		f.Kind = &pb.ServerFrame_Pong{Pong: &pb.Pong{Time: uint64(e.Pong.TimeMS), HeartbeatMs: uint64(e.Pong.HeartbeatMS)}}
	case KindCancel:
		f.Kind = &pb.ServerFrame_Cancel{Cancel: &pb.CancelEvent{Request: e.CancelRequest}}
	}
	return f
}
