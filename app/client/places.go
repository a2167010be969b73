package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// regionsEvery is how old what is known of the regions may be when the client
	// has to look for another place.
	regionsEvery = time.Minute
	// regionsTimeout bounds the question for them, and the measurement of each.
	regionsTimeout = 2 * time.Second
	// rttAlike is the difference in round trips below which load decides.
	rttAlike = 10 * time.Millisecond
	// placesMax bounds the addresses that a client keeps.
	placesMax = 64
)

// places are the addresses of the WebSocket that may be tried, the best first. They
// are owned by the goroutine that connects.
type places struct {
	given   []string // as configured
	found   []string // as the regions told, before the given ones
	next    int
	last    string // where the last connection was: its session is there
	trying  string
	askedAt time.Time
}

// all are the addresses, the best first.
func (p *places) all() []string {
	out := slices.Clone(p.found)
	for _, a := range p.given {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// choose is where the next attempt goes: what the relay named, then where the
// client was, then all others in turn.
func (p *places) choose(named []string) (address string, rest []string) {
	switch all := p.all(); {
	case len(named) > 0:
		p.trying, rest = named[0], named[1:]
	case p.last != "":
		p.trying, p.last = p.last, ""
	default:
		p.trying = all[p.next%len(all)]
		p.next++
	}
	return p.trying, rest
}

// connected notes that the address which was tried works.
func (p *places) connected() { p.last, p.next = p.trying, 0 }

// rounds is how often all addresses failed after n failed attempts.
func (p *places) rounds(n int) int { return n / max(len(p.all()), 1) }

// socketURLs turns base addresses into those of the WebSocket.
func socketURLs(bases []string) (out []string, err error) {
	for _, b := range bases {
		u, e := socketURL(b)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		out = append(out, u)
	}
	return out, err
}

// A region is one entry of /v1/regions.
type region struct {
	Region      string   `json:"region"`
	Healthy     bool     `json:"healthy"`
	Nodes       int      `json:"nodes"`
	URL         string   `json:"url"`
	Endpoints   []string `json:"endpoints"`
	Connections int      `json:"connections"`

	rtt time.Duration
}

// addresses are where the region is reached, the least loaded node first.
func (r *region) addresses() []string {
	out := slices.Clone(r.Endpoints)
	if r.URL != "" && !slices.Contains(out, r.URL) {
		out = append(out, r.URL)
	}
	return out
}

// locate asks the relay for its regions and orders them: the fastest first, of those
// that are alike the one with more room. What cannot be asked stays as it was.
func (c *Client) locate(ctx context.Context, token string) {
	if !c.cfg.Regions || !c.places.askedAt.IsZero() && time.Since(c.places.askedAt) < regionsEvery {
		return
	}
	c.places.askedAt = time.Now()
	h := c.plainHTTP()
	defer h.CloseIdleConnections()
	var found []region
	for _, address := range c.places.all() {
		list, err := askRegions(ctx, h, address, token)
		if err == nil {
			found = list
			break
		}
		c.cfg.Logger.Info("regions cannot be read", "address", address, "error", err)
	}
	var wg sync.WaitGroup
	for i := range found {
		if r := &found[i]; r.Healthy && len(r.addresses()) > 0 {
			wg.Go(func() { r.rtt = measure(ctx, h, r.addresses()[0]) })
		}
	}
	wg.Wait()
	found = slices.DeleteFunc(found, func(r region) bool { return r.rtt == 0 })
	slices.SortStableFunc(found, faster)
	c.places.found, c.places.next = nil, 0
	for _, r := range found {
		for _, base := range r.addresses() {
			// The token goes there: never over a weaker scheme than the first address.
			u, err := socketURL(base)
			if err == nil && (u[:4] == "wss:" || c.base[:4] != "wss:") && len(c.places.found) < placesMax && !slices.Contains(c.places.found, u) {
				c.places.found = append(c.places.found, u)
			}
		}
	}
}

// faster orders regions by round trip, in steps of rttAlike, then by how many
// connections a node of theirs has.
func faster(a, b region) int {
	load := func(r *region) float64 { return float64(r.Connections) / float64(max(r.Nodes, 1)) }
	return cmp.Or(cmp.Compare(a.rtt/rttAlike, b.rtt/rttAlike), cmp.Compare(load(&a), load(&b)), cmp.Compare(a.rtt, b.rtt))
}

// plainHTTP is an HTTP client with the same way to the network.
func (c *Client) plainHTTP() *http.Client {
	dial := c.cfg.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: c.cfg.TLS, Proxy: http.ProxyFromEnvironment}}
}

// sibling is another path of the relay whose WebSocket has that address.
func sibling(socket, path string) string {
	u, err := url.Parse(socket)
	if err != nil {
		return ""
	}
	u.Scheme = map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	u.Path = strings.TrimSuffix(u.Path, "/ws") + path
	return u.String()
}

// askRegions reads /v1/regions.
func askRegions(ctx context.Context, h *http.Client, socket, token string) ([]region, error) {
	ctx, cancel := context.WithTimeout(ctx, regionsTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sibling(socket, "/v1/regions"), nil)
	if err != nil {
		return nil, fmt.Errorf("regions: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := h.Do(req)
	if err != nil {
		return nil, fmt.Errorf("regions: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("regions: the relay answered %s", resp.Status)
	}
	var reply struct {
		Regions []region `json:"regions"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&reply); err != nil {
		return nil, fmt.Errorf("regions: %w", err)
	}
	return reply.Regions[:min(len(reply.Regions), placesMax)], nil
}

// measure is the round trip to a relay over a connection that is open already; 0
// when it does not answer.
func measure(ctx context.Context, h *http.Client, base string) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, regionsTimeout)
	defer cancel()
	socket, err := socketURL(base)
	if err != nil {
		return 0
	}
	var took time.Duration
	for range 2 { // the first opens the connection
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, sibling(socket, "/healthz"), nil)
		if err != nil {
			return 0
		}
		began := time.Now()
		resp, err := h.Do(req)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16)) // so that the connection is used again
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return 0
		}
		took = max(time.Since(began), 1)
	}
	return took
}
