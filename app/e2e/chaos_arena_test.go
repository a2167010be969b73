//go:build linux

package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"agentnet/app/apptest/link"
	"agentnet/app/wire"
)

// number reads a size of the long form from the environment; short is that of CI.
func number(t testing.TB, variable string, short int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s: %q is not a number above 0", variable, text)
	}
	return n
}

// perSecond reads how much each agent does in a second, which may be less than one thing.
func perSecond(t testing.TB, variable string, short float64) float64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v > 0 && v <= 1e6) {
		t.Fatalf("%s: %q is not a number above 0, a million at most", variable, text)
	}
	return v
}

// long says that the scenario runs in its long form.
func long() bool { return os.Getenv("E2E_LONG") != "" }

// figure reports one line, to the test log and to the record of a long run.
func figure(t testing.TB, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("E2E_FIGURES")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "- %s\n", line); err != nil {
		t.Fatal(err)
	}
}

// dial opens a TCP connection to the node. Source addresses are spread, because
// one has fewer ports than the largest runs have clients.
func dial(addr string, source int, receiveBuffer int) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	if source > 0 {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+source%200))}
	}
	if receiveBuffer > 0 {
		d.Control = smallReceiveBuffer(receiveBuffer)
	}
	return d.Dial("tcp", addr)
}

// join connects a fresh session of agent and fails the test when it cannot.
func (p *process) join(agent string, enc wire.Encoding) *socket {
	p.t.Helper()
	conn, err := dial(p.addr, 0, 0)
	if err != nil {
		p.t.Fatalf("connect %s: %v", agent, err)
	}
	s, err := upgrade(conn, p.addr, enc, 4096)
	if err != nil {
		p.t.Fatalf("connect %s: %v", agent, err)
	}
	if _, _, err := s.hello(p.token, agent, nil); err != nil {
		p.t.Fatalf("connect %s: %v", agent, err)
	}
	return s
}

// An arena is what the actors of one run share.
type arena struct {
	t       testing.TB
	p       *process
	proxy   *link.Proxy
	record  *record
	started time.Time
	calm    atomic.Bool   // no more faults, no more messages
	gentle  bool          // agents neither lose connections nor leave by themselves
	choose  func() string // a node that takes clients, for those who do without the balancer
	led     bool          // members go to the nodes that they are told of
	kills   []int64       // when nodes were killed
	tcpCuts [cutKinds]atomic.Int64
	resumes atomic.Int64
	fresh   atomic.Int64
	ended   atomic.Int64 // sessions that a raw actor asked for and no node had
	sent    atomic.Int64
	got     atomic.Int64
}

// Ways to lose a connection.
const (
	cutFIN = iota
	cutRST
	cutStall
	cutSlow
	cutKinds
)

func newArena(t testing.TB, p *process, agents, channels int) *arena {
	a := &arena{t: t, p: p, proxy: link.New(t, p.addr), record: &record{}, started: time.Now()}
	for range agents {
		a.record.agents = append(a.record.agents, &diary{secret: rand.Text()})
	}
	for range channels {
		a.record.channels = append(a.record.channels, rand.Text())
	}
	return a
}

func (a *arena) now() int64 { return int64(time.Since(a.started)) + 1 }

func agentName(i int) string   { return "e2e/a" + strconv.Itoa(i) }
func channelName(i int) string { return "e2e/c/" + strconv.Itoa(i) }

// behind is how many agents of a town come in through its balancer. Each of them costs
// this process three descriptors instead of one, and the largest towns would need
// more than a process may have.
const behind = 1000

// door is the address at which agent i comes in, on a way that can be spoilt when it
// asks for one.
func (a *arena) door(i int, spoilt bool) string {
	switch {
	case a.choose != nil && i >= behind:
		return cmp.Or(a.choose(), a.p.addr)
	case spoilt && !a.gentle:
		return a.proxy.Addr()
	default:
		return a.p.addr
	}
}

// payload is what one message says: for whom it is (by a secret that nobody else
// is sent), and who sent it as which number. One in four is long.
func (a *arena) payload(m *deed) wire.Payload {
	var secret string
	if m.channel {
		secret = a.record.channels[m.to]
	} else {
		secret = a.record.agents[m.to].secret
	}
	text := fmt.Sprintf("%s|%d|%d|%v|%d|", secret, m.from, m.to, m.channel, m.n)
	if m.n%4 == 0 {
		text += strings.Repeat("x", 600)
	}
	if m.n%3 == 0 {
		return wire.Payload{Data: []byte(text), Binary: true}
	}
	return wire.Payload{Data: []byte(strconv.Quote(text))}
}

// parse is the other way of payload.
func parse(p wire.Payload) (s sight, ok bool) {
	text := string(p.Data)
	if !p.Binary {
		var err error
		if text, err = strconv.Unquote(text); err != nil {
			return s, false
		}
	}
	parts := strings.SplitN(text, "|", 6)
	if len(parts) != 6 {
		return s, false
	}
	var errs [3]error
	s.secret = parts[0]
	s.from, errs[0] = strconv.Atoi(parts[1])
	s.to, errs[1] = strconv.Atoi(parts[2])
	s.channel = parts[3] == "true"
	s.n, errs[2] = strconv.Atoi(parts[4])
	return s, errs == [3]error{}
}

// note writes a message into the diary of agent i.
func (a *arena) note(i int, m *wire.Message, lineage int) {
	a.got.Add(1)
	d := a.record.agents[i]
	s, ok := parse(m.Payload)
	if !ok || (m.Channel == "") == s.channel || m.From != agentName(s.from) || (s.channel && m.Channel != channelName(s.to)) || (!s.channel && m.To != agentName(i)) {
		d.mu.Lock()
		d.foreign = append(d.foreign, fmt.Sprintf("a message %q from %s to %q in %q with %d bytes that nobody sent so", m.MessageID, m.From, m.To, m.Channel, len(m.Payload.Data)))
		d.mu.Unlock()
		return
	}
	s.lineage, s.class, s.id, s.at = lineage, m.Class, m.MessageID, a.now()
	s.place = m.Seq + m.Offset
	d.saw(s)
}

// question is the payload of a request; echo that of its answer.
func (a *arena) question(from, to, n int) wire.Payload {
	text := fmt.Sprintf("?|%s|%s|%d", a.record.agents[to].secret, a.record.agents[from].secret, n)
	return wire.Payload{Data: []byte(strconv.Quote(text))}
}

// echo answers a question that agent i got.
func (a *arena) echo(i int, p wire.Payload) wire.Payload {
	text, _ := strconv.Unquote(string(p.Data))
	parts := strings.Split(text, "|")
	if len(parts) != 4 || parts[1] != a.record.agents[i].secret {
		a.foreign(i, "a request for somebody else")
		return wire.Payload{Data: []byte(`"?"`)}
	}
	return wire.Payload{Data: []byte(strconv.Quote("!|" + parts[2] + "|" + parts[3]))}
}

// answered checks the answer to question n of agent i.
func (a *arena) answered(i, n int, p wire.Payload) {
	if want := strconv.Quote(fmt.Sprintf("!|%s|%d", a.record.agents[i].secret, n)); string(p.Data) != want {
		a.foreign(i, "the reply to another request")
	}
	d := a.record.agents[i]
	d.mu.Lock()
	d.answers++
	d.mu.Unlock()
}

func (a *arena) foreign(i int, text string) {
	d := a.record.agents[i]
	d.mu.Lock()
	d.foreign = append(d.foreign, text)
	d.mu.Unlock()
}

// An actor is one agent of the arena.
type actor interface {
	// live acts until ctx ends, and then stays connected and undisturbed.
	live(ctx context.Context)
	// settled says that it is connected and everything was answered.
	settled() bool
	// listens names the lineages that hear channels now.
	listens() map[int]int
	// leave ends the connection.
	leave()
}
