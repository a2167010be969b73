package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
)

// The modes of the load generator.
const (
	ModeFanout  = "fanout"  // publishers to a channel with many subscribers
	ModeDirect  = "direct"  // pairs that send each other messages
	ModeRequest = "request" // pairs that ask and answer
	ModeIdle    = "idle"    // connections that do nothing
	ModeConnect = "connect" // a storm of new connections
	ModeSlow    = "slow"    // fan-out with further subscribers that never read
	ModeMixed   = "mixed"   // fan-out, direct, requests and idling at once
)

// Options say what load to make. Where 0 stands for a default, the default
// depends on the mode; Resolve fills it in.
type Options struct {
	Mode string `arg:"" optional:"" default:"fanout" enum:"fanout,direct,request,idle,connect,slow,mixed" help:"Load: ${enum}."`

	URL   string `env:"AGENTNET_URL" default:"http://127.0.0.1:8080" help:"Base URL of the relay (http or ws; plain TCP). Several nodes of one relay with commas between them: connections are spread over them, and the two of a pair are on different ones. A connection that a node sends elsewhere goes there and resumes."`
	Token string `env:"AGENTNET_TOKEN" help:"Token that covers agents and channels below bench/**. Better given by the environment than as a flag, which other users can see."`

	Encoding    string `default:"json" enum:"json,protobuf" help:"Frames as ${enum}."`
	Connections int    `short:"n" help:"Subscribers (fanout, slow: 1000), agents (idle, connect: 10000; mixed: 1000 idle ones beside the others)."`
	Pairs       int    `help:"Pairs of agents (direct, request: 200; mixed: 50 of each)."`
	Publishers  int    `default:"1" help:"Publishers of a fan-out."`
	Channels    int    `default:"1" help:"Channels that the subscribers of a fan-out are spread over."`
	SlowReaders int    `help:"Subscribers that never read (slow: 100)."`
	Subscribe   bool   `help:"idle, connect: each agent also subscribes to a channel of its own."`

	Rate        float64 `help:"Publications a second (fanout; 0: as fast as they are delivered; slow: 1000, mixed: 50), or messages a second (direct, request; 0: ping-pong)."`
	DirectRate  float64 `help:"mixed: direct messages a second (500)."`
	RequestRate float64 `help:"mixed: requests a second (100)."`
	Window      int     `default:"64" help:"Publications of one fan-out under way at once when no rate is given."`
	Depth       int     `default:"1" help:"Messages of one pair under way at once when no rate is given."`
	Size        int     `help:"Payload bytes (128; slow: 4096)."`
	Answers     bool    `default:"true" negatable:"" help:"Ask for the answer to each command."`

	Duration    time.Duration `short:"d" default:"10s" help:"How long to measure."`
	Warmup      time.Duration `default:"2s" help:"Load before measuring starts."`
	Settle      time.Duration `default:"1s" help:"Pause after connecting, before the server's memory is read."`
	Timeout     time.Duration `default:"60s" help:"Longest wait for all connections to be ready."`
	Concurrency int           `short:"c" default:"200" help:"Connections that are being opened at once."`
	Processes   int           `default:"1" help:"Worker processes; more than one when a process may not open enough files, or one core is not enough."`
	Sources     int           `help:"Source addresses 127.0.0.1, 127.0.0.2 … on a loopback target (one for each 10000 connections)."`

	PID  []int `help:"Process ids of the server's nodes, for their CPU and memory; found by the listening ports when they run here."`
	With []int `help:"Process ids of what the nodes use, such as their Redis: its CPU and memory are told beside theirs."`
	JSON bool  `help:"Print the report as JSON."`

	// NewDialect makes the dialect of each worker; nil is AgentNet by Encoding and
	// Token.
	NewDialect func() (Dialect, error) `kong:"-" json:"-"`
	// Run names this run: agents are bench/<Run>-…, channels bench/<Run>/….
	Run string `kong:"-"`
}

// defaults are what 0 stands for in each mode.
var defaults = map[string]Options{
	ModeFanout:  {Connections: 1000, Size: 128},
	ModeDirect:  {Pairs: 200, Size: 128},
	ModeRequest: {Pairs: 200, Size: 128},
	ModeIdle:    {Connections: 10000, Size: 128},
	ModeConnect: {Connections: 10000, Size: 128},
	ModeSlow:    {Connections: 1000, SlowReaders: 100, Rate: 1000, Size: 4096},
	ModeMixed:   {Connections: 1000, Pairs: 50, Rate: 50, DirectRate: 500, RequestRate: 100, Size: 128},
}

// Bounds of what one run may ask for; far above what one machine can hold.
const (
	maxConnections = 2_000_000
	maxProcesses   = 256
	maxRate        = 10_000_000
	maxSize        = 1 << 20
	maxWindow      = 1 << 20
	maxChannels    = 1 << 20
	maxPublishers  = 10_000
	maxSources     = 250
)

// Resolve fills in the defaults and reports all faults at once.
func (o *Options) Resolve() error {
	if o.Mode == "" {
		o.Mode = ModeFanout
	}
	base, known := defaults[o.Mode]
	if !known {
		return fmt.Errorf("mode %q: want fanout, direct, request, idle, connect, slow or mixed", o.Mode)
	}
	fill(&o.URL, "http://127.0.0.1:8080")
	fill(&o.Encoding, "json")
	fill(&o.Connections, base.Connections)
	fill(&o.Pairs, base.Pairs)
	fill(&o.Publishers, 1)
	fill(&o.Channels, 1)
	fill(&o.SlowReaders, base.SlowReaders)
	fill(&o.Rate, base.Rate)
	fill(&o.DirectRate, base.DirectRate)
	fill(&o.RequestRate, base.RequestRate)
	fill(&o.Window, 64)
	fill(&o.Depth, 1)
	fill(&o.Size, base.Size)
	fill(&o.Duration, 10*time.Second)
	fill(&o.Timeout, time.Minute)
	fill(&o.Concurrency, 200)
	fill(&o.Processes, 1)
	fill(&o.Sources, min(o.total()/10_000+1, maxSources))
	return o.check()
}

// urls are the nodes.
func (o *Options) urls() []string { return strings.Split(o.URL, ",") }

// nodeOf is the node of connection number i.
func (o *Options) nodeOf(i int) int { return i % (strings.Count(o.URL, ",") + 1) }

// nodeOfPair is the node of agent number i, of pair i/2: the next one for the other
// of the two.
func (o *Options) nodeOfPair(i int) int { return o.nodeOf(i/2 + i%2) }

// total is how many connections the whole run opens.
func (o *Options) total() int {
	switch o.Mode {
	case ModeDirect, ModeRequest:
		return 2 * o.Pairs
	case ModeFanout:
		return o.Connections + o.Publishers
	case ModeSlow:
		return o.Connections + o.Publishers + o.SlowReaders
	case ModeMixed:
		return 2*o.Connections + o.Publishers + 4*o.Pairs
	}
	return o.Connections
}

// check reports every value that is out of its bounds.
func (o *Options) check() error {
	var faults []error
	within := func(flag string, value, low, high float64) {
		if !(value >= low && value <= high) {
			faults = append(faults, fmt.Errorf("--%s: %v is not within %v and %v", flag, value, low, high))
		}
	}
	within("connections", float64(o.Connections), 0, maxConnections)
	within("pairs", float64(o.Pairs), 0, maxConnections/2)
	within("publishers", float64(o.Publishers), 1, maxPublishers)
	within("channels", float64(o.Channels), 1, maxChannels)
	within("slow-readers", float64(o.SlowReaders), 0, maxConnections)
	within("rate", o.Rate, 0, maxRate)
	within("direct-rate", o.DirectRate, 0, maxRate)
	within("request-rate", o.RequestRate, 0, maxRate)
	within("window", float64(o.Window), 1, maxWindow)
	within("depth", float64(o.Depth), 1, maxWindow)
	within("size", float64(o.Size), float64(MinPayload), maxSize)
	within("concurrency", float64(o.Concurrency), 1, maxConnections)
	within("processes", float64(o.Processes), 1, maxProcesses)
	within("sources", float64(o.Sources), 1, maxSources)
	within("duration", o.Duration.Seconds(), 0.001, 7*24*3600)
	within("warmup", o.Warmup.Seconds(), 0, 24*3600)
	within("settle", o.Settle.Seconds(), 0, 3600)
	within("timeout", o.Timeout.Seconds(), 0.001, 24*3600)
	if o.Encoding != "json" && o.Encoding != "protobuf" {
		faults = append(faults, fmt.Errorf("--encoding: %q is neither json nor protobuf", o.Encoding))
	}
	for _, base := range o.urls() {
		if _, err := newTarget(base, "/", nil); err != nil {
			faults = append(faults, fmt.Errorf("--url: %w", err))
		}
	}
	return errors.Join(faults...)
}

// fill sets *value to fallback where it is zero.
func fill[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// Command is `agentnet bench`.
type Command struct {
	Options   `embed:""`
	Calibrate bool `help:"Measure what a connection takes of memory and a message of the processors, and tell the server: its scaling then counts with that. Needs a token with the role admin."`
}

// ErrPlatform is what Run answers where the generator cannot run.
var ErrPlatform = errors.New("the load generator needs Linux (epoll, /proc): run it there against this server's address")

// Run makes the load and prints the report. It ends early, with a report of what
// was measured so far left out, when ctx does.
func (c *Command) Run(ctx context.Context, stdout io.Writer) error {
	if runtime.GOOS != "linux" {
		return ErrPlatform
	}
	if IsWorker() {
		return RunWorker(ctx, c.Options, os.Stdin, stdout)
	}
	if c.Calibrate {
		return c.calibrate(ctx, stdout)
	}
	_, err := Run(ctx, c.Options, stdout)
	return err
}
