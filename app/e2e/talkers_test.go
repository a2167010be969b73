//go:build linux

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"agentnet/app/wire"
)

// asTalkers makes this test binary a process of its own in which a few pairs of
// agents talk. What measures must not wait for the very crowd whose effect it
// measures: in one process, messages would be late because thousands of goroutines
// of the load generator run first.
const asTalkers = "AGENTNET_E2E_AS_TALKERS"

// A talkersTask is what such a process is told on its standard input.
type talkersTask struct {
	Addr, Token string
	Pairs       int
	Pace        time.Duration
	Class       wire.Class
}

// A talkersReport is its answer to that, when all are connected, and to each line after it.
type talkersReport struct {
	Took                       spread // since the last report
	Sent, Got, Refused, Closed int64
	Hinted                     int64             // of the refused, with retry_after_ms
	Levels                     map[string]string // of load that were told, with what they turn off
}

// runTalkers is the other process: it reports for every line it reads, and ends
// with its standard input, after what is under way has arrived.
func runTalkers() int {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var task talkersTask
	if err := in.Decode(&task); err != nil {
		fmt.Fprintln(os.Stderr, "talkers: no task:", err)
		return 1
	}
	p := &process{t: aloneTB{}, addr: task.Addr, token: task.Token}
	talk := &conversation{class: task.Class, started: time.Now(), took: &latencies{}, notices: &notices{}}
	var working sync.WaitGroup
	for i := range task.Pairs {
		talk.talk(p, i, task.Pace, &working)
	}
	report := func() error {
		return out.Encode(talkersReport{Took: talk.took.take(), Sent: talk.sent.Load(), Got: talk.got.Load(), Refused: talk.refused.Load(),
			Closed: talk.closed.Load(), Hinted: talk.hinted.Load(), Levels: talk.notices.levels()})
	}
	var line string
	for err := error(nil); err == nil; err = in.Decode(&line) {
		if report() != nil { // the first one says that all are connected
			return 1
		}
	}
	talk.stopping.Store(true)
	working.Wait()
	if report() != nil {
		return 1
	}
	return 0
}

// aloneTB ends the process where a test would fail.
type aloneTB struct{ testing.TB }

func (aloneTB) Helper() {}
func (aloneTB) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "talkers: "+format+"\n", args...)
	os.Exit(1)
}

// talkers are pairs of agents in a process of their own.
type talkers struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	say *json.Encoder
}

// talkApart starts pairs that talk with p at pace, with messages of class. Where the machine allows it they
// come before everything else that wants to run: their own waiting for a processor
// is no property of the relay.
func talkApart(t testing.TB, p *process, pairs int, pace time.Duration, class wire.Class) *talkers {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	if _, err := exec.LookPath("nice"); err == nil && os.Getuid() == 0 {
		cmd = exec.Command("nice", "-n", "-20", self)
	}
	cmd.Env = append(os.Environ(), asTalkers+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	k := &talkers{t: t, cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out)), say: json.NewEncoder(in)}
	if err := k.say.Encode(talkersTask{Addr: p.addr, Token: p.token, Pairs: pairs, Pace: pace, Class: class}); err != nil {
		t.Fatal(err)
	}
	var connected talkersReport
	if err := k.out.Decode(&connected); err != nil {
		t.Fatalf("the talking pairs did not connect: %v", err)
	}
	return k
}

// take asks for what was measured since the last time.
func (k *talkers) take() (r talkersReport) {
	k.t.Helper()
	if err := k.say.Encode("report"); err != nil {
		k.t.Fatalf("the talking pairs have ended: %v", err)
	}
	if err := k.out.Decode(&r); err != nil {
		k.t.Fatalf("the talking pairs have ended: %v", err)
	}
	return r
}

// end lets what is under way arrive and returns the last report.
func (k *talkers) end() (r talkersReport) {
	k.t.Helper()
	k.in.Close()
	if err := k.out.Decode(&r); err != nil {
		k.t.Fatalf("the talking pairs ended without a word: %v", err)
	}
	return r
}
