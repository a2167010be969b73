package main

import (
	"bytes"
	"fmt"
	"strconv"

	"agentnet/app/bench"
)

// natsDialect speaks the client protocol of NATS. The server treats WebSocket
// messages as a stream: a protocol line may go on in the next one.
type natsDialect struct{ sid uint64 }

var natsEnd = []byte("\r\n")

func (d *natsDialect) Name() string                            { return "nats" }
func (d *natsDialect) Upgrade() (path string, header []string) { return "/", nil }
func (d *natsDialect) Binary() bool                            { return true }
func (d *natsDialect) Inbox() bool                             { return true }

// AppendConnect asks for no acknowledgements (verbose off), as NATS' own clients
// do; the PONG proves that the server has taken the CONNECT.
func (d *natsDialect) AppendConnect(dst []byte, agent string) []byte {
	dst = append(dst, `CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"protocol":1,"lang":"bench","version":"1","name":"`...)
	dst = append(dst, agent...)
	return append(dst, "\"}\r\nPING\r\n"...)
}

func (d *natsDialect) AppendSubscribe(dst []byte, _ uint64, channel string) []byte {
	d.sid++
	dst = append(append(dst, "SUB "...), channel...)
	dst = strconv.AppendUint(append(dst, ' '), d.sid, 10)
	return append(dst, "\r\nPING\r\n"...)
}

func (d *natsDialect) AppendPublish(dst []byte, _ uint64, channel string, payload []byte) []byte {
	dst = append(append(dst, "PUB "...), channel...)
	dst = strconv.AppendInt(append(dst, ' '), int64(len(payload)), 10)
	dst = append(append(dst, natsEnd...), payload...)
	return append(dst, natsEnd...)
}

func (d *natsDialect) AppendSend(dst []byte, id uint64, to string, payload []byte) []byte {
	return d.AppendPublish(dst, id, to, payload)
}

func (d *natsDialect) AppendAck(dst []byte, _ uint64) []byte { return dst }
func (d *natsDialect) AppendPing(dst []byte) []byte          { return dst }
func (d *natsDialect) AppendPong(dst []byte) []byte          { return append(dst, "PONG\r\n"...) }

func (d *natsDialect) Next(msg []byte) (f bench.Frame, n int, err error) {
	end := bytes.Index(msg, natsEnd)
	if end < 0 {
		return f, 0, nil
	}
	line := msg[:end]
	n = end + len(natsEnd)
	switch {
	case bytes.HasPrefix(line, []byte("MSG ")):
		size, err := strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
		if err != nil || size < 0 {
			return f, 0, fmt.Errorf("nats: the size in %q is not a number", line)
		}
		if len(msg) < n+size+len(natsEnd) {
			return f, 0, nil
		}
		f.Kind, f.Data = bench.FrameDelivery, msg[n:n+size]
		return f, n + size + len(natsEnd), nil
	case bytes.Equal(line, []byte("PONG")):
		f.Kind = bench.FrameAnswer
	case bytes.Equal(line, []byte("PING")):
		f.Kind = bench.FramePing
	case bytes.HasPrefix(line, []byte("-ERR")):
		f.Kind, f.Code = bench.FrameError, string(line)
	case bytes.HasPrefix(line, []byte("INFO ")), bytes.Equal(line, []byte("+OK")):
	default:
		return f, 0, fmt.Errorf("nats: line %q is not known", line)
	}
	return f, n, nil
}
