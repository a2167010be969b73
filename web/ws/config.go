package ws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Hub is what the door needs of the relay.
type Hub interface {
	// NewTurn returns a collector for one goroutine.
	NewTurn() *relay.Turn
	// Admit is asked before the upgrade. After nil, either Accept or Unadmit is
	// called exactly once.
	Admit(addr netip.Addr) *wire.Error
	// Unadmit takes an admission back whose upgrade came to nothing.
	Unadmit(addr netip.Addr)
	// Accept takes a connection in. It must not wait.
	Accept(c relay.Conn, info relay.ConnInfo) relay.Receiver
}

// Config says how a Server works.
type Config struct {
	Hub Hub // required

	// Authorize checks the bearer token of an upgrade request. Errors are those of
	// relay.Authorizer. When it is nil, a request that brings a token is refused
	// with 503. It is given authorizeWait at most.
	Authorize func(ctx context.Context, token string) (*relay.Identity, error)

	// ClientAddr tells who the client is, with trusted proxies in mind. When it is
	// nil the peer of the socket is taken.
	ClientAddr func(*fiber.Ctx) netip.Addr

	// Origins lists the web origins that may connect, as scheme://host[:port],
	// besides the server's own. Requests without an Origin are always let in.
	Origins []string

	// Limits.MessageBytes bounds one message, also when it is inflated. 0: 1 MiB.
	Limits wire.Limits

	// Compression turns permessage-deflate on for clients that offer it. It costs
	// memory and processor time for each message.
	Compression bool
	// CompressMin is the size in bytes from which outgoing messages are
	// compressed. 0: 1024.
	CompressMin int

	Logger *slog.Logger // required
	Loops  int          // epoll loops on Linux. 0: GOMAXPROCS
}

const (
	defaultMessageBytes = 1 << 20
	defaultCompressMin  = 1024

	// maxMessageBytes keeps lengths far from the range of a 32-bit int.
	maxMessageBytes = 256 << 20

	// authorizeWait is how long a client may wait for the answer to its upgrade
	// while a key server or the database is asked.
	authorizeWait = 5 * time.Second

	// unfinishedBound is how much may be kept of messages that are still coming, of
	// all clients together: many who each send most of a message and then wait
	// could otherwise hold MessageBytes each. Whoever needs more is told to come
	// back.
	unfinishedBound = 256 << 20

	// pendingBound is how much may wait for one socket when the relay goes on
	// writing although it was told that the socket is full, in addition to the
	// first write that did not fit.
	pendingBound = 8 << 20
)

// timeouts are the waits of a Server; tests shorten them.
type timeouts struct {
	close   time.Duration // for the peer's part of a closing handshake
	message time.Duration // from the first byte of a message to its last
	sweep   time.Duration // how exactly the two above are kept
	write   time.Duration // for one write of the plain path
	ticket  time.Duration // from the admission to the taken-over socket
}

var defaultTimeouts = timeouts{
	close:   2 * time.Second,
	message: 30 * time.Second,
	sweep:   500 * time.Millisecond,
	write:   10 * time.Second,
	ticket:  20 * time.Second,
}

// complete reports every fault of the configuration and fills in what was left out.
func (c *Config) complete() error {
	var errs []error
	if c.Hub == nil {
		errs = append(errs, errors.New("hub: none was given"))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("logger: none was given"))
	}
	if c.Limits.MessageBytes == 0 {
		c.Limits.MessageBytes = defaultMessageBytes
	}
	if n := c.Limits.MessageBytes; n < 0 || n > maxMessageBytes {
		errs = append(errs, fmt.Errorf("message_bytes: %d is not between 1 and %d", n, maxMessageBytes))
	}
	if c.CompressMin == 0 {
		c.CompressMin = defaultCompressMin
	}
	if c.CompressMin < 0 {
		errs = append(errs, fmt.Errorf("compress_min: %d is negative", c.CompressMin))
	}
	if c.Loops == 0 {
		c.Loops = runtime.GOMAXPROCS(0)
	}
	if c.Loops < 0 || c.Loops > 1024 {
		errs = append(errs, fmt.Errorf("loops: %d is not between 1 and 1024", c.Loops))
	}
	if c.ClientAddr == nil {
		c.ClientAddr = socketAddr
	}
	return errors.Join(errs...)
}

// socketAddr is the address of the peer of the socket; the zero Addr when it has
// none (a Unix socket).
func socketAddr(c *fiber.Ctx) netip.Addr {
	ap, err := netip.ParseAddrPort(c.Context().RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
