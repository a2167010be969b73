package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"agentnet/app/wire"
)

// Config says where to connect, as whom, and what to do with what comes. Only URL
// and a token are needed.
type Config struct {
	// URL is the base address of the relay, such as http://127.0.0.1:8080 or
	// wss://relay.example/base; "/ws" is appended.
	URL string
	// URLs are further base addresses of the same relay: other nodes, other regions.
	// They are tried in turn when URL, and where the client was last, cannot be
	// reached. Sessions go on at any of them.
	URLs []string
	// Regions makes the client ask the relay for its regions before it connects and
	// when it has lost its place, and prefer the fastest healthy one, of those that are
	// alike the one with more room.
	Regions bool
	// Token is the credential. TokenSource, when set, is asked instead before each
	// attempt, within ctx.
	Token       string
	TokenSource func(ctx context.Context) (string, error)
	// Agent is who to be; it may be left out when the token covers exactly one.
	Agent string
	// Encoding of the frames: wire.JSON (default) or wire.Protobuf.
	Encoding wire.Encoding
	// Name and Version describe this program to the relay.
	Name, Version string

	// Header is added to the upgrade request.
	Header http.Header
	// TLS is used for https and wss; nil means the system's roots.
	TLS *tls.Config
	// NetDial opens the network connection; nil means a net.Dialer.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Compress offers permessage-deflate.
	Compress bool
	// Logger gets one line for each event of the connection's life; nil means
	// none. Payloads and tokens are never logged.
	Logger *slog.Logger

	// Backoff bounds the waits between attempts.
	Backoff Backoff
	// Patient makes Dial keep trying until its context ends when the relay cannot
	// be reached at first. Else Dial returns the first failure.
	Patient bool
	// AttemptTimeout bounds one attempt: dial, upgrade and connect. 15 s by default.
	AttemptTimeout time.Duration
	// CloseTimeout bounds how long Close takes to hand over what waits. 3 s by default.
	CloseTimeout time.Duration

	// QueueFrames and QueueBytes bound the commands that wait for the connection
	// or for their answer; a call that finds no room waits. 8192 and 16 MiB by default.
	QueueFrames int
	QueueBytes  int
	// InboxFrames and InboxBytes bound what was received and waits for a handler.
	// When handlers stand still with a full inbox the client lets go of what comes
	// and resumes from there when they have caught up. 8192 and 32 MiB by default.
	InboxFrames int
	InboxBytes  int
	// MaxMessageBytes bounds one WebSocket message from the relay. 64 MiB by default.
	MaxMessageBytes int64

	// AckEvery and AckDelay coalesce acknowledgements: one is sent after so many
	// handled frames, or so long after the first of them. 64 and 250 ms by default.
	AckEvery int
	AckDelay time.Duration
	// ManualAck leaves it to the program to call Message.Ack.
	ManualAck bool

	// OnMessage gets direct messages, one at a time and in order. Without it they
	// are acknowledged and dropped. ctx ends when the client is closed.
	OnMessage func(ctx context.Context, m *Message)
	// OnRequest answers requests; see RequestHandler. Without it each one is
	// refused with not_found. At most MaxRequests (64 by default) run at a time,
	// what comes above is refused with overloaded.
	OnRequest   RequestHandler
	MaxRequests int
	// OnReceipt tells what became of messages that were sent with Receipts.
	OnReceipt func(r wire.Receipt)
	// OnPresence tells of agents in channels subscribed to with presence.
	OnPresence func(p wire.PresenceEvent)
	// OnGap names a loss.
	OnGap func(g Gap)
	// OnNotice tells what the relay turned off or is about to do.
	OnNotice func(n wire.Notice)
	// OnError gets refusals that answer no call.
	OnError func(e wire.Error)
	// OnState tells each change of the connection. It must not wait: the client
	// does not go on before it returns.
	OnState func(s StateChange)
}

// A Gap is a loss that will not be made good.
type Gap struct {
	Channel string // "": the direct frames of this agent's session
	Missed  uint64 // 0: not known
	// SessionLost says that the session could not be resumed: direct frames that
	// were on their way may be lost.
	SessionLost bool
}

// withDefaults fills what was left out and checks the rest.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.Backoff.Min, 500*time.Millisecond)
	setDefault(&c.Backoff.Max, 30*time.Second)
	setDefault(&c.AttemptTimeout, 15*time.Second)
	setDefault(&c.CloseTimeout, 3*time.Second)
	setDefault(&c.QueueFrames, 8192)
	setDefault(&c.QueueBytes, 16<<20)
	setDefault(&c.InboxFrames, 8192)
	setDefault(&c.InboxBytes, 32<<20)
	setDefault(&c.MaxMessageBytes, 64<<20)
	setDefault(&c.AckEvery, 64)
	setDefault(&c.AckDelay, 250*time.Millisecond)
	setDefault(&c.MaxRequests, 64)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Backoff.Max < c.Backoff.Min {
		return c, fmt.Errorf("backoff: max %v is below min %v", c.Backoff.Max, c.Backoff.Min)
	}
	if c.Encoding >= wire.Encodings {
		return c, fmt.Errorf("encoding: %d is not known, use wire.JSON or wire.Protobuf", c.Encoding)
	}
	if c.Token == "" && c.TokenSource == nil && c.Header.Get("Authorization") == "" {
		return c, errors.New("token: none given; make one with \"agentnet token create --agent NAME\"")
	}
	_, err := socketURLs(append([]string{c.URL}, c.URLs...))
	return c, err
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// socketURL turns a base address into that of the WebSocket.
func socketURL(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", errors.New("url: cannot be read; give one like http://127.0.0.1:8080")
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", fmt.Errorf("url: %q must begin with http://, https://, ws:// or wss://", base)
	}
	if u.Host == "" {
		return "", fmt.Errorf("url: %q names no host", base)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("url: the base address has no user, query or fragment; the token is given apart")
	}
	u.Path = strings.TrimRight(u.Path, "/") + "/ws"
	u.RawPath = ""
	return u.String(), nil
}
