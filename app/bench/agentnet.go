package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"agentnet/app/wire"
)

// decodeEvery is how many deliveries are recognised by their first bytes for one
// that is decoded in full, as proof that they are what they look like.
const decodeEvery = 1024

// questionMethod is the method of all requests of the load.
const questionMethod = "bench"

// requestTimeoutMS is how long an asker lets a request wait, in milliseconds.
const requestTimeoutMS = 30_000

// longestPause bounds the wait that a server may ask for before a move.
const longestPause = time.Minute

// clientName is what the relay is told of the client.
const clientName = "agentnet-bench"

// agentNet speaks this project's own protocol.
type agentNet struct {
	enc   wire.Encoding
	token string
	shape shape

	command wire.Command
	name    []byte
	event   wire.Event
	count   uint
}

// A shape is how the frames that come most often begin. It is learnt from the
// encoder, so that it needs no knowledge of field numbers or of the order of keys.
type shape struct {
	direct, channel []byte // JSON: the start of a message
	ok              []byte // JSON: what follows the id of an answer
	message, seq    byte   // protobuf: tags of message, and of its seq
}

func newAgentNet(encoding, token string) *agentNet {
	d := &agentNet{token: token}
	if encoding == "protobuf" {
		d.enc = wire.Protobuf
		sample := wire.AppendMessage(nil, d.enc, &wire.Message{Seq: 1})
		if _, n := binary.Uvarint(sample[1:]); n > 0 && 1+n < len(sample) {
			d.shape.message, d.shape.seq = sample[0], sample[1+n]
		}
		return d
	}
	d.shape.direct = []byte(`{"message":{"seq":`)
	d.shape.channel = []byte(`{"message":{"channel":`)
	d.shape.ok = []byte(`,"ok":`)
	return d
}

func (d *agentNet) Name() string { return "agentnet" }

func (d *agentNet) Upgrade() (path string, header []string) {
	protocol := wire.SubprotocolJSON
	if d.enc == wire.Protobuf {
		protocol = wire.SubprotocolProtobuf
	}
	return "/ws", []string{"Sec-WebSocket-Protocol: " + protocol}
}

func (d *agentNet) Binary() bool { return d.enc == wire.Protobuf }

func (d *agentNet) Inbox() bool { return false }

// append adds one command to the message in dst.
func (d *agentNet) append(dst []byte, c wire.Command) []byte {
	d.command = c
	return wire.AppendFramedCommand(dst, d.enc, &d.command)
}

// bytes holds a name for the length of one call of append.
func (d *agentNet) bytes(name string) []byte {
	d.name = append(d.name[:0], name...)
	return d.name
}

func (d *agentNet) AppendConnect(dst []byte, agent string) []byte {
	return d.append(dst, wire.Command{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{
		Token: d.token, Agent: agent, Client: wire.ClientInfo{Name: clientName},
	}})
}

// Elsewhere is close code 4004: a node that drains, or has given a connection away.
func (d *agentNet) Elsewhere(code int) bool { return code == int(wire.CloseDrain) }

// AppendResume names no channel: each goes on from where the relay last sent, and
// all that it sent before its close frame was read.
func (d *agentNet) AppendResume(dst []byte, agent, session string, seq uint64) []byte {
	return d.append(dst, wire.Command{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{
		Token: d.token, Agent: agent, Client: wire.ClientInfo{Name: clientName}, Resume: &wire.Resume{Session: session, Seq: seq},
	}})
}

func (d *agentNet) AppendSubscribe(dst []byte, id uint64, channel string) []byte {
	return d.append(dst, wire.Command{ID: id, Kind: wire.KindSubscribe, Channel: d.bytes(channel)})
}

func (d *agentNet) AppendPublish(dst []byte, id uint64, channel string, payload []byte) []byte {
	return d.append(dst, wire.Command{ID: id, Kind: wire.KindPublish, Class: wire.Normal, Channel: d.bytes(channel), Payload: wire.Payload{Data: payload}})
}

func (d *agentNet) AppendSend(dst []byte, id uint64, to string, payload []byte) []byte {
	return d.append(dst, wire.Command{ID: id, Kind: wire.KindSend, Class: wire.Normal, To: d.bytes(to), Payload: wire.Payload{Data: payload}})
}

func (d *agentNet) AppendRequest(dst []byte, id uint64, to string, payload []byte) []byte {
	return d.append(dst, wire.Command{ID: id, Kind: wire.KindRequest, Class: wire.Normal, To: d.bytes(to), Method: []byte(questionMethod),
		TimeoutMS: requestTimeoutMS, Payload: wire.Payload{Data: payload}})
}

func (d *agentNet) AppendReply(dst []byte, number uint64, payload []byte) []byte {
	return d.append(dst, wire.Command{Kind: wire.KindReply, Request: number, Payload: wire.Payload{Data: payload}})
}

func (d *agentNet) AppendAck(dst []byte, seq uint64) []byte {
	return d.append(dst, wire.Command{Kind: wire.KindAck, Seq: seq})
}

func (d *agentNet) AppendPing(dst []byte) []byte {
	return d.append(dst, wire.Command{Kind: wire.KindPing})
}

// AppendPong adds nothing: the relay's own pings are WebSocket pings.
func (d *agentNet) AppendPong(dst []byte) []byte { return dst }

func (d *agentNet) Next(msg []byte) (Frame, int, error) {
	if d.enc == wire.Protobuf {
		return d.nextProtobuf(msg)
	}
	end, n := bytes.IndexByte(msg, '\n'), 0
	if end < 0 {
		end, n = len(msg), len(msg)
	} else {
		n = end + 1
	}
	line := msg[:end]
	switch {
	case bytes.HasPrefix(line, d.shape.channel):
		return d.delivery(line, false, msg[:n])
	case bytes.HasPrefix(line, d.shape.direct):
		return d.delivery(line, true, msg[:n])
	case d.isOK(line):
		return Frame{Kind: FrameAnswer}, n, nil
	}
	return d.decode(msg[:n])
}

// isOK recognises {"id":123,"ok":…
func (d *agentNet) isOK(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":`))
	if !ok {
		return false
	}
	i := 0
	for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
		i++
	}
	return bytes.HasPrefix(rest[i:], d.shape.ok)
}

func (d *agentNet) nextProtobuf(msg []byte) (Frame, int, error) {
	size, prefix := binary.Uvarint(msg)
	if prefix <= 0 || size > uint64(len(msg)-prefix) {
		return Frame{}, 0, fmt.Errorf("a frame's length prefix goes beyond the message")
	}
	n := prefix + int(size)
	body := msg[prefix:n]
	if len(body) > 3 && body[0] == d.shape.message {
		if _, length := binary.Uvarint(body[1:]); length > 0 && 1+length < len(body) {
			return d.delivery(body, body[1+length] == d.shape.seq, msg[:n])
		}
	}
	return d.decode(msg[:n])
}

// delivery returns a message that was recognised by its first bytes; whole is
// the frame with its separator.
func (d *agentNet) delivery(frame []byte, direct bool, whole []byte) (Frame, int, error) {
	if d.count++; d.count%decodeEvery == 0 {
		f, n, err := d.decode(whole)
		if err == nil && (f.Kind != FrameDelivery || f.Sequenced != direct) {
			err = fmt.Errorf("a frame that starts like a message decodes to kind %d", f.Kind)
		}
		return f, n, err
	}
	return Frame{Kind: FrameDelivery, Sequenced: direct, Data: frame}, len(whole), nil
}

// decode reads a frame in full.
func (d *agentNet) decode(frame []byte) (f Frame, n int, err error) {
	if n, err = d.event.Read(d.enc, frame); err != nil {
		return f, n, fmt.Errorf("decode frame: %w", err)
	}
	e := &d.event
	switch e.Kind {
	case wire.KindConnected:
		f.Kind = FrameConnected
		f.Where = &Where{Session: e.Connected.Session, Resumed: e.Connected.Resumed, Seq: e.Connected.Seq}
	case wire.KindOK:
		f.Kind = FrameAnswer
	case wire.KindMessage:
		f = Frame{Kind: FrameDelivery, Sequenced: e.Message.Seq > 0, Data: e.Message.Payload.Data}
	case wire.KindRequest:
		f = Frame{Kind: FrameRequest, Sequenced: e.Request.Seq > 0, Number: e.Request.Request, Data: e.Request.Payload.Data}
	case wire.KindReply:
		f = Frame{Kind: FrameReply, Sequenced: e.Reply.Seq > 0, Data: e.Reply.Payload.Data}
		if e.Reply.Err != nil {
			f.Kind, f.Code = FrameError, string(e.Reply.Err.Code)
		}
	case wire.KindReceipt:
		f.Sequenced = e.Receipt.Seq > 0
	case wire.KindError:
		f.Kind, f.Code = FrameError, string(e.Error.Err.Code)
	case wire.KindGap:
		f.Kind = FrameGap
	case wire.KindNotice:
		if n := &e.Notice; n.Kind == "drain" || n.Kind == "rebalance" {
			pause := time.Duration(min(max(n.ReconnectInMS, 0), longestPause.Milliseconds())) * time.Millisecond
			f.Kind, f.Where = FrameMove, &Where{Endpoints: n.Endpoints, Pause: pause}
		}
	}
	return f, n, nil
}
