package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/wire"
)

// Validate reports everything that is wrong with c, each fault with its key.
func (c *Config) Validate() error {
	k := &checker{}
	c.checkPlace(k)
	c.checkFleet(k)
	c.checkDoors(k)
	c.checkLimits(k)
	c.checkSession(k)
	c.checkOverload(k)
	c.checkScaling(k)
	c.checkAccounts(k)
	for i := range c.Channels {
		c.Channels[i].check(k, fmt.Sprintf("channels[%d].", i))
	}
	for i := range c.Auth.JWT {
		c.Auth.JWT[i].check(k, fmt.Sprintf("auth.jwt[%d].", i))
	}
	c.Adaptive.check(k)
	c.Actuate.check(k)
	c.Notify.check(k)
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	return errors.Join(k.faults...)
}

// checker collects faults.
type checker struct{ faults []error }

func (k *checker) fault(key, format string, args ...any) {
	k.faults = append(k.faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
}

func (k *checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.fault(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

// within checks a number, a Size or a count.
func within[T int | Size | float64](k *checker, key string, value, low, high T) {
	if !(value >= low && value <= high) {
		k.fault(key, "%v is not between %v and %v", value, low, high)
	}
}

func (k *checker) lasts(key string, d Duration, low, high time.Duration) {
	if time.Duration(d) < low || time.Duration(d) > high {
		k.fault(key, "%v is not between %v and %v", d, Duration(low), Duration(high))
	}
}

func (k *checker) globs(key string, texts []string) {
	for _, text := range texts {
		if _, err := wire.ParseGlob(text); err != nil {
			k.fault(key, "%v", err)
		}
	}
}

func (k *checker) readable(key, name string) {
	if name == "" {
		return
	}
	f, err := os.Open(name)
	if err != nil {
		k.fault(key, "%v", err)
		return
	}
	_ = f.Close()
}

var (
	nodeName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	basePath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)
)

// isWebAddress says whether text is the address of a web server.
func isWebAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && u.RawQuery == ""
}

func (c *Config) checkPlace(k *checker) {
	if host, port, err := net.SplitHostPort(c.Listen); err != nil {
		k.fault("listen", "%q is no address and port; write it like 127.0.0.1:8080 or :8080", c.Listen)
	} else {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			k.fault("listen", "the port of %q is not between 0 and 65535", c.Listen)
		}
		if strings.ContainsAny(host, "/ ") {
			k.fault("listen", "%q holds no host name or address", c.Listen)
		}
	}
	if c.PublicURL != "" && !isWebAddress(c.PublicURL) {
		k.fault("public_url", "want an address like https://relay.example, without user and query")
	}
	if !basePath.MatchString(c.BasePath) {
		k.fault("base_path", "%q must be empty or like /relay, without a slash at its end", c.BasePath)
	}
	if !nodeName.MatchString(c.Node) {
		k.fault("node", "%q must be 1 to 64 of A-Z a-z 0-9 . _ -", c.Node)
	}
	if !nodeName.MatchString(c.Region) {
		k.fault("region", "%q must be 1 to 64 of A-Z a-z 0-9 . _ -", c.Region)
	}
	if c.Embedded.Listen != "" && c.Embedded.Password == "" {
		k.fault("embedded.password", "needed because embedded.listen opens a port")
	}
	within(k, "rebalance_per_s", c.RebalancePerS, 0, 100_000)
	k.lasts("embedded.snapshot", c.Embedded.Snapshot, time.Second, 24*time.Hour)
	within(k, "embedded.max_bytes", c.Embedded.MaxBytes, 1<<20, 1<<40)
	within(k, "embedded.max_keys", c.Embedded.MaxKeys, 100, 1<<30)
}

func (c *Config) checkDoors(k *checker) {
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		k.fault("tls", "cert and key belong together, only one is given")
	}
	k.readable("tls.cert", c.TLS.Cert)
	k.readable("tls.key", c.TLS.Key)
	c.checkACME(k)
	within(k, "database.max_bytes", c.Database.MaxBytes, 16<<20, 1<<44)
	for _, p := range c.TrustedProxies {
		_, err := netip.ParsePrefix(p)
		if _, err2 := netip.ParseAddr(p); err != nil && err2 != nil {
			k.fault("trusted_proxies", "%q is neither an address nor a network like 10.0.0.0/8", p)
		}
	}
	k.oneOf("proxy_header", c.ProxyHeader, "X-Forwarded-For", "Forwarded")
	for _, o := range c.Origins {
		u, err := url.Parse(o)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" || u.User != nil {
			k.fault("origins", "%q is not like https://app.example or http://localhost:3000", o)
		}
	}
	within(k, "compression_min", c.CompressionMin, 0, 1<<30)
}

var domain = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9][a-z0-9-]{0,61}[a-z0-9]$`)

func (c *Config) checkACME(k *checker) {
	a := &c.TLS.ACME
	if len(a.Domains) > 0 && c.TLS.Cert != "" {
		k.fault("tls.acme.domains", "not together with tls.cert: choose one")
	}
	for _, name := range a.Domains {
		if !domain.MatchString(name) {
			k.fault("tls.acme.domains", "%q is no name like relay.example.org, in small letters and without a wildcard", name)
		}
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		k.fault("tls.acme.directory", "want an https address")
	}
	if a.HTTPListen != "" {
		if _, _, err := net.SplitHostPort(a.HTTPListen); err != nil {
			k.fault("tls.acme.http_listen", "%q is no address and port; write it like :80", a.HTTPListen)
		}
	}
	k.readable("tls.acme.ca", a.CA)
}

func (c *Config) checkLimits(k *checker) {
	l := &c.Limits
	within(k, "limits.frame_bytes", l.FrameBytes, 1<<10, 16<<20)
	within(k, "limits.message_bytes", l.MessageBytes, 1<<10, 256<<20)
	if l.MessageBytes < l.FrameBytes {
		k.fault("limits.message_bytes", "%v is less than one frame (limits.frame_bytes is %v)", l.MessageBytes, l.FrameBytes)
	}
	within(k, "limits.subscriptions", l.Subscriptions, 1, 1<<20)
	within(k, "limits.header_count", l.HeaderCount, 0, 1<<10)
	within(k, "limits.header_bytes", l.HeaderBytes, 0, l.FrameBytes)
	k.lasts("limits.max_ttl", l.MaxTTL, 0, 400*24*time.Hour)
	k.lasts("limits.max_timeout", l.MaxTimeout, time.Second, 24*time.Hour)
	for _, rate := range []struct {
		key   string
		value float64
	}{
		{"messages_per_s", l.MessagesPerS}, {"messages_burst", l.MessagesBurst},
		{"connects_per_s", l.ConnectsPerS}, {"connects_burst", l.ConnectsBurst},
		{"address_connects_per_s", l.AddressConnectsPerS}, {"address_connects_burst", l.AddressConnectsBurst},
		{"auth_failures_per_s", l.AuthFailuresPerS}, {"auth_failures_burst", l.AuthFailuresBurst},
	} {
		within(k, "limits."+rate.key, rate.value, 0, 1e9)
	}
	within(k, "limits.connections", l.Connections, 0, 1<<30)
	within(k, "limits.pending", l.Pending, 0, 1<<30)
	within(k, "limits.address_connections", l.AddressConnections, 0, 1<<30)
	within(k, "limits.channels", l.Channels, 1, 1<<30)
	m := &c.Mailbox
	within(k, "mailbox.count", m.Count, 1, 1<<30)
	within(k, "mailbox.agent_count", m.AgentCount, 1, m.Count)
	within(k, "mailbox.bytes", m.Bytes, l.FrameBytes, 1<<40)
	within(k, "mailbox.agent_bytes", m.AgentBytes, l.FrameBytes, max(m.Bytes, l.FrameBytes))
	within(k, "dedup.keys", c.Dedup.Keys, 1000, 1<<30)
}

func (c *Config) checkSession(k *checker) {
	s, q := &c.Session, &c.Queue
	k.lasts("session.resume", s.Resume, time.Second, 24*time.Hour)
	within(k, "session.replay_frames", s.ReplayFrames, 1, 1<<20)
	within(k, "session.replay_bytes", s.ReplayBytes, c.Limits.FrameBytes, 1<<30)
	k.lasts("session.heartbeat_min", s.HeartbeatMin, time.Second, time.Hour)
	k.lasts("session.heartbeat_max", s.HeartbeatMax, max(time.Second, time.Duration(s.HeartbeatMin)), time.Hour)
	k.lasts("session.heartbeat", s.Heartbeat, time.Duration(s.HeartbeatMin), max(time.Duration(s.HeartbeatMin), time.Duration(s.HeartbeatMax)))
	k.lasts("session.auth_timeout", s.AuthTimeout, 100*time.Millisecond, 5*time.Minute)
	within(k, "queue.frames", q.Frames, 1, 1<<24)
	within(k, "queue.bytes", q.Bytes, c.Limits.FrameBytes, 1<<32)
	within(k, "queue.total_bytes", q.TotalBytes, max(q.Bytes, c.Limits.FrameBytes), 1<<42)
	k.lasts("queue.slow_after", q.SlowAfter, 100*time.Millisecond, time.Hour)
	k.lasts("drain.window", c.Drain.Window, 0, time.Hour)
	k.lasts("drain.timeout", c.Drain.Timeout, time.Duration(c.Drain.Window), max(time.Duration(c.Drain.Window), 2*time.Hour))
}

func (c *Config) checkOverload(k *checker) {
	o := &c.Overload
	rising := func(key string, low, middle, high float64) {
		if !(low > 0 && low <= middle && middle <= high) {
			k.fault("overload."+key+"_…", "elevated (%v), degraded (%v) and critical (%v) must be above 0 and rise", low, middle, high)
		}
	}
	rising("lag", time.Duration(o.LagElevated).Seconds(), time.Duration(o.LagDegraded).Seconds(), time.Duration(o.LagCritical).Seconds())
	rising("queue", o.QueueElevated, o.QueueDegraded, o.QueueCritical)
	rising("memory", o.MemoryElevated, o.MemoryDegraded, o.MemoryCritical)
	k.lasts("overload.up_hold", o.UpHold, 0, time.Minute)
	k.lasts("overload.down_hold", o.DownHold, 0, time.Hour)
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func (c *Config) checkAccounts(k *checker) {
	a := &c.Accounts
	k.lasts("accounts.session_idle", a.SessionIdle, time.Minute, 400*24*time.Hour)
	k.lasts("accounts.session_lifetime", a.SessionLifetime, time.Minute, 400*24*time.Hour)
	k.lasts("accounts.audit_age", a.AuditAge, 24*time.Hour, 3660*24*time.Hour)
	within(k, "accounts.audit_count", a.AuditCount, 1000, 10_000_000)
	if a.OtherRole != "" {
		k.oneOf("accounts.other_role", a.OtherRole, "viewer", "operator", "admin")
	}
	o, f := &a.OIDC, &a.Forward
	if o.Issuer != "" {
		u, err := url.Parse(o.Issuer)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopbackHost(u.Hostname())) {
			k.fault("accounts.oidc.issuer", "want an address like https://id.example, or http on this machine")
		}
		if o.ClientID == "" {
			k.fault("accounts.oidc.client_id", "needed with accounts.oidc.issuer")
		}
		if o.ClientSecret != "" && o.ClientSecretFile != "" {
			k.fault("accounts.oidc.client_secret", "give only one of client_secret and client_secret_file")
		}
		k.readable("accounts.oidc.client_secret_file", o.ClientSecretFile)
	}
	if f.Enabled && len(c.TrustedProxies) == 0 {
		k.fault("accounts.forward.enabled", "needs trusted_proxies: anybody could send the header otherwise")
	}
	if f.Enabled && (!headerName.MatchString(f.UserHeader) || !headerName.MatchString(f.GroupsHeader)) {
		k.fault("accounts.forward.user_header", "%q and %q must be names of headers", f.UserHeader, f.GroupsHeader)
	}
	if (o.Issuer != "" || f.Enabled) && len(a.AdminGroups)+len(a.OperatorGroups)+len(a.ViewerGroups) == 0 && a.OtherRole == "" {
		k.fault("accounts.admin_groups", "nobody could come in: name groups with a role, or give other_role")
	}
}

func (r *ChannelRule) check(k *checker, prefix string) {
	if len(r.Match) == 0 {
		k.fault(prefix+"match", "needed: which channels the rule is for, such as news/**")
	}
	k.globs(prefix+"match", r.Match)
	k.oneOf(prefix+"policy", r.Policy, "drop_oldest", "drop_newest", "disconnect")
	within(k, prefix+"recent_count", r.RecentCount, 1, 1<<20)
	within(k, prefix+"recent_bytes", r.RecentBytes, 1<<10, 1<<30)
	k.lasts(prefix+"recent_age", r.RecentAge, time.Second, 24*time.Hour)
	within(k, prefix+"keep_count", r.KeepCount, 0, 1<<24)
	k.lasts(prefix+"keep_age", r.KeepAge, 0, 400*24*time.Hour)
}

func (i *Issuer) check(k *checker, prefix string) {
	keys := 0
	for _, given := range []bool{i.Secret != "", i.SecretFile != "", i.PublicKeyFile != "", i.JWKSURL != ""} {
		if given {
			keys++
		}
	}
	if keys > 1 {
		k.fault(prefix+"secret", "give only one of secret, secret_file, public_key_file and jwks_url")
	}
	if keys == 0 && i.Issuer == "" {
		k.fault(prefix+"issuer", "needed when no key is given")
	}
	if (i.JWKSURL != "" || keys == 0) && len(i.Audience) == 0 {
		k.fault(prefix+"audience", "needed where keys are fetched, because such issuers sign for many parties")
	}
	if i.Secret != "" && len(i.Secret) < 32 {
		k.fault(prefix+"secret", "has %d bytes, want at least 32: openssl rand -base64 48", len(i.Secret))
	}
	k.readable(prefix+"secret_file", i.SecretFile)
	k.readable(prefix+"public_key_file", i.PublicKeyFile)
	k.lasts(prefix+"leeway", i.Leeway, 0, time.Minute)
	for _, role := range i.Roles {
		k.oneOf(prefix+"roles", role, "viewer", "operator", "admin")
	}
}
