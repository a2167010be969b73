package redistest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startTime bounds how long a server may take until it answers.
const startTime = 15 * time.Second

// A Server is one redis-server process, or one of another Program.
type Server struct {
	Port     int
	Password string  // "" is none
	Papers   *Papers // of a server that speaks TLS only; nil: none

	program Program
	t       testing.TB
	dir     string
	args    []string
	cmd     *exec.Cmd
	out     *os.File
	done    chan struct{} // closed when the process has ended
}

// Single starts a redis-server without persistence. options are further arguments
// of its command line, for example "--requirepass", "secret", "--maxmemory", "3mb".
func Single(t testing.TB, options ...string) *Server {
	t.Helper()
	return SingleOf(t, Redis, options...)
}

// SingleOf is Single of another program.
func SingleOf(t testing.TB, p Program, options ...string) *Server {
	t.Helper()
	s := prepare(t, p, append([]string{"--save", "", "--appendonly", "no"}, options...)...)
	s.Start()
	return s
}

// prepare makes a server that is not started.
func prepare(t testing.TB, p Program, options ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), Port: FreePort(t), program: p}
	s.args = []string{"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no", "--repl-diskless-sync-delay", "0"}
	if p != Redis6 { // which has no such option, and allows it
		s.args = append(s.args, "--enable-debug-command", "yes")
	}
	s.args = append(s.args, options...)
	for i, arg := range s.args {
		if arg == "--requirepass" {
			s.Password = s.args[i+1]
		}
	}
	t.Cleanup(s.Kill)
	return s
}

// FreePort returns a port that nobody listens on now.
func FreePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// Addr is host:port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// URL is how a node is told of this server alone.
func (s *Server) URL() string { return s.URLAt(s.Addr()) }

// URLAt is URL for a proxy in front of the server.
func (s *Server) URLAt(addr string) string {
	if s.Password == "" {
		return s.scheme() + addr
	}
	return fmt.Sprintf("%sdefault:%s@%s", s.scheme(), strings.ReplaceAll(s.Password, " ", "%20"), addr)
}

// URLAs is URL for another user.
func (s *Server) URLAs(user, password string) string {
	return fmt.Sprintf("%s%s:%s@%s", s.scheme(), user, password, s.Addr())
}

func (s *Server) scheme() string {
	if s.Papers != nil {
		return "rediss://"
	}
	return "redis://"
}

// Start runs the process and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	path := s.program.path(s.t)
	var err error
	if s.out, err = os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(path, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, out *os.File, done chan struct{}) {
		_ = cmd.Wait()
		out.Close()
		close(done)
	}(s.cmd, s.out, s.done)
	s.Await("answers", startTime, func() bool {
		reply, err := s.Do("PING")
		return err == nil && reply == "PONG"
	})
}

// Await waits until ok, or fails the test with the log of the server.
func (s *Server) Await(what string, within time.Duration, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	s.t.Fatalf("redis-server on port %d: not in %v: %s\n%s", s.Port, within, what, log)
}

// Kill ends the process at once. Its memory is gone. It may be called again.
func (s *Server) Kill() {
	if s.cmd == nil || s.done == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	select {
	case <-s.done:
	case <-time.After(startTime):
		s.t.Errorf("redis-server on port %d did not end", s.Port)
	}
	s.done = nil
}

// Restart kills the process and starts it on the same port, empty.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	s.Start()
}

// Do runs one command and returns its reply as text: arrays are joined by newlines.
func (s *Server) Do(args ...string) (string, error) {
	c, err := dial(s.Addr(), s.Papers)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if s.Password != "" {
		if _, err := c.do("AUTH", s.Password); err != nil {
			return "", err
		}
	}
	return c.do(args...)
}

// Must is Do for commands that cannot fail.
func (s *Server) Must(args ...string) string {
	s.t.Helper()
	reply, err := s.Do(args...)
	if err != nil {
		s.t.Fatalf("redis %s: %v", strings.Join(args, " "), err)
	}
	return reply
}

// Info returns one field of INFO; "" when it is missing.
func (s *Server) Info(field string) string {
	text, err := s.Do("INFO", "everything")
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return value
		}
	}
	return ""
}

// errReply is an error that the server itself answered.
var errReply = errors.New("redis")
