//go:build linux

package e2e

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"agentnet/app/wire"
)

// patience bounds every single wait for the network in these tests.
const patience = 20 * time.Second

// A closing is the close frame with which the relay ended a connection.
type closing struct {
	code   int
	reason string
}

func (c *closing) Error() string { return fmt.Sprintf("closed with %d: %s", c.code, c.reason) }

// A turnedAway is an upgrade that the relay refused.
type turnedAway struct {
	status int
	retry  time.Duration // of Retry-After; -1: there was none
}

func (r *turnedAway) Error() string {
	return fmt.Sprintf("upgrade refused with %d, retry after %v", r.status, r.retry)
}

// A socket is the client's end of one WebSocket, spoken by hand: small, so that
// thousands fit in one process, and free to break off in any way.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
	enc  wire.Encoding
	part []byte // of the message being read

	mu  sync.Mutex // one writer at a time
	out []byte
}

// upgrade turns a fresh connection into a socket.
func upgrade(conn net.Conn, host string, enc wire.Encoding, buffer int) (*socket, error) {
	var key [16]byte
	rand.Read(key[:])
	protocol := [...]string{wire.SubprotocolJSON, wire.SubprotocolProtobuf}[enc]
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err := fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n", host, base64.StdEncoding.EncodeToString(key[:]), protocol)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	in := bufio.NewReaderSize(conn, buffer)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		retry := time.Duration(-1)
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			retry = time.Duration(s) * time.Second
		}
		conn.Close()
		return nil, &turnedAway{resp.StatusCode, retry}
	}
	_ = conn.SetDeadline(time.Time{})
	return &socket{conn: conn, in: in, enc: enc}, nil
}

// mask is what client frames are masked with. It need not be secret here.
var mask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// write sends commands in one message.
func (s *socket) write(cmds ...*wire.Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := make([]byte, 0, 256)
	for _, c := range cmds {
		body = wire.AppendFramedCommand(body, s.enc, c)
	}
	return s.frame(0x81+byte(s.enc), body)
}

// frame writes one masked frame. s.mu must be held.
func (s *socket) frame(head byte, body []byte) error {
	b := append(s.out[:0], head)
	switch n := len(body); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask[:]...)
	start := len(b)
	b = append(b, body...)
	for i := range b[start:] {
		b[start+i] ^= mask[i&3]
	}
	if s.out = b; cap(b) > 4096 {
		s.out = nil
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(patience))
	_, err := s.conn.Write(b)
	return err
}

// read waits for the next message and hands its frames to f. Strings of an event
// may be kept, its payload not. Any error ends the socket.
func (s *socket) read(ev *wire.Event, f func(*wire.Event)) error {
	msg, err := s.message()
	if err != nil {
		return err
	}
	for len(msg) > 0 {
		n, err := ev.Read(s.enc, msg)
		if err != nil {
			return fmt.Errorf("the relay sent a frame that cannot be read: %w", err)
		}
		if ev.Kind != wire.KindNone {
			f(ev)
		}
		msg = msg[max(n, 1):]
	}
	return nil
}

// message returns the next data message, valid until the next call. Control frames
// are answered on the way.
func (s *socket) message() ([]byte, error) {
	s.part = s.part[:0]
	if cap(s.part) > 16<<10 {
		s.part = nil
	}
	for {
		var head [2]byte
		if _, err := io.ReadFull(s.in, head[:]); err != nil {
			return nil, err
		}
		size := uint64(head[1] & 0x7f)
		if size >= 126 {
			ext := make([]byte, 2+6*(size-126))
			if _, err := io.ReadFull(s.in, ext); err != nil {
				return nil, err
			}
			size = 0
			for _, b := range ext {
				size = size<<8 | uint64(b)
			}
		}
		if size > 64<<20 || head[1]&0x80 != 0 {
			return nil, errors.New("the relay sent a masked or absurd frame")
		}
		start := len(s.part)
		if need := start + int(size); cap(s.part) < need {
			s.part = append(make([]byte, 0, need), s.part...)
		}
		s.part = s.part[:start+int(size)]
		if _, err := io.ReadFull(s.in, s.part[start:]); err != nil {
			return nil, err
		}
		switch op := head[0] & 0x0f; op {
		case 8:
			body, code := s.part[start:], 1005
			if len(body) >= 2 {
				code, body = int(binary.BigEndian.Uint16(body)), body[2:]
			}
			return nil, &closing{code, string(body)}
		case 9, 10:
			body := append([]byte(nil), s.part[start:]...)
			s.part = s.part[:start]
			if op == 9 {
				s.mu.Lock()
				err := s.frame(0x8a, body)
				s.mu.Unlock()
				if err != nil {
					return nil, err
				}
			}
			continue
		}
		if head[0]&0x80 != 0 {
			return s.part, nil
		}
	}
}

// reset cuts the connection with a TCP reset.
func (s *socket) reset() { cut(s.conn) }

func cut(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

// leave closes in order.
func (s *socket) leave() {
	s.mu.Lock()
	_ = s.frame(0x88, []byte{0x03, 0xe8})
	s.mu.Unlock()
	s.conn.Close()
}

// hello connects as agent and returns the answer. With resume nil a new session
// begins.
func (s *socket) hello(token, agent string, resume *wire.Resume) (c wire.Connected, rest func(func(*wire.Event)), err error) {
	cmd := &wire.Command{ID: 1, Kind: wire.KindConnect, Class: wire.Normal,
		Connect: &wire.Connect{Token: token, Agent: agent, Resume: resume, Client: wire.ClientInfo{Name: "e2e"}}}
	if err := s.write(cmd); err != nil {
		return c, nil, err
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	defer s.conn.SetReadDeadline(time.Time{})
	var behind []wire.Event // frames that came in one message with connected
	var refusal error
	for c.Session == "" {
		var ev wire.Event
		if err := s.read(&ev, func(ev *wire.Event) {
			switch {
			case c.Session != "":
				copied := *ev
				copied.Message.Payload.Data = append([]byte(nil), ev.Message.Payload.Data...)
				copied.Request.Payload.Data = append([]byte(nil), ev.Request.Payload.Data...)
				copied.Reply.Payload.Data = append([]byte(nil), ev.Reply.Payload.Data...)
				behind = append(behind, copied)
			case ev.Kind == wire.KindConnected:
				c = ev.Connected
			case ev.Kind == wire.KindError:
				e := ev.Error.Err
				refusal = &e
			}
		}); err != nil {
			return c, nil, errors.Join(refusal, err)
		}
	}
	return c, func(f func(*wire.Event)) {
		for i := range behind {
			f(&behind[i])
		}
	}, nil
}
