package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"encoding/json"

	"agentnet/app/client"
)

// A Node is the relay that a drill is about.
type Node interface {
	URL() string
	// Token may act as any agent below drill/, send, publish and subscribe there, and
	// read /v1/stats.
	Token() string
	// Dir is the data directory; "" for a node that is not ours.
	Dir() string
	// Kill ends the process at once, as kill -9 does, and Start starts it again on
	// the same address and data. Both fail on a node that is not ours.
	Kill() error
	Start(ctx context.Context) error
}

// A Place starts nodes.
type Place interface {
	// Node starts a node with these flags of serve, on an empty data directory or on
	// dir. What it starts ends with the place.
	Node(ctx context.Context, dir string, flags ...string) (Node, error)
}

// Options say how a drill is run.
type Options struct {
	Place Place
	// Against is a node that runs already. Nil: the drill starts its own.
	Against Node
	// Crowd is how many clients take part in a storm. Defaults to 200.
	Crowd int
	// Span is how long a fault lasts. Defaults to 10 s.
	Span time.Duration
	// Scratch is a directory for files that end with the drill.
	Scratch string
	// Say gets a line for each step. May be nil.
	Say func(format string, args ...any)
}

// A Drill is one fault.
type Drill struct {
	Name    string
	Breaks  string
	Promise string
	Runbook string
	Own     bool // it needs a node of its own
	run     func(ctx context.Context, s *stage) error
}

// List names the drills.
func List() []Drill {
	return []Drill{
		{"redis-pause", "Redis stops answering", "local messages go on, no socket is cut, history works again afterwards", "redis-down", true, redisPause},
		{"connection-storm", "all clients are cut and return at once", "all are back, and nothing is lost or comes twice", "reconnect-storm", false, connectionStorm},
		{"slow-readers", "clients stop reading", "others feel nothing, memory stays bounded, the slow are closed with 4002 and come back", "slow-consumers", true, slowReaders},
		{"overload", "twice as much as the node takes", "direct critical messages arrive; nothing is refused silently", "capacity", false, overload},
		{"kill-restart", "kill -9 of the node, and a restart", "nothing acknowledged is lost; clients come back by themselves", "node-lost", true, killRestart},
		{"node-loss", "kill -9 of one of three nodes that are one relay", "its clients are at the others within 10 s and told of what is lost, nothing comes twice, the others feel nothing, an alert fires", "node-lost", true, nodeLoss},
		{"region-loss", "one of two linked regions is cut off", "its clients are in the other region within 10 s and told of what is lost, nothing comes twice, the other region feels nothing, an alert fires", "region-lost", true, regionLoss},
		{"disk-full", "the data directory cannot be written", "connected agents go on, parking is refused and says so, it heals by itself", "disk-full", true, diskFull},
	}
}

// Get returns a drill by its name.
func Get(name string) (Drill, bool) {
	all := List()
	i := slices.IndexFunc(all, func(d Drill) bool { return d.Name == name })
	if i < 0 {
		return Drill{}, false
	}
	return all[i], true
}

// A Check is one thing that must hold.
type Check struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	OK   bool   `json:"ok"`
}

// A Fact is one thing that was measured.
type Fact struct {
	What  string `json:"what"`
	Value string `json:"value"`
}

// A Result is what came of a drill.
type Result struct {
	Drill   string        `json:"drill"`
	Breaks  string        `json:"breaks"`
	Promise string        `json:"promise"`
	Runbook string        `json:"runbook"`
	Node    string        `json:"node"`
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"`
	Passed  bool          `json:"passed"`
	NotRun  string        `json:"not_run,omitempty"` // why it could not be run here
	Fault   string        `json:"fault,omitempty"`   // what kept it from its end
	Checks  []Check       `json:"checks"`
	Facts   []Fact        `json:"facts"`
}

// ErrNotHere marks a drill that cannot be run on this machine or node.
var ErrNotHere = errors.New("cannot be run here")

// longest bounds one drill.
const longest = 5 * time.Minute

// Run runs a drill. It always returns a Result; a drill that failed is no error.
func (d Drill) Run(ctx context.Context, o Options) Result {
	if o.Crowd <= 0 {
		o.Crowd = 200
	}
	if o.Span <= 0 {
		o.Span = 10 * time.Second
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	began := time.Now()
	r := Result{Drill: d.Name, Breaks: d.Breaks, Promise: d.Promise, Runbook: d.Runbook, Began: began.UTC()}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	s := &stage{Options: o, result: &r}
	err := d.start(ctx, s)
	s.clear()
	r.Took = time.Since(began)
	switch {
	case errors.Is(err, ErrNotHere):
		r.NotRun = err.Error()
	case err != nil:
		r.Fault = err.Error()
	}
	r.Passed = err == nil && len(r.Checks) > 0 && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
	return r
}

func (d Drill) start(ctx context.Context, s *stage) error {
	if d.Own && s.Against != nil {
		return fmt.Errorf("%w: it must be able to break the node, and needs one of its own: leave --against out", ErrNotHere)
	}
	return d.run(ctx, s)
}

// A stage is one run of a drill.
type stage struct {
	Options
	result *Result
	ends   []func()
}

// clear ends what was started, the last first.
func (s *stage) clear() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
	s.ends = nil
}

func (s *stage) onEnd(f func()) { s.ends = append(s.ends, f) }

// check notes one thing that must hold.
func (s *stage) check(what, want string, ok bool, format string, args ...any) {
	c := Check{What: what, Want: want, Got: fmt.Sprintf(format, args...), OK: ok}
	s.result.Checks = append(s.result.Checks, c)
	mark := "ok  "
	if !ok {
		mark = "FAIL"
	}
	s.Say("%s %s: %s (want %s)", mark, c.What, c.Got, c.Want)
}

func (s *stage) fact(what, format string, args ...any) {
	f := Fact{What: what, Value: fmt.Sprintf(format, args...)}
	s.result.Facts = append(s.result.Facts, f)
	s.Say("     %s: %s", f.What, f.Value)
}

// node is the node under the drill: the one that was named, or one of our own.
func (s *stage) node(ctx context.Context, dir string, flags ...string) (Node, error) {
	if s.Against != nil {
		s.result.Node = s.Against.URL()
		return s.Against, nil
	}
	n, err := s.Place.Node(ctx, dir, flags...)
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	s.result.Node = "a test node of its own"
	return n, nil
}

// dial connects a client as drill/NAME until the drill ends.
func (s *stage) dial(ctx context.Context, n Node, url, name string, change func(*client.Config)) (*client.Client, error) {
	cfg := client.Config{URL: url, Token: n.Token(), Agent: "drill/" + name, Name: "agentnet-drill",
		Backoff: client.Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}, CloseTimeout: time.Second}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect drill/%s: %w", name, err)
	}
	s.onEnd(func() { _ = c.Close() })
	return c, nil
}

// stats is the part of /v1/stats and /readyz that drills look at.
type stats struct {
	Level  string
	Gauges struct {
		Connections int
		QueueBytes  int64 `json:"queue_bytes"`
	}
	Counters struct {
		Closed  map[string]uint64
		Dropped map[string]uint64
	}
}

// ask reads JSON from the node's HTTP API.
func ask(ctx context.Context, n Node, path string, into any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+path, nil)
	if err != nil {
		return 0, fmt.Errorf("ask the node: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+n.Token())
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := web.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, fmt.Errorf("ask the node: %w", err)
	}
	if into == nil {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return resp.StatusCode, fmt.Errorf("%s answers %d and no JSON that we know: %w", path, resp.StatusCode, err)
	}
	return resp.StatusCode, nil
}

// until looks every 50 ms whether something holds, for so long at most, and says
// after how long it did.
func until(ctx context.Context, most time.Duration, holds func() bool) (time.Duration, bool) {
	began := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if holds() {
			return time.Since(began), true
		}
		if time.Since(began) > most {
			return most, false
		}
		select {
		case <-ctx.Done():
			return time.Since(began), false
		case <-tick.C:
		}
	}
}

// rest waits, or less when ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
