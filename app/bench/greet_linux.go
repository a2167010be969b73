package bench

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// upgraded reads the head of the answer to the upgrade, once it is whole.
func (c *conn) upgraded(data []byte) (used int, err error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		if len(data) > maxUpgradeAnswer {
			return 0, fmt.Errorf("upgrade: the answer's head is over %d bytes", maxUpgradeAnswer)
		}
		return 0, nil
	}
	if err := checkUpgrade(string(data[:end])); err != nil {
		return 0, err
	}
	c.state = stateGreeting
	c.hello()
	return end + 4, nil
}

// hello is the first command of a connection.
func (c *conn) hello() {
	d := c.loop.dialect
	if m, ok := d.(Mover); ok && c.way != nil && c.way.session != "" {
		c.cmd = m.AppendResume(c.cmd, c.agent, c.way.session, c.way.seq)
		return
	}
	c.cmd = d.AppendConnect(c.cmd, c.agent)
}

// welcome goes on when the server has accepted the connection. One that resumes has
// its subscriptions already.
func (c *conn) welcome(w *Where) {
	if w != nil {
		c.session = w.Session
		c.direct, c.acked = w.Seq, w.Seq
	}
	if c.way != nil {
		if w != nil && w.Resumed {
			c.becomeReady()
			return
		}
		c.way.fresh = true
	}
	c.subscribe()
}

// subscribe asks for all channels of a connection that has just been accepted.
func (c *conn) subscribe() {
	c.state = stateSubscribing
	d := c.loop.dialect
	id := uint64(1)
	if d.Inbox() {
		id++
		c.cmd = d.AppendSubscribe(c.cmd, id, c.agent)
	}
	for _, channel := range c.channels {
		id++
		c.cmd = d.AppendSubscribe(c.cmd, id, channel)
	}
	if c.awaited = int(id) - 1; c.awaited == 0 {
		c.becomeReady()
	}
}

func (c *conn) becomeReady() {
	c.state = stateReady
	c.goOn()
	if c.deaf {
		event := unix.EpollEvent{Fd: c.slot, Pad: c.generation}
		_ = unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &event)
		c.armed = false
	}
	c.keeper.ready(c)
}

// goOn sends what the connection could not send before it moved.
func (c *conn) goOn() {
	if c.way == nil || len(c.way.cmd) == 0 {
		return
	}
	c.flush()
	c.cmd, c.asked = append(c.cmd, c.way.cmd...), c.way.asked
	c.way.cmd = nil
}
