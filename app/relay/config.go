package relay

import (
	"log/slog"
	"time"

	"agentnet/app/relay/limit"
	"agentnet/app/relay/mailbox"
	"agentnet/app/relay/overload"
	"agentnet/app/relay/queue"
	"agentnet/app/wire"
)

// Config is what a Hub is made of. Zero fields get the defaults stated at each.
type Config struct {
	Node    string // default "n1"
	Region  string // default "local"
	Version string

	Authorizer Authorizer // required
	Journal    Journal    // nil: parked messages live in memory only
	Broker     Broker     // nil: history ends with the recent window
	// Fleet makes the view of the other nodes, and tells the relay about them from
	// then on. nil: the node is alone.
	Fleet  func(Peers) Fleet
	Logger *slog.Logger

	Limits wire.Limits // default wire.DefaultLimits

	Resume       time.Duration // how long a session outlives its socket; default 2 min
	ReplayFrames int           // unacked direct frames kept a session; default 1024
	ReplayBytes  int           // and their bytes; default 1 MiB
	Heartbeat    time.Duration // first interval; default 25 s
	HeartbeatMin time.Duration // for bad connections; default 10 s
	HeartbeatMax time.Duration // for good ones; default 60 s
	AuthTimeout  time.Duration // from the upgrade to `connect`; default 5 s

	Queue     queue.Limits  // frames waiting for one socket; default 1024 and 1 MiB
	SlowAfter time.Duration // a socket that took nothing for so long is cut; default 10 s

	MessageRate limit.Rate // an agent's accepted messages; default no limit
	ByteRate    limit.Rate // an agent's bytes; default no limit
	Addresses   limit.AddressLimits
	Gate        limit.GateLimits

	Channels    []ChannelRule // the first match counts; the last resort is DefaultRule
	MaxChannels int           // default 100,000

	Mailbox mailbox.Limits

	DedupWindow time.Duration // default 2 min, as the protocol promises
	DedupKeys   int           // remembered at most; default 1,000,000

	Overload    overload.Config
	QueueBytes  int64                      // bound for Signals.Queue; default 256 MiB
	MemoryLimit func() (used, limit int64) // nil: memory is no signal
}

// A ChannelRule says how the channels that match behave.
type ChannelRule struct {
	Match  wire.Globs
	Policy queue.Policy // for a subscriber whose queue is full; default DropOldest
	Recent RecentLimits // the window in memory
	Keep   Keep         // what the Broker stores beyond it; zero: nothing
}

// RecentLimits bound the window of a channel that is kept in memory.
type RecentLimits struct {
	Count int           // default 256
	Bytes int           // default 256 KiB
	Age   time.Duration // default 5 min
}

func (c *Config) setDefaults() {
	def := func(p *time.Duration, d time.Duration) {
		if *p <= 0 {
			*p = d
		}
	}
	num := func(p *int, n int) {
		if *p <= 0 {
			*p = n
		}
	}
	if c.Node == "" {
		c.Node = "n1"
	}
	if c.Region == "" {
		c.Region = "local"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.setLimits()
	def(&c.Resume, 2*time.Minute)
	num(&c.ReplayFrames, 1024)
	num(&c.ReplayBytes, 1<<20)
	def(&c.Heartbeat, 25*time.Second)
	def(&c.HeartbeatMin, 10*time.Second)
	def(&c.HeartbeatMax, 60*time.Second)
	def(&c.AuthTimeout, 5*time.Second)
	num(&c.Queue.Items, 1024)
	num(&c.Queue.Bytes, 1<<20)
	def(&c.SlowAfter, 10*time.Second)
	num(&c.MaxChannels, 100_000)
	def(&c.DedupWindow, 2*time.Minute)
	num(&c.DedupKeys, 1_000_000)
	if c.QueueBytes <= 0 {
		c.QueueBytes = 256 << 20
	}
	for i := range c.Channels {
		c.Channels[i].setDefaults()
	}
}

// setLimits fills in each limit that was left out: none of them may be unbounded,
// but the rates.
func (c *Config) setLimits() {
	std, l := wire.DefaultLimits(), &c.Limits
	for p, v := range map[*int]int{&l.FrameBytes: std.FrameBytes, &l.MessageBytes: std.MessageBytes, &l.Subscriptions: std.Subscriptions,
		&l.HeaderCount: std.HeaderCount, &l.HeaderBytes: std.HeaderBytes} {
		if *p <= 0 {
			*p = v
		}
	}
	for p, v := range map[*int64]int64{&l.MaxTTLMS: std.MaxTTLMS, &l.MaxTimeoutMS: std.MaxTimeoutMS} {
		if *p <= 0 {
			*p = v
		}
	}
}

func (r *ChannelRule) setDefaults() {
	if r.Recent.Count <= 0 {
		r.Recent.Count = 256
	}
	if r.Recent.Bytes <= 0 {
		r.Recent.Bytes = 256 << 10
	}
	if r.Recent.Age <= 0 {
		r.Recent.Age = 5 * time.Minute
	}
}
