package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// The bodies below describe what is read; the reading itself is done by package
// wire, so that a body and a frame are judged by the same rules.

// SendBody is the body of /v1/send.
type SendBody struct {
	Agent    string            `json:"agent,omitempty" doc:"The sender; needed when the token covers several agents."`
	To       string            `json:"to" doc:"The receiving agent."`
	Data     json.RawMessage   `json:"data,omitempty" doc:"Any JSON value; carried as it is. Data or bytes, not both."`
	Bytes    []byte            `json:"bytes,omitempty" doc:"A binary payload instead of data."`
	Priority string            `json:"priority,omitempty" enum:"critical,high,normal,low" default:"normal"`
	TTLMS    int64             `json:"ttl_ms,omitempty" min:"0" doc:"How long the message may wait for an absent agent. 0: not at all."`
	Key      string            `json:"key,omitempty" doc:"The same key from the same agent within 2 minutes is accepted once."`
	Headers  map[string]string `json:"headers,omitempty" doc:"Carried untouched."`
}

// SendReply says what became of a message.
type SendReply struct {
	ID       string       `json:"id" doc:"The message id, a ULID."`
	Outcome  wire.Outcome `json:"outcome" enum:"delivered,parked"`
	Sessions int          `json:"sessions" doc:"Live sessions that it was handed to."`
}

// PublishBody is the body of /v1/publish.
type PublishBody struct {
	Agent    string            `json:"agent,omitempty" doc:"The sender; needed when the token covers several agents."`
	Channel  string            `json:"channel"`
	Data     json.RawMessage   `json:"data,omitempty" doc:"Any JSON value; carried as it is. Data or bytes, not both."`
	Bytes    []byte            `json:"bytes,omitempty" doc:"A binary payload instead of data."`
	Priority string            `json:"priority,omitempty" enum:"critical,high,normal,low" default:"normal"`
	Key      string            `json:"key,omitempty" doc:"The same key from the same agent within 2 minutes is accepted once."`
	Headers  map[string]string `json:"headers,omitempty" doc:"Carried untouched."`
}

// PublishReply is the place of a publication in its channel.
type PublishReply struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

func (a *API) send(c *fiber.Ctx, id *relay.Identity) error {
	command, from, err := a.command(c, wire.KindSend, "send")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	sent, err := a.cfg.Relay.Send(ctx, id, relay.SendArgs{
		From: from, To: string(command.To), Payload: command.Payload, Class: command.Class,
		TTL: time.Duration(command.TTLMS) * time.Millisecond, Key: string(command.Key), Receipts: command.Receipts, Headers: command.Headers,
	})
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, SendReply{ID: sent.MessageID, Outcome: sent.Outcome, Sessions: sent.Sessions})
}

func (a *API) publish(c *fiber.Ctx, id *relay.Identity) error {
	command, from, err := a.command(c, wire.KindPublish, "publish")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	at, err := a.cfg.Relay.Publish(ctx, id, relay.PublishArgs{
		From: from, Channel: string(command.Channel), Payload: command.Payload, Class: command.Class,
		Key: string(command.Key), Headers: command.Headers,
	})
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, PublishReply{Epoch: at.Epoch, Offset: at.Offset})
}

// command reads the body of c.
func (a *API) command(c *fiber.Ctx, kind wire.Kind, word string) (*wire.Command, string, error) {
	if encoding := c.Get(fiber.HeaderContentEncoding); encoding != "" && encoding != "identity" {
		// fiber would inflate it, without a bound.
		return nil, "", &unsupported{"Content-Encoding: a body is read as it is, not compressed"}
	}
	return decode(c.Context().Request.Body(), kind, word, &a.cfg.Limits)
}

// decode reads a body as the fields of one frame, and the sender besides. What it
// returns shares no memory with body.
func decode(body []byte, kind wire.Kind, word string, limits *wire.Limits) (*wire.Command, string, error) {
	if len(body) > limits.FrameBytes {
		return nil, "", &wire.Error{Code: wire.TooLarge, Message: fmt.Sprintf("the body has %d bytes, more than %d", len(body), limits.FrameBytes)}
	}
	agent, err := sender(body)
	if err != nil {
		return nil, "", err
	}
	frame := make([]byte, 0, len(body)+len(word)+5)
	frame = append(append(append(append(append(frame, `{"`...), word...), `":`...), body...), '}')
	room := *limits
	room.FrameBytes += len(word) + 5 // of the frame around the body
	command := new(wire.Command)
	n, err := command.Read(wire.JSON, frame, &room)
	if err != nil {
		return nil, "", protocolError(err)
	}
	if n != len(frame) || command.Kind != kind {
		return nil, "", &wire.Error{Code: wire.BadFrame, Message: "the body must be one JSON object"}
	}
	return command, agent, nil
}

// protocolError is what is wrong with a frame, without the frame's own wrapping.
func protocolError(err error) error {
	if frame, ok := errors.AsType[*wire.FrameError](err); ok {
		e := frame.Err
		return &e
	}
	return &wire.Error{Code: wire.BadFrame, Message: "the body is not a frame's fields as JSON"}
}

// sender finds the member "agent", the one field of a body that a frame does not
// have, and proves that the body is exactly one JSON object.
func sender(body []byte) (agent string, err error) {
	bad := func(text string) (string, error) { return "", &wire.Error{Code: wire.BadFrame, Message: text} }
	if !json.Valid(body) {
		return bad("the body is not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if open, _ := d.Token(); open != json.Delim('{') {
		return bad("the body must be one JSON object")
	}
	seen := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return bad("the body is not valid JSON")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return bad("the body is not valid JSON")
		}
		if name != "agent" {
			continue
		}
		if seen {
			return bad("agent: given twice")
		}
		seen = true
		if value[0] != '"' && string(value) != "null" || json.Unmarshal(value, &agent) != nil {
			return bad("agent: expected a string")
		}
	}
	if _, err := d.Token(); err != nil && err != io.EOF {
		return bad("the body is not valid JSON")
	}
	if agent != "" && !wire.ValidAgent(agent) {
		return bad("agent: not the name of an agent")
	}
	return agent, nil
}
