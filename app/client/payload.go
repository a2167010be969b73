package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agentnet/app/wire"
)

// JSON makes a payload of any value that encoding/json can encode.
func JSON(v any) (wire.Payload, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return wire.Payload{}, fmt.Errorf("payload: %w", err)
	}
	return wire.Payload{Data: data}, nil
}

// RawJSON makes a payload of JSON text, which is carried as it is.
func RawJSON(text []byte) wire.Payload { return wire.Payload{Data: text} }

// Bytes makes a binary payload.
func Bytes(b []byte) wire.Payload { return wire.Payload{Data: b, Binary: true} }

// checkPayload refuses text that is no JSON: among other commands in one WebSocket
// message it would spoil its neighbours too.
func checkPayload(p wire.Payload) error {
	if !p.Binary && p.Data != nil && !json.Valid(p.Data) {
		return &wire.Error{Code: wire.BadFrame, Message: "data is not valid JSON; quote text, or send it as bytes"}
	}
	return nil
}

// An Option adds to a send, publish or request. An option that has no meaning for
// the command is ignored.
type Option func(*wire.Command)

// Priority sets the class; wire.Normal without it.
func Priority(class wire.Class) Option { return func(c *wire.Command) { c.Class = class } }

// TTL lets a message wait in the receiver's mailbox for d (send).
func TTL(d time.Duration) Option { return func(c *wire.Command) { c.TTLMS = milliseconds(d) } }

// Key sets the dedup key; a random one is used without it (send, publish).
func Key(key string) Option { return func(c *wire.Command) { c.Key = []byte(key) } }

// Header adds a header that travels with the message.
func Header(name, value string) Option {
	return func(c *wire.Command) { c.Headers = append(c.Headers, wire.Header{Name: name, Value: value}) }
}

// Receipts asks to be told what becomes of the message (send); see Config.OnReceipt.
func Receipts() Option { return func(c *wire.Command) { c.Receipts = true } }

// Timeout bounds how long a request may take; 30 s without it, less when the
// context ends earlier.
func Timeout(d time.Duration) Option { return func(c *wire.Command) { c.TimeoutMS = milliseconds(d) } }

// milliseconds rounds up, so that a short time does not become none.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// asError turns what a handler returned into what the asker is told.
func asError(err error) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	return &wire.Error{Code: wire.Internal, Message: "the agent failed to answer"}
}
