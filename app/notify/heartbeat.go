package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"agentnet/app/egress"
)

// HeartbeatConfig is what a Heartbeat works by.
type HeartbeatConfig struct {
	URL    string        // a secret: services give each check an address of its own
	Method string        // GET or POST; defaults to GET
	Every  time.Duration // defaults to 1 min
	Allow  []netip.Prefix
	// Healthy says why the node is not well; nil: it is.
	Healthy func() error
	Logger  *slog.Logger
}

// A Heartbeat calls an address while the node is well. A service outside, such as
// Healthchecks or Uptime Kuma, tells people when the calls stop: it is the one
// alert that a dead node can give.
type Heartbeat struct {
	cfg    HeartbeatConfig
	client *egress.Client

	mu     sync.Mutex
	last   time.Time
	fault  string
	counts map[Outcome]uint64
}

// NewHeartbeat checks the configuration.
func NewHeartbeat(c HeartbeatConfig) (*Heartbeat, error) {
	c.Method, c.Every = cmp.Or(c.Method, "GET"), cmp.Or(c.Every, time.Minute)
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("heartbeat: url: want an address like https://hc.example/ping/…")
	case c.Method != "GET" && c.Method != "POST":
		return nil, fmt.Errorf("heartbeat: method: %.20q is neither GET nor POST", c.Method)
	case c.Every < time.Second || c.Every > 24*time.Hour:
		return nil, fmt.Errorf("heartbeat: every: %v is not between 1 s and 24 h", c.Every)
	case c.Logger == nil || c.Healthy == nil:
		return nil, errors.New("heartbeat: Logger and Healthy must be given")
	}
	return &Heartbeat{cfg: c, client: egress.New(egress.Config{Rules: egress.Rules{Allow: c.Allow}}), counts: make(map[Outcome]uint64)}, nil
}

// heartbeatTries is how often one beat is tried: a lost packet is no dead node.
const heartbeatTries = 3

// Run beats at once and then each Every, until ctx ends.
func (h *Heartbeat) Run(ctx context.Context) error {
	defer h.client.Close()
	ticker := time.NewTicker(h.cfg.Every)
	defer ticker.Stop()
	for {
		h.beat(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *Heartbeat) beat(ctx context.Context) {
	if err := h.cfg.Healthy(); err != nil {
		h.note(Dropped, "kept back: "+err.Error())
		return
	}
	backoff := egress.Backoff{First: min(time.Second, h.cfg.Every/4), Most: h.cfg.Every / 4}
	for try := 1; ctx.Err() == nil; try++ {
		_, err := h.client.Call(ctx, egress.Request{Method: h.cfg.Method, URL: h.cfg.URL})
		switch {
		case err == nil:
			h.note(Sent, "")
			return
		case ctx.Err() != nil:
			return
		case !egress.Retryable(err) || try == heartbeatTries:
			h.note(Failed, err.Error())
			return
		}
		pause(ctx, backoff.Wait(try, err))
	}
}

// note keeps how a beat went, and logs when that changed.
func (h *Heartbeat) note(out Outcome, fault string) {
	h.mu.Lock()
	changed := h.fault != fault
	h.fault = fault
	h.counts[out]++
	if out == Sent {
		h.last = time.Now()
	}
	h.mu.Unlock()
	switch {
	case changed && fault == "":
		h.cfg.Logger.Info("heartbeat is heard again", "target", egress.Host(h.cfg.URL))
	case changed:
		h.cfg.Logger.Warn("heartbeat not sent", "target", egress.Host(h.cfg.URL), "outcome", string(out), "error", egress.Shorten(fault, maxAnswer))
	}
}

// Last is when the last beat arrived, and what is wrong since; "" when nothing is.
func (h *Heartbeat) Last() (at time.Time, fault string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, h.fault
}
