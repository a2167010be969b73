package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// workerEnv marks a worker process: "INDEX RUN". A worker is this very program
// with the same arguments; it takes orders from standard input and answers on
// standard output, one JSON object a line each.
const workerEnv = "AGENTNET_BENCH_WORKER"

// maxLine bounds one order or answer; a histogram is the largest thing in one.
const maxLine = 4 << 20

// closePatience is how long workers may take to end when they are told to.
const closePatience = 5 * time.Second

// An order tells a worker process what to do next.
type order struct {
	Do   string              `json:"do"` // connect, start, run, measure, drain, finish
	For  time.Duration       `json:"for,omitempty"`
	On   bool                `json:"on,omitempty"`
	Sent []map[uint32]uint32 `json:"sent,omitempty"`
}

// An answer is what came of an order.
type answer struct {
	Error    string              `json:"error,omitempty"`
	Connects *Connects           `json:"connects,omitempty"`
	Sent     []map[uint32]uint32 `json:"sent,omitempty"`
	Results  []PartResult        `json:"results,omitempty"`
}

// IsWorker tells that this process was started by a Run with several processes
// and must call RunWorker.
func IsWorker() bool { return os.Getenv(workerEnv) != "" }

// RunWorker is the main function of a worker process. It returns when its
// standard input ends.
func RunWorker(ctx context.Context, o Options, stdin io.Reader, stdout io.Writer) error {
	number, run, _ := strings.Cut(os.Getenv(workerEnv), " ")
	index, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("bench worker: %s=%q: want INDEX RUN", workerEnv, os.Getenv(workerEnv))
	}
	if err := o.Resolve(); err != nil {
		return fmt.Errorf("bench worker: %w", err)
	}
	if index < 0 || index >= o.Processes {
		return fmt.Errorf("bench worker %d: there are %d", index, o.Processes)
	}
	o.Run = run
	w, err := newWorker(&o, index)
	if err != nil {
		return fmt.Errorf("bench worker %d: %w", index, err)
	}
	defer w.close()
	return obey(ctx, w, stdin, json.NewEncoder(stdout))
}

// obey carries out orders until there are no more, and serves the connections
// between them.
func obey(ctx context.Context, w crew, stdin io.Reader, out *json.Encoder) error {
	orders := make(chan order)
	go func() { // ends when stdin does, or the process
		defer close(orders)
		lines := bufio.NewScanner(stdin)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			var next order
			if json.Unmarshal(lines.Bytes(), &next) != nil {
				return
			}
			select {
			case orders <- next:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case next, more := <-orders:
			if !more {
				return nil
			}
			if err := out.Encode(carryOut(ctx, w, next)); err != nil {
				return fmt.Errorf("bench worker: answer: %w", err)
			}
		case <-ctx.Done():
			return ctx.Err()
		default:
			if err := w.rest(); err != nil {
				return fmt.Errorf("bench worker: %w", err)
			}
		}
	}
}

// carryOut does what one order says.
func carryOut(ctx context.Context, w crew, next order) (a answer) {
	var err error
	switch next.Do {
	case "connect":
		var c Connects
		c, err = w.connect(ctx)
		a.Connects = &c
	case "start":
		err = w.start()
	case "run":
		err = w.run(ctx, next.For)
	case "measure":
		err = w.measure(next.On)
	case "drain":
		a.Sent, err = w.drain(ctx)
	case "finish":
		a.Results, err = w.finish(next.Sent)
	default:
		err = fmt.Errorf("order %q is not known", next.Do)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return a
}

// processes is a crew of worker processes.
type processes struct {
	cancel  context.CancelFunc
	workers []*process
}

// A process is one worker process.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// newProcesses starts the workers of o.
func newProcesses(ctx context.Context, o *Options) (crew, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	team := &processes{cancel: cancel}
	for i := range o.Processes {
		p, err := startProcess(ctx, program, fmt.Sprintf("%d %s", i, o.Run))
		if err != nil {
			team.close()
			return nil, fmt.Errorf("start worker %d: %w", i, err)
		}
		team.workers = append(team.workers, p)
	}
	return team, nil
}

func startProcess(ctx context.Context, program, mark string) (*process, error) {
	cmd := exec.CommandContext(ctx, program, os.Args[1:]...)
	cmd.Env = append(os.Environ(), workerEnv+"="+mark)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = closePatience
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, maxLine)
	return &process{cmd: cmd, in: in, out: lines}, nil
}

// all gives every worker an order and then waits for all answers.
func (ps *processes) all(next order) ([]answer, error) {
	text, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("order %s: %w", next.Do, err)
	}
	for i, p := range ps.workers {
		if _, err := p.in.Write(append(text, '\n')); err != nil {
			return nil, fmt.Errorf("worker %d: order %s: %w", i, next.Do, err)
		}
	}
	answers := make([]answer, len(ps.workers))
	var faults []error
	for i, p := range ps.workers {
		switch {
		case !p.out.Scan():
			faults = append(faults, fmt.Errorf("worker %d ended during %s (%v)", i, next.Do, p.out.Err()))
		case json.Unmarshal(p.out.Bytes(), &answers[i]) != nil:
			faults = append(faults, fmt.Errorf("worker %d: its answer to %s is not understood", i, next.Do))
		case answers[i].Error != "":
			faults = append(faults, fmt.Errorf("worker %d: %s", i, answers[i].Error))
		}
	}
	return answers, errors.Join(faults...)
}

func (ps *processes) connect(context.Context) (Connects, error) {
	answers, err := ps.all(order{Do: "connect"})
	if err != nil {
		return Connects{}, err
	}
	var sum *Connects
	for _, a := range answers {
		switch {
		case a.Connects == nil || a.Connects.Latency == nil:
			return Connects{}, errors.New("a worker's answer to connect is empty")
		case sum == nil:
			sum = a.Connects
		default:
			sum.merge(a.Connects)
		}
	}
	return *sum, nil
}

func (ps *processes) start() error { _, err := ps.all(order{Do: "start"}); return err }

func (ps *processes) run(_ context.Context, d time.Duration) error {
	_, err := ps.all(order{Do: "run", For: d})
	return err
}

func (ps *processes) measure(on bool) error {
	_, err := ps.all(order{Do: "measure", On: on})
	return err
}

func (ps *processes) drain(context.Context) ([]map[uint32]uint32, error) {
	answers, err := ps.all(order{Do: "drain"})
	if err != nil {
		return nil, err
	}
	sent := answers[0].Sent
	for _, a := range answers[1:] {
		if len(a.Sent) != len(sent) {
			return nil, errors.New("the workers have different parts")
		}
		for i, bySender := range a.Sent {
			for sender, n := range bySender {
				if sent[i] == nil {
					sent[i] = map[uint32]uint32{}
				}
				sent[i][sender] += n
			}
		}
	}
	return sent, nil
}

func (ps *processes) finish(sent []map[uint32]uint32) ([]PartResult, error) {
	answers, err := ps.all(order{Do: "finish", Sent: sent})
	if err != nil {
		return nil, err
	}
	sum := answers[0].Results
	for _, a := range answers[1:] {
		if len(a.Results) != len(sum) {
			return nil, errors.New("the workers have different parts")
		}
		for i := range sum {
			sum[i].merge(&a.Results[i])
		}
	}
	return sum, nil
}

// rest waits: the workers serve their connections by themselves.
func (ps *processes) rest() error {
	time.Sleep(10 * time.Millisecond)
	return nil
}

func (ps *processes) pids() (out []int) {
	for _, p := range ps.workers {
		out = append(out, p.cmd.Process.Pid)
	}
	return out
}

// close ends the workers: those that do not go when their orders end are killed.
func (ps *processes) close() {
	for _, p := range ps.workers {
		_ = p.in.Close()
	}
	kill := time.AfterFunc(closePatience, ps.cancel)
	defer kill.Stop()
	for _, p := range ps.workers {
		_ = p.cmd.Wait()
	}
	ps.cancel()
}
