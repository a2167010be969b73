package app

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"
)

const (
	// statusEvery is how often the numbers of "systemctl status" are fresh.
	statusEvery = 5 * time.Second
	// notifyWait bounds one datagram: the service manager may be busy, the node must
	// not wait for it.
	notifyWait = time.Second
)

// A supervisor is the service manager that started the node, told of its state by
// the protocol of sd_notify(3). The zero value is none.
type supervisor struct {
	socket   string        // path, or @ and a name
	watchdog time.Duration // it restarts a node that was silent for so long; 0: never
}

// WithSupervisor lets the node tell the service manager of the environment
// (NOTIFY_SOCKET, WATCHDOG_USEC) that it is ready, reloads and stops, how many
// agents it has, and that it lives.
func WithSupervisor(getenv func(string) string, pid int) Option {
	return func(a *App) {
		a.supervisor.socket = getenv("NOTIFY_SOCKET")
		usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
		whose := getenv("WATCHDOG_PID")
		if err == nil && usec > 0 && (whose == "" || whose == strconv.Itoa(pid)) {
			a.supervisor.watchdog = time.Duration(usec) * time.Microsecond
		}
	}
}

// tell sends one state, made of lines like READY=1.
func (s *supervisor) tell(lines ...string) error {
	if s.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyWait)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// say is tell for states that nothing depends on.
func (a *App) say(lines ...string) {
	if err := a.supervisor.tell(lines...); err != nil {
		a.log.Warn("the service manager was not told", "error", err)
	}
}

// supervise tells numbers and life signs until ctx ends. A life sign is sent after
// the relay answered, so that one that hangs is restarted.
func (a *App) supervise(ctx context.Context) error {
	if a.supervisor.socket == "" {
		return nil
	}
	every := statusEvery
	if w := a.supervisor.watchdog; w > 0 {
		every = max(min(every, w/3), 10*time.Millisecond)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := a.hub.Stats()
	a.say("READY=1", status(&last, 0))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := a.hub.Stats()
		rate := float64(now.MessagesIn-last.MessagesIn) / max(now.Now.Sub(last.Now).Seconds(), 0.001)
		a.say("WATCHDOG=1", status(&now, rate))
		last = now
	}
}

// status is the line that "systemctl status" shows.
func status(s *relay.Stats, rate float64) string {
	text := fmt.Sprintf("STATUS=%d agents, %d connections, %.1f messages/s", s.Agents, s.Connections, rate)
	if s.Level != "" && s.Level != "normal" {
		text += ", load " + s.Level
	}
	if s.Draining {
		text += ", draining"
	}
	return text
}
