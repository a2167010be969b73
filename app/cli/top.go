package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"agentnet/app"
	"agentnet/app/wire"
)

// topCommand is `agentnet top`.
type topCommand struct {
	dataFlag
	URL      string        `placeholder:"URL" help:"Base address of the relay (AGENTNET_URL). Default: what the relay on the data directory noted there, else http://127.0.0.1:8080."`
	Token    string        `placeholder:"TOKEN" help:"Token with the role viewer; agents are shown that it may send to. Better given as AGENTNET_TOKEN."`
	CA       string        `name:"ca" placeholder:"FILE" help:"PEM file with the certificate authority of the relay, when it is a private one."`
	Interval time.Duration `default:"1s" help:"Time between two readings."`
	Count    int           `default:"0" help:"End after so many readings. 0: go on until q, or until it is interrupted."`
	Sort     string        `default:"queue" enum:"queue,name,active,sessions" help:"Order of the agents: ${enum}."`
	Reverse  bool          `help:"The other way round."`
	Plain    bool          `help:"One line a reading, as where the output is no terminal."`
}

// A reading is what the relay told at one time.
type reading struct {
	at     time.Time
	stats  topStats
	agents []wire.AgentInfo
	more   bool // there are more agents than were asked for
	nodes  []topNode
}

// topStats is of /v1/stats what is shown.
type topStats struct {
	Node, Region, Version, Level string
	StartedMS                    int64 `json:"started_ms"`
	TimeMS                       int64 `json:"time_ms"`
	Draining                     bool
	Gauges                       struct {
		Connections, Sessions, Resumable, Agents, Channels, Subscriptions, Requests int
		QueueFrames                                                                 int64 `json:"queue_frames"`
		QueueBytes                                                                  int64 `json:"queue_bytes"`
		MailboxMessages                                                             int64 `json:"mailbox_messages"`
	}
	Counters struct {
		BytesIn   uint64 `json:"bytes_in"`
		BytesOut  uint64 `json:"bytes_out"`
		Messages  uint64
		Delivered uint64
		Gaps      uint64
		Dropped   map[string]uint64
		Refused   map[string]uint64
		Errors    map[string]uint64
	}
	Delivery struct {
		P50MS float64 `json:"p50_ms"`
		P95MS float64 `json:"p95_ms"`
		P99MS float64 `json:"p99_ms"`
	}
}

// topNode is of /v1/nodes what is shown.
type topNode struct {
	Node, Region, State string
	Self, Leader        bool
	Connections         int
	CPU, Memory         float64
	MessagesPerS        float64 `json:"messages_per_s"`
	RTTMS               float64 `json:"rtt_ms"`
}

// topAgents bounds the agents that are asked for.
const topAgents = 1000

// Run shows readings until it is told to end.
func (c *topCommand) Run(ctx context.Context, env *Env) error {
	if c.Interval < 100*time.Millisecond || c.Interval > time.Hour {
		return usagef("--interval: want 100ms to 1h")
	}
	if c.Token == "" {
		return usagef("no token: set AGENTNET_TOKEN, made with \"%s token create --role viewer --send '**'\"", env.Program)
	}
	source, err := c.source(env)
	if err != nil {
		return err
	}
	view := &topView{sort: c.Sort, reverse: c.Reverse}
	if view.last, err = source.read(ctx); err != nil {
		return err
	}
	if file, ok := env.Stdin.(*os.File); ok && env.Terminal && !c.Plain {
		if screen, err := openScreen(file, env.Stdout); err == nil {
			defer screen.close()
			return c.watch(ctx, view, source, screen)
		}
	}
	return c.lines(ctx, env.Stdout, view, source)
}

// lines prints a line for each reading.
func (c *topCommand) lines(ctx context.Context, out io.Writer, view *topView, source *topSource) error {
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for n := 0; c.Count == 0 || n < c.Count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := source.read(ctx)
		if err != nil {
			return err
		}
		view.take(now)
		if _, err := fmt.Fprintln(out, view.line()); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return nil
}

// watch draws the screen after each reading and each key. A reading that fails is
// told on the screen and tried again: the relay may be restarting.
func (c *topCommand) watch(ctx context.Context, view *topView, source *topSource, screen *screen) error {
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	for n := 1; ; {
		width, height := screen.size()
		if err := screen.draw(view.draw(width, height)); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		if c.Count > 0 && n >= c.Count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case key, ok := <-screen.keys:
			if !ok || !view.press(key) {
				return nil
			}
		case <-tick.C:
			n++
			now, err := source.read(ctx)
			if view.fault = err; err == nil {
				view.take(now)
			}
		}
	}
}

// A topSource asks one relay.
type topSource struct {
	base, token string
	client      *http.Client
}

// source decides whom to ask. The token is sent without a verified certificate only
// to this machine itself.
func (c *topCommand) source(env *Env) (*topSource, error) {
	config := &tls.Config{}
	base := c.URL
	if base == "" {
		base = "http://127.0.0.1:8080"
		if r, err := app.ReadRecord(c.dir(env)); err == nil {
			base, config.InsecureSkipVerify = r.URL, strings.HasPrefix(r.URL, "https://127.0.0.1:")
		}
	}
	if c.CA != "" {
		pool, err := readCA(c.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
		return nil, usagef("--url: %q must begin with http:// or https://", base)
	}
	return &topSource{base: strings.TrimSuffix(base, "/"), token: c.Token,
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}}, nil
}

func (s *topSource) read(ctx context.Context) (*reading, error) {
	r := &reading{at: time.Now()}
	if err := s.get(ctx, "/v1/stats", &r.stats); err != nil {
		return nil, err
	}
	var list struct {
		Agents []wire.AgentInfo
		Next   string
	}
	if err := s.get(ctx, fmt.Sprintf("/v1/agents?limit=%d", topAgents), &list); err != nil {
		return nil, err
	}
	r.agents, r.more = list.Agents, list.Next != ""
	var fleet struct{ Nodes []topNode }
	if err := s.get(ctx, "/v1/nodes", &fleet); err != nil {
		return nil, err
	}
	r.nodes = fleet.Nodes
	return r, nil
}

func (s *topSource) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return usagef("%v", err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, 16<<20)
	if resp.StatusCode != http.StatusOK {
		var problem struct {
			Code   wire.Code
			Detail string
		}
		if json.NewDecoder(body).Decode(&problem) == nil && problem.Code != "" {
			return fmt.Errorf("%s%s: %w", s.base, path, &wire.Error{Code: problem.Code, Message: problem.Detail})
		}
		return fmt.Errorf("%s%s answers %s", s.base, path, resp.Status)
	}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return errors.Join(fmt.Errorf("%s%s is no answer of a relay", s.base, path), err)
	}
	return nil
}
