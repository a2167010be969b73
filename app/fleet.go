package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agentnet/app/cluster"
	"agentnet/app/redis"
	"agentnet/app/relay"
	"agentnet/embedded"
)

// RegionRules are the regions of a fleet.
type RegionRules []RegionRule

// UnmarshalText refuses: a list of regions does not fit on a command line.
func (*RegionRules) UnmarshalText([]byte) error { return errOnlyInFile }

// A RegionRule is one region: the nodes in it share one Redis.
type RegionRule struct {
	Name  string `yaml:"name" help:"What the nodes there have as region."`
	Redis string `yaml:"redis" secret:"url" help:"Redis of the region, as this node reaches it. A node listens in its own region's Redis and speaks into those of the others."`
}

// shedWindow is the time over which connections that should move are asked to.
const shedWindow = 5 * time.Second

// hasFleet says whether this node may have others beside it.
func (c *Config) hasFleet() bool {
	return c.Redis != "" || c.Embedded.Listen != "" || len(c.Regions) > 0
}

// redisURL is the Redis of this node's own region, "" for the embedded one.
func (c *Config) redisURL() string {
	if c.Redis != "" {
		return c.Redis
	}
	for _, r := range c.Regions {
		if r.Name == c.Region {
			return r.Redis
		}
	}
	return ""
}

// checkFleet checks what concerns other nodes.
func (c *Config) checkFleet(k *checker) {
	if c.Redis != "" {
		if err := cluster.CheckURL(c.Redis); err != nil { // which does not repeat it: it may hold a password
			k.fault("redis", "%v", err)
		}
	}
	if c.NodeURL != "" && !isWebAddress(c.NodeURL) {
		k.fault("node_url", "want an address like https://n1.relay.example, without user and query")
	}
	c.checkRedisTLS(k)
	seen := map[string]bool{}
	for i, r := range c.Regions {
		key := fmt.Sprintf("regions[%d].", i)
		if !nodeName.MatchString(r.Name) {
			k.fault(key+"name", "%q must be 1 to 64 of A-Z a-z 0-9 . _ -", r.Name)
		}
		if seen[r.Name] {
			k.fault(key+"name", "%q is there twice", r.Name)
		}
		seen[r.Name] = true
		if err := cluster.CheckURL(r.Redis); err != nil {
			k.fault(key+"redis", "%v", err)
		}
	}
	if len(c.Regions) > 0 && !seen[c.Region] && c.Redis == "" && c.Embedded.Listen == "" {
		k.fault("regions", "do not name %q, which is this node's region", c.Region)
	}
}

// checkRedisTLS reads the files, and says when nothing uses them.
func (c *Config) checkRedisTLS(k *checker) {
	files := redis.TLS(c.RedisTLS)
	if !files.Given() {
		return
	}
	for key, err := range files.Check() {
		k.fault("redis_tls."+key, "%v", err)
	}
	used := strings.HasPrefix(c.Redis, "rediss")
	for _, r := range c.Regions {
		used = used || strings.HasPrefix(r.Redis, "rediss")
	}
	if !used {
		k.fault("redis_tls", "is given, but no URL of a Redis begins with rediss: the connection would not be encrypted")
	}
}

// openBroker connects to the external Redis, or starts the embedded one. Both are
// used by the same code. A node that may have others beside it becomes one of them.
func (a *App) openBroker(ctx context.Context) error {
	var dial func(context.Context) (net.Conn, error)
	url := a.cfg.redisURL()
	if url == "" {
		e := &a.cfg.Embedded
		srv, err := embedded.Start(ctx, embedded.Config{Dir: filepath.Join(a.dataDir(), "embedded"), Listen: e.Listen, Password: e.Password, Logger: a.log,
			SnapshotEvery: time.Duration(e.Snapshot), MaxBytes: int64(e.MaxBytes), MaxKeys: e.MaxKeys, Hold: a.holdSnapshot})
		if err != nil {
			return fmt.Errorf("embedded redis: %w", err)
		}
		a.embedded = srv
		a.onClose("embedded redis", srv.Close)
		dial = srv.Dial
	}
	if a.cfg.hasFleet() {
		return a.openFleet(ctx, url, dial)
	}
	b, err := cluster.OpenBroker(ctx, cluster.BrokerConfig{Dial: dial, Password: a.cfg.Embedded.Password, Logger: a.log})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	a.broker = b
	a.onClose("redis client", func(context.Context) error { return b.Close() })
	return nil
}

// openFleet makes this node one of several.
func (a *App) openFleet(ctx context.Context, url string, dial func(context.Context) (net.Conn, error)) error {
	cfg := cluster.Config{Name: a.cfg.Node, Region: a.cfg.Region, Addr: a.cfg.nodeURL(a.cfg.Listen), Version: a.version,
		URL: url, Dial: dial, Password: a.cfg.Embedded.Password, TLS: redis.TLS(a.cfg.RedisTLS), Logger: a.log}
	cfg.Fingerprint, cfg.Settings = a.cfg.fingerprint()
	for _, r := range a.cfg.Regions {
		cfg.Regions = append(cfg.Regions, cluster.Region{Name: r.Name, URL: r.Redis})
	}
	n, err := cluster.New(ctx, cfg)
	if err != nil {
		return err
	}
	a.node, a.broker = n, n.Broker()
	if perS := a.cfg.RebalancePerS; perS > 0 {
		n.OnShed(cluster.Balance{PerStep: 10 * perS}, func(ctx context.Context, count int, endpoints []string) {
			a.hub.Shed(ctx, count, endpoints, shedWindow)
		})
	}
	a.onClose("cluster", func(context.Context) error { return n.Close() })
	return nil
}

// joinFleet is the relay's part in it.
func (a *App) joinFleet(cfg *relay.Config) {
	if a.node != nil {
		cfg.Fleet = a.node.Fleet
	}
}

// runFleet takes part until the relay has ended, so that what it says last still
// goes out.
func (a *App) runFleet(ctx context.Context, relayEnded <-chan struct{}) error {
	if a.node == nil {
		return nil
	}
	a.node.SetAddr(a.cfg.nodeURL(a.Addr()))
	ctx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	go func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		last := a.hub.Stats()
		for {
			select {
			case <-every.C:
				last = a.tellLoad(last)
			case <-relayEnded:
				leave()
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return a.node.Run(ctx)
}

// tellLoad tells the others how busy this node is.
func (a *App) tellLoad(last relay.Stats) relay.Stats {
	now := a.hub.Stats()
	load := cluster.Load{Connections: now.Connections, Capacity: a.cfg.Limits.Connections}
	if s := now.Now.Sub(last.Now).Seconds(); s > 0 {
		load.MessagesPerS = float64(now.MessagesIn-last.MessagesIn) / s
	}
	if a.memory != nil {
		if used, limit := a.memory(); limit > 0 {
			load.Memory = float64(used) / float64(limit)
		}
	}
	a.node.SetLoad(load)
	return now
}

// nodeURL is where clients reach this node itself, "" when nobody can tell.
func (c *Config) nodeURL(listen string) string {
	if c.NodeURL != "" {
		return strings.TrimSuffix(c.NodeURL, "/")
	}
	host, port, err := net.SplitHostPort(listen)
	if ip, fault := netip.ParseAddr(host); err != nil || port == "0" || host == "" || fault == nil && ip.IsUnspecified() {
		return strings.TrimSuffix(c.PublicURL, "/")
	}
	scheme := "http://"
	if c.Encrypts() {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port) + c.BasePath
}

// ownSettings are those in which nodes may differ: their place, doors and sizes.
var ownSettings = []string{"listen", "public_url", "node_url", "rebalance_per_s", "base_path", "data", "node", "region", "redis", "redis_tls", "regions", "embedded", "tls",
	"trusted_proxies", "proxy_header", "log", "metrics", "public_page", "drain", "mailbox", "overload"}

// fingerprint stands for the settings that must be equal in all nodes, together and
// one by one.
func (c *Config) fingerprint() (all string, each map[string]string) {
	each = map[string]string{}
	whole := sha256.New()
	for _, f := range c.Fields() {
		top, _, _ := strings.Cut(f.Key, ".")
		if slices.Contains(ownSettings, top) {
			continue
		}
		sum := sha256.Sum256([]byte(f.Key + "\x00" + f.Text()))
		each[f.Key] = hex.EncodeToString(sum[:4])
		whole.Write(sum[:])
	}
	return hex.EncodeToString(whole.Sum(nil)[:8]), each
}
