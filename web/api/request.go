package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// RequestBody is the body of /v1/request.
type RequestBody struct {
	Agent     string            `json:"agent,omitempty" doc:"The asker; needed when the token covers several agents."`
	To        string            `json:"to" doc:"The agent to ask."`
	Method    string            `json:"method,omitempty" doc:"What is asked, in the agents' own words."`
	Data      json.RawMessage   `json:"data,omitempty" doc:"Any JSON value; carried as it is. Data or bytes, not both."`
	Bytes     []byte            `json:"bytes,omitempty" doc:"A binary payload instead of data."`
	TimeoutMS int64             `json:"timeout_ms,omitempty" min:"0" doc:"How long to wait for the reply." default:"30000"`
	Priority  string            `json:"priority,omitempty" enum:"critical,high,normal,low" default:"normal"`
	Headers   map[string]string `json:"headers,omitempty" doc:"Carried untouched."`
}

// RequestReply is the answer as one document.
type RequestReply struct {
	From    string          `json:"from" doc:"The agent that answered."`
	Data    json.RawMessage `json:"data,omitempty"`
	Bytes   []byte          `json:"bytes,omitempty"`
	Earlier []ReplyLine     `json:"earlier,omitempty" doc:"What a streaming agent said before its last reply, in order."`
}

// ReplyLine is one reply of a stream. A stream that breaks ends with a line that
// holds only error.
type ReplyLine struct {
	From  string          `json:"from,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
	More  bool            `json:"more,omitempty" doc:"Another one follows."`
	Error *wire.Error     `json:"error,omitempty"`
}

const (
	// collectedBytes and collectedReplies bound what is kept of a streamed reply for
	// one who wants a single document.
	collectedBytes   = 1 << 20
	collectedReplies = 1024
	// streamQueue is how many replies may wait for a slow reader of a stream. Then
	// the relay's callback waits, up to the request's deadline.
	streamQueue = 16
	// streamWrite bounds one write to the reader of a stream.
	streamWrite = 10 * time.Second
	// requestGrace is how much later than the relay the API gives up, so that the
	// relay's own `timeout` is what is told.
	requestGrace = 2 * time.Second
)

const (
	mimeLines  = "application/x-ndjson"
	mimeEvents = "text/event-stream"
)

func (a *API) request(c *fiber.Ctx, id *relay.Identity) error {
	command, from, err := a.command(c, wire.KindRequest, "request")
	if err != nil {
		return err
	}
	select {
	case a.waiting <- struct{}{}:
	default:
		return &wire.Error{Code: wire.Overloaded, Message: "too many requests wait for a reply; try again", RetryAfterMS: 1000}
	}
	args := relay.RequestArgs{
		From: from, To: string(command.To), Method: string(command.Method), Payload: command.Payload,
		Class: command.Class, Timeout: time.Duration(command.TimeoutMS) * time.Millisecond, Headers: command.Headers,
	}
	timeout := args.Timeout
	if timeout <= 0 {
		timeout = defaultRequestTimeout
	}
	ctx, cancel := context.WithTimeout(a.ctx, timeout+requestGrace)
	q := &question{api: a, id: id, args: args, ctx: ctx, end: func() { cancel(); <-a.waiting }}
	switch accept := c.Get(fiber.HeaderAccept); {
	case strings.Contains(accept, mimeLines):
		return q.stream(c, mimeLines)
	case strings.Contains(accept, mimeEvents):
		return q.stream(c, mimeEvents)
	default:
		return q.document(c)
	}
}

// A question is one request that waits.
type question struct {
	api  *API
	id   *relay.Identity
	args relay.RequestArgs
	ctx  context.Context
	end  func() // frees the place among those who wait; called once, last
}

// ask puts the question and turns a panic of the relay into an error.
func (q *question) ask(each func(relay.Answer) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = q.api.caught("/v1/request", v)
		}
	}()
	return q.api.cfg.Relay.Request(q.ctx, q.id, q.args, each)
}

// document waits for the last reply and answers with one JSON object.
func (q *question) document(c *fiber.Ctx) error {
	defer q.end()
	var last, earlier []byte
	replies := 0
	err := q.ask(func(answer relay.Answer) error {
		if answer.Err != nil {
			return refused(answer)
		}
		if replies++; len(earlier)+len(answer.Payload.Data) > collectedBytes || replies > collectedReplies {
			return &wire.Error{Code: wire.TooLarge, Message: "the reply is too long for one document: ask with Accept: " + mimeLines}
		}
		if !answer.More {
			last = appendAnswer(nil, answer)
			return nil
		}
		if len(earlier) > 0 {
			earlier = append(earlier, ',')
		}
		earlier = append(appendAnswer(earlier, answer), '}')
		return nil
	})
	if err != nil {
		return err
	}
	if last == nil {
		return errors.New("the relay ended a request without a last reply")
	}
	if len(earlier) > 0 {
		last = append(append(append(last, `,"earlier":[`...), earlier...), ']')
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(append(last, '}'))
}

// refused is the error that an answer carries. That nobody answered in time is the
// relay's own word, 504 and not 502.
func refused(answer relay.Answer) error {
	e := *answer.Err
	if e.Code == wire.Timeout {
		return &e
	}
	return &refusal{from: strings.Clone(answer.From), err: &e}
}

// appendAnswer appends an answer as a JSON object without its closing brace. Data
// is appended byte for byte, which encoding/json would not do.
func appendAnswer(dst []byte, answer relay.Answer) []byte {
	dst = append(dst, `{"from":`...)
	dst = appendString(dst, answer.From)
	switch {
	case answer.Payload.Binary:
		dst = append(dst, `,"bytes":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, answer.Payload.Data), '"')
	case len(answer.Payload.Data) > 0:
		dst = append(append(dst, `,"data":`...), answer.Payload.Data...)
	}
	if answer.More {
		dst = append(dst, `,"more":true`...)
	}
	return dst
}

func appendString(dst []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil { // a string always can be
		return strconv.AppendQuoteToASCII(dst, text)
	}
	return append(dst, quoted...)
}

// outcome is how a streamed request ended.
type outcome struct{ err error }

// stream answers with each reply as it comes. What goes wrong before the first
// reply still has a status of its own.
func (q *question) stream(c *fiber.Ctx, media string) error {
	ctx, cancel := context.WithCancel(q.ctx)
	q.ctx = ctx
	lines, ended := make(chan []byte, streamQueue), make(chan outcome, 1)
	go func() {
		err := q.ask(func(answer relay.Answer) error { return push(ctx, lines, answer) })
		close(lines)
		ended <- outcome{err}
		cancel()
		q.end()
	}()
	first, open := <-lines
	if !open {
		if o := <-ended; o.err != nil {
			return o.err
		}
		return errors.New("the relay ended a request without a reply")
	}
	c.Set(fiber.HeaderContentType, media)
	c.Set("X-Accel-Buffering", "no") // nginx would keep the lines back
	path, conn := c.Path(), c.Context().Conn()
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer cancel()
		w2 := &replyWriter{w: w, conn: conn, media: media}
		for line := first; line != nil; line = <-lines {
			if w2.write("reply", line) != nil {
				return // gone; cancel ends the request
			}
		}
		if o := <-ended; o.err != nil {
			e, _ := q.api.explain(path, o.err)
			if refused, ok := errors.AsType[*refusal](o.err); ok {
				e = refused.err
			}
			if line, err := json.Marshal(ReplyLine{Error: e}); err == nil {
				_ = w2.write("error", line) // the last word; nobody is left to tell
			}
		}
	})
	return nil
}

// push hands one answer to the writer of the stream.
func push(ctx context.Context, lines chan<- []byte, answer relay.Answer) error {
	if answer.Err != nil {
		return refused(answer)
	}
	line := append(appendAnswer(nil, answer), '}')
	select {
	case lines <- line:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hand over a reply: %w", ctx.Err())
	}
}

// replyWriter writes one stream to one client.
type replyWriter struct {
	w     *bufio.Writer
	conn  net.Conn
	media string
}

func (r *replyWriter) write(event string, line []byte) error {
	// The server set one deadline for the whole answer; a stream gets one a line.
	if err := r.conn.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	if r.media == mimeEvents {
		fmt.Fprintf(r.w, "event: %s\ndata: %s\n\n", event, line)
	} else {
		r.w.Write(line)
		r.w.WriteByte('\n')
	}
	return r.w.Flush() // reports the first error of all writes
}
