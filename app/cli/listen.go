package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// listenCommand is `agentnet listen`.
type listenCommand struct {
	connection
	Channel  []string      `short:"c" placeholder:"CHANNEL" help:"Listen to this channel too; may be given several times."`
	Presence bool          `help:"Print who joins and leaves those channels."`
	Exec     string        `placeholder:"CMD" help:"Give each message and request to this shell command: one line of JSON on its standard input; its output is the answer."`
	Jobs     int           `default:"4" help:"Commands of --exec that run at a time."`
	Timeout  time.Duration `default:"60s" help:"Longest run of one command of --exec."`
	Count    int           `short:"n" help:"Stop after so many messages. Default: never."`
	Quiet    bool          `short:"q" help:"Do not print what comes (for --exec)."`
	JSON     bool          `name:"json" help:"Print one JSON object a line."`
}

// eventJSON is what a program gets of --exec and what --json prints.
type eventJSON struct {
	Type     string            `json:"type"` // message, request, presence, gap, notice, receipt
	Agent    string            `json:"agent,omitempty"`
	From     string            `json:"from,omitempty"`
	To       string            `json:"to,omitempty"`
	Channel  string            `json:"channel,omitempty"`
	Offset   uint64            `json:"offset,omitempty"`
	Method   string            `json:"method,omitempty"`
	ID       string            `json:"id,omitempty"`
	Time     int64             `json:"time,omitempty"` // ms since 1970
	Priority string            `json:"priority,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	Deadline int64             `json:"deadline,omitempty"` // ms left
	Event    string            `json:"event,omitempty"`    // join, leave, state; or the kind of a notice
	State    string            `json:"state,omitempty"`
	Missed   uint64            `json:"missed,omitempty"`
	Message  string            `json:"message,omitempty"`
	payloadJSON
}

// listener prints what comes and runs programs.
type listener struct {
	flags  *listenCommand
	env    *Env
	runner *runner // nil without --exec
	client *client.Client
	enough chan struct{} // closed when --count is reached

	mu sync.Mutex
	n  int
}

// Run listens until ctx ends, the count is reached, or the relay turns the agent
// away.
func (c *listenCommand) Run(ctx context.Context, env *Env) error {
	if c.Jobs < 1 || c.Jobs > 1024 {
		return usagef("--jobs: want 1 to 1024, got %d", c.Jobs)
	}
	l := &listener{flags: c, env: env, enough: make(chan struct{})}
	if c.Exec != "" {
		l.runner = newRunner(c.Exec, c.Jobs, c.Timeout, env)
		defer l.runner.wait()
	}
	ready := make(chan struct{})
	conn, err := c.dial(ctx, env, func(cfg *client.Config) {
		cfg.OnMessage = func(ctx context.Context, m *client.Message) { <-ready; l.message(ctx, m) }
		cfg.ManualAck = true
		if l.runner != nil {
			cfg.OnRequest = func(ctx context.Context, r *client.Request) (wire.Payload, error) { <-ready; return l.request(ctx, r) }
		}
		cfg.OnPresence = l.presence
		cfg.OnGap = l.gap
		cfg.OnNotice = l.notice
		cfg.OnError = func(e wire.Error) { l.note("%s", e.Error()) }
		cfg.OnState = l.state
	})
	if err != nil {
		return err
	}
	l.client = conn
	close(ready)
	defer func() {
		conn.Close()
		<-conn.Done()
	}()
	for _, channel := range c.Channel {
		subscribing, cancel := context.WithTimeout(ctx, c.Wait)
		_, err := conn.Subscribe(subscribing, channel, client.SubscribeOptions{Presence: c.Presence}, l.message)
		cancel()
		if err != nil {
			return err
		}
	}
	l.note("connected as %s", conn.Agent())
	select {
	case <-conn.Done():
		return conn.Err()
	case <-l.enough:
		return nil
	case <-ctx.Done():
		return nil
	}
}

// note tells the person something that is no message.
func (l *listener) note(format string, args ...any) {
	fmt.Fprintf(l.env.Stderr, "agentnet: "+format+"\n", args...)
}

func (l *listener) state(s client.StateChange) {
	switch {
	case s.State == client.Reconnecting:
		l.note("connection lost (%v), trying again in %v", s.Cause, s.RetryIn.Round(10*time.Millisecond))
	case s.State == client.Connected && s.Resumed:
		l.note("connected again, nothing was missed")
	}
}

func (l *listener) message(ctx context.Context, m *client.Message) {
	e := eventJSON{
		Type: "message", Agent: l.client.Agent(), From: m.From, To: m.To, Channel: m.Channel, Offset: m.Offset, ID: m.MessageID,
		Time: m.TimeMS, Headers: headerMap(m.Headers), payloadJSON: payloadOf(m.Payload),
	}
	if m.Class != wire.Normal {
		e.Priority = m.Class.String()
	}
	if !l.flags.Quiet {
		l.print(e, m.Payload)
	}
	if l.runner == nil {
		m.Ack()
		l.counted()
		return
	}
	l.runner.spawn(ctx, func(ctx context.Context) {
		defer l.counted()
		defer m.Ack()
		out, err := l.runner.run(ctx, e)
		if err != nil {
			l.note("message from %s: %v", m.From, err)
			return
		}
		l.answer(ctx, m, out)
	})
}

// autoReply marks a message that a program of --exec wrote, so that two such
// agents do not answer each other for ever.
const autoReply = "agentnet-auto-reply"

// answer sends what a program wrote back to the sender of a message.
func (l *listener) answer(ctx context.Context, m *client.Message, out []byte) {
	if len(out) == 0 || m.From == l.client.Agent() || hasHeader(m.Headers, autoReply) {
		return
	}
	payload, err := asJSON(out)
	if err == nil {
		_, err = l.client.Send(ctx, m.From, payload, client.Header(autoReply, "1"))
	}
	if err != nil && ctx.Err() == nil {
		l.note("answer to %s: %v", m.From, err)
	}
}

func (l *listener) request(ctx context.Context, r *client.Request) (wire.Payload, error) {
	e := eventJSON{
		Type: "request", Agent: l.client.Agent(), From: r.From, Method: r.Method, Headers: headerMap(r.Headers),
		Time: time.Now().UnixMilli(), payloadJSON: payloadOf(r.Payload),
	}
	if !r.Deadline.IsZero() {
		e.Deadline = max(time.Until(r.Deadline).Milliseconds(), 0)
	}
	if !l.flags.Quiet {
		l.print(e, r.Payload)
	}
	defer l.counted()
	if !l.runner.acquire(ctx) {
		return wire.Payload{}, context.Cause(ctx)
	}
	defer l.runner.release()
	out, err := l.runner.run(ctx, e)
	if err != nil {
		l.note("request %s from %s: %v", r.Method, r.From, err)
		return wire.Payload{}, &wire.Error{Code: wire.Internal, Message: err.Error()}
	}
	if len(out) == 0 {
		return wire.Payload{Data: []byte("null")}, nil
	}
	return asJSON(out)
}

// counted notes one handled message and ends the command at the last.
func (l *listener) counted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n++; l.n == l.flags.Count {
		close(l.enough)
	}
}

func (l *listener) presence(p wire.PresenceEvent) {
	l.print(eventJSON{Type: "presence", Channel: p.Channel, Event: p.Event, From: p.Agent, State: string(p.State)}, wire.Payload{})
}

func (l *listener) gap(g client.Gap) {
	e := eventJSON{Type: "gap", Channel: g.Channel, Missed: g.Missed}
	if g.SessionLost {
		e.Message = "the session could not be resumed; messages may be lost"
	}
	l.print(e, wire.Payload{})
}

func (l *listener) notice(n wire.Notice) {
	l.print(eventJSON{Type: "notice", Event: n.Kind, Message: n.Message}, wire.Payload{})
}

// print writes one line. What is no message goes to standard error, unless it is
// JSON, which tells by its type.
func (l *listener) print(e eventJSON, p wire.Payload) {
	if l.flags.JSON {
		_ = printJSON(l.env.Stdout, e) // a reader that went away is met at the next signal
		return
	}
	if e.Time == 0 {
		e.Time = time.Now().UnixMilli()
	}
	at := time.UnixMilli(e.Time).Format("15:04:05")
	var out io.Writer = l.env.Stderr
	line := ""
	switch e.Type {
	case "message":
		out = l.env.Stdout
		if line = at + "  " + e.From; e.Channel != "" {
			line += " #" + e.Channel
		}
		line += "  " + oneLine(shownData(p))
	case "request":
		out = l.env.Stdout
		line = fmt.Sprintf("%s  %s asks %s  %s", at, e.From, e.Method, oneLine(shownData(p)))
	case "presence":
		line = fmt.Sprintf("%s  #%s  %s %s %s", at, e.Channel, e.From, e.Event, e.State)
	case "gap":
		line = fmt.Sprintf("%s  lost: %s %s", at, missedText(e.Missed), e.Message)
		if e.Channel != "" {
			line += " in #" + e.Channel
		}
	case "notice":
		line = fmt.Sprintf("%s  notice: %s %s", at, e.Event, e.Message)
	}
	fmt.Fprintln(out, printable(strings.TrimRight(line, " ")))
}

func missedText(n uint64) string {
	if n == 0 {
		return "some messages"
	}
	return fmt.Sprintf("%d messages", n)
}

// oneLine takes the line ends out of pretty JSON.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// printable keeps control characters of other agents away from the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, text)
}

func headerMap(headers []wire.Header) map[string]string {
	if len(headers) == 0 {
		return nil
	}
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		m[h.Name] = h.Value
	}
	return m
}

func hasHeader(headers []wire.Header, name string) bool {
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			return true
		}
	}
	return false
}
