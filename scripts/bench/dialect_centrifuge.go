package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"agentnet/app/bench"
)

// centrifugeDialect speaks the JSON protocol of centrifuge: one object a line.
type centrifugeDialect struct{ id uint64 }

func (d *centrifugeDialect) Name() string { return "centrifuge" }
func (d *centrifugeDialect) Upgrade() (path string, header []string) {
	return "/connection/websocket", nil
}
func (d *centrifugeDialect) Binary() bool { return false }
func (d *centrifugeDialect) Inbox() bool  { return true }

// open starts a command. Every command needs an id there, so one that wants no
// answer gets one too.
func (d *centrifugeDialect) open(dst []byte, id uint64, kind string) []byte {
	if id == 0 {
		d.id++
		id = 1<<30 + d.id
	}
	if len(dst) > 0 {
		dst = append(dst, '\n')
	}
	dst = strconv.AppendUint(append(dst, `{"id":`...), id, 10)
	return append(append(append(dst, `,"`...), kind...), `":{`...)
}

func (d *centrifugeDialect) AppendConnect(dst []byte, agent string) []byte {
	dst = append(d.open(dst, 1, "connect"), `"token":"`...)
	return append(append(dst, agent...), `"}}`...)
}

func (d *centrifugeDialect) AppendSubscribe(dst []byte, id uint64, channel string) []byte {
	dst = append(d.open(dst, id, "subscribe"), `"channel":"`...)
	return append(append(dst, channel...), `"}}`...)
}

func (d *centrifugeDialect) AppendPublish(dst []byte, id uint64, channel string, payload []byte) []byte {
	dst = append(d.open(dst, id, "publish"), `"channel":"`...)
	dst = append(append(append(dst, channel...), `","data":`...), payload...)
	return append(dst, "}}"...)
}

func (d *centrifugeDialect) AppendSend(dst []byte, id uint64, to string, payload []byte) []byte {
	return d.AppendPublish(dst, id, to, payload)
}

func (d *centrifugeDialect) AppendAck(dst []byte, _ uint64) []byte { return dst }
func (d *centrifugeDialect) AppendPing(dst []byte) []byte          { return dst }

// AppendPong answers the empty object that is the server's ping with the same.
func (d *centrifugeDialect) AppendPong(dst []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, '\n')
	}
	return append(dst, "{}"...)
}

func (d *centrifugeDialect) Next(msg []byte) (f bench.Frame, n int, err error) {
	line, n := msg, len(msg)
	if end := bytes.IndexByte(msg, '\n'); end >= 0 {
		line, n = msg[:end], end+1
	}
	switch {
	case bytes.HasPrefix(line, []byte(`{"push":{"channel":`)):
		return bench.Frame{Kind: bench.FrameDelivery, Data: line}, n, nil
	case len(line) == 0:
		return f, n, nil
	case bytes.Equal(line, []byte("{}")):
		return bench.Frame{Kind: bench.FramePing}, n, nil
	}
	f, err = d.decode(line)
	return f, n, err
}

// decode reads the answer to a command. Those to publish come often and are told
// by what follows the id.
func (d *centrifugeDialect) decode(line []byte) (bench.Frame, error) {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"id":`)); ok {
		if comma := bytes.IndexByte(rest, ','); comma > 0 && bytes.HasPrefix(rest[comma:], []byte(`,"publish":{`)) {
			return bench.Frame{Kind: bench.FrameAnswer}, nil
		}
	}
	var answer struct {
		Connect   json.RawMessage `json:"connect"`
		Subscribe json.RawMessage `json:"subscribe"`
		Error     *struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return bench.Frame{}, fmt.Errorf("centrifuge: read answer: %w", err)
	}
	switch {
	case answer.Error != nil:
		return bench.Frame{Kind: bench.FrameError, Code: fmt.Sprintf("%d %s", answer.Error.Code, answer.Error.Message)}, nil
	case answer.Connect != nil:
		return bench.Frame{Kind: bench.FrameConnected}, nil
	case answer.Subscribe != nil:
		return bench.Frame{Kind: bench.FrameAnswer}, nil
	}
	return bench.Frame{}, nil
}
