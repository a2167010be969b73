package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"agentnet/app/egress"
)

// Config is what a Notifier works by.
type Config struct {
	Channels []Channel
	Allow    []netip.Prefix // networks that are closed by default and are opened
	From     string         // the deployment or node that speaks
	Template string         // of texts; empty: the default one
	Logger   *slog.Logger   // required

	// Hold waits, within most, while the node has more urgent work than telling
	// people of warnings. Critical messages and tests never wait. Nil: no wait.
	Hold func(ctx context.Context, most time.Duration) error
	// Firing lists what goes on, for reminders; it is empty where others tell of it,
	// such as on a node that does not lead. Nil: what the messages said.
	Firing func() []Item
	// Log keeps deliveries beyond the last 1000. It must return soon. May be nil.
	Log func(Delivery)
	// Past are deliveries from before the start, the newest first, to go on with.
	Past []Delivery

	// senders takes the place of what the kinds of the channels name, in tests.
	senders map[string]sender
}

// Bounds of a Notifier.
const (
	MaxChannels = 32
	maxQueue    = 100  // messages waiting for one channel
	maxFiring   = 4096 // alerts remembered for reminders
	holdMost    = time.Minute
	sendTime    = 40 * time.Second // bounds one try
)

// A Notifier has the channels. Its methods may be called concurrently.
type Notifier struct {
	cfg      Config
	log      *slog.Logger
	channels []*outlet
	client   *egress.Client
	record   *record

	mu     sync.Mutex
	firing map[string]Item
	last   uint64 // number of the last message
}

// New checks the configuration; every fault is named.
func New(cfg Config) (*Notifier, error) {
	if cfg.Logger == nil {
		return nil, errors.New("notify: no Logger is set")
	}
	var errs []error
	if len(cfg.Channels) > MaxChannels {
		errs = append(errs, fmt.Errorf("%d channels given, want at most %d", len(cfg.Channels), MaxChannels))
	}
	text, err := NewText(cfg.Template)
	errs = append(errs, err)
	rules := egress.Rules{Allow: cfg.Allow}
	n := &Notifier{cfg: cfg, log: cfg.Logger, client: egress.New(egress.Config{Rules: rules}), record: &record{log: cfg.Log}, firing: make(map[string]Item)}
	n.record.recall(cfg.Past)
	n.cfg.Past = nil
	seen := make(map[string]bool)
	for _, c := range cfg.Channels {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("channel %.80q: %w", c.Name, err))
		}
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("channel %.80q: given twice", c.Name))
		}
		seen[c.Name] = true
		c.setDefaults()
		o := &outlet{n: n, c: c, wake: make(chan struct{}, 1), backoff: egress.Backoff{First: 2 * time.Second, Most: time.Minute}}
		o.bucket = egress.Bucket{Every: c.Every, Burst: c.Burst}
		o.sender = c.sender(n.client, rules, text)
		if s := cfg.senders[c.Name]; s != nil {
			o.sender = s
		}
		n.channels = append(n.channels, o)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	return n, nil
}

// Run delivers until ctx ends. What still waits then is recorded as dropped.
func (n *Notifier) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, o := range n.channels {
		wg.Go(func() { o.run(ctx) })
	}
	wg.Wait()
	n.client.Close()
	return nil
}

// ErrFull is wrapped when a channel had to drop something for a message.
var ErrFull = errors.New("too many messages wait")

// Send queues a message on every channel that takes it. It does not wait. The
// error names the channels that had to drop something for it.
func (n *Notifier) Send(m Message) error {
	m.ID, m.From = n.id(), cmp.Or(m.From, n.cfg.From)
	if m.At.IsZero() {
		m.At = time.Now()
	}
	m.settle()
	n.remember(&m)
	var errs []error
	for _, o := range n.channels {
		if o.c.takes(&m) {
			errs = append(errs, o.put(m))
		}
	}
	return errors.Join(errs...)
}

// id names a message, unique to this node's life.
func (n *Notifier) id() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	return fmt.Sprintf("%x-%d", time.Now().UnixMilli(), n.last)
}

// remember keeps what goes on, for reminders.
func (n *Notifier) remember(m *Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, it := range m.Items {
		if it.Resolved {
			delete(n.firing, it.Key)
		} else if _, known := n.firing[it.Key]; known || len(n.firing) < maxFiring {
			n.firing[it.Key] = it
		}
	}
}

// reminder is a message of all that goes on; false when nothing does.
func (n *Notifier) reminder(now time.Time, least Severity) (Message, bool) {
	items := slices.DeleteFunc(n.goingOn(), func(it Item) bool { return it.Severity < least })
	if len(items) == 0 {
		return Message{}, false
	}
	m := Message{At: now, Group: "reminder", Reminder: true, Items: items, ID: n.id(), From: n.cfg.From}
	m.settle()
	return m, true
}

// goingOn lists what goes on.
func (n *Notifier) goingOn() (items []Item) {
	if n.cfg.Firing != nil {
		return n.cfg.Firing()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(n.firing)) {
		items = append(items, n.firing[key])
	}
	return items
}

// ErrNoChannel is returned for a name that no channel has.
var ErrNoChannel = errors.New("no such channel")

// Test sends a test message now, past queue and rate, once, and returns what came
// of it with the whole answer.
func (n *Notifier) Test(ctx context.Context, name string) (Delivery, error) {
	i := slices.IndexFunc(n.channels, func(o *outlet) bool { return o.c.Name == name })
	if i < 0 {
		return Delivery{}, fmt.Errorf("%.80q: %w", name, ErrNoChannel)
	}
	m := TestMessage(n.cfg.From, time.Now())
	m.ID = n.id()
	m.settle()
	return n.channels[i].try(ctx, &m, 1), nil
}

// A Status is what there is to know of one channel.
type Status struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	Target   string    `json:"target"` // host only
	Least    Severity  `json:"least"`
	Waiting  int       `json:"waiting"`
	Dropped  uint64    `json:"dropped"`
	Resting  bool      `json:"resting"` // its breaker is open
	Until    time.Time `json:"until,omitzero"`
	Fault    string    `json:"fault,omitempty"` // the last one since it worked
	LastSent time.Time `json:"last_sent,omitzero"`
}

// Channels lists the channels in the order of the configuration.
func (n *Notifier) Channels() []Status {
	out := make([]Status, 0, len(n.channels))
	for _, o := range n.channels {
		out = append(out, o.status(time.Now()))
	}
	return out
}

// Deliveries lists the last deliveries, the newest first.
func (n *Notifier) Deliveries(limit int) []Delivery { return n.record.list(limit) }

// Counts are the deliveries so far by channel and outcome.
func (n *Notifier) Counts() map[string]map[Outcome]uint64 { return n.record.totals() }
