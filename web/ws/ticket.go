package ws

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"agentnet/app/relay"

	"github.com/gofiber/contrib/websocket"
	"github.com/valyala/fasthttp"
)

const ticketKey = "agentnet.ticket"

// A ticket is an admission on its way from the handler to the socket. It is used
// once or, when the upgrade comes to nothing, given back to the relay: by the
// handler, by the one that takes the socket over, or by its timer, because fasthttp
// does not tell when it drops an upgraded connection.
type ticket struct {
	srv   *Server
	info  relay.ConnInfo
	timer atomic.Pointer[time.Timer]
	used  atomic.Bool

	// Written by the handler, read after it by claim.
	ctx     *fasthttp.RequestCtx
	deflate bool
}

func (s *Server) issue(info relay.ConnInfo) *ticket {
	t := &ticket{srv: s, info: info}
	s.pending.Add(1)
	t.timer.Store(time.AfterFunc(s.waits.ticket, t.giveUp))
	return t
}

// use tells whether the caller is the first.
func (t *ticket) use() bool {
	if t.used.Swap(true) {
		return false
	}
	t.srv.pending.Add(-1)
	if timer := t.timer.Load(); timer != nil { // nil when it fires at once
		timer.Stop()
	}
	return true
}

// giveUp gives the admission back, unless the ticket was used.
func (t *ticket) giveUp() {
	if t.use() {
		t.srv.cfg.Hub.Unadmit(t.info.Addr)
	}
}

// claim is called by the library when the request is answered: from now on the
// socket is ours. It sends the answer, and returns at once. Nothing of c is kept.
func claim(c *websocket.Conn) {
	t, _ := c.Locals(ticketKey).(*ticket)
	hijacked := c.NetConn()
	keeper, _ := hijacked.(interface{ UnsafeConn() net.Conn })
	if t == nil || keeper == nil {
		hijacked.Close()
		return
	}
	nc := keeper.UnsafeConn()
	if !t.use() {
		nc.Close() // too late: the admission was given back
		return
	}
	early, err := t.answer(hijacked, nc)
	t.ctx = nil // the library's pool keeps the ticket for a while
	if err != nil {
		nc.Close()
		t.srv.cfg.Hub.Unadmit(t.info.Addr)
		return
	}
	if !t.srv.take(nc, t, early) {
		t.srv.cfg.Hub.Unadmit(t.info.Addr)
	}
	t.info.Identity = nil
}

// answer sends the 101 and returns what the client had sent behind its request.
func (t *ticket) answer(hijacked, nc net.Conn) (early []byte, err error) {
	if err = nc.SetWriteDeadline(time.Now().Add(t.srv.waits.write)); err != nil {
		return nil, err
	}
	if _, err = nc.Write(t.ctx.Response.Header.Header()); err != nil {
		return nil, err
	}
	// With a deadline in the past a read gives what the reader of the request has
	// in its buffer, and nothing of what the system holds.
	if err = nc.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, err
	}
	var chunk [512]byte
	for {
		n, err := hijacked.Read(chunk[:])
		early = append(early, chunk[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) || err == io.EOF {
			break // at EOF, who reads next finds it again
		}
		if err != nil {
			return nil, err
		}
	}
	return early, nc.SetDeadline(time.Time{})
}
