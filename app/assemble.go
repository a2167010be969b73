package app

import (
	"context"
	"fmt"
	"os"
	"runtime/metrics"
	"strings"
	"time"

	"agentnet/app/auth"
	"agentnet/app/relay"
	"agentnet/app/relay/limit"
	"agentnet/app/relay/mailbox"
	"agentnet/app/relay/overload"
	"agentnet/app/relay/queue"
	"agentnet/app/wire"
	"agentnet/store"
	"agentnet/web"
	"agentnet/web/ws"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// openDoors makes the WebSocket door and the HTTP server around it.
func (a *App) openDoors(context.Context) error {
	c := &a.cfg
	proxies, err := web.ParseProxies(c.TrustedProxies, c.ProxyHeader)
	if err != nil {
		return fmt.Errorf("trusted_proxies: %w", err)
	}
	if a.certificates, err = newCertificates(c, a.log); err != nil {
		return err
	}
	limits := c.limits()
	a.sockets, err = ws.New(ws.Config{Hub: a.hub, Authorize: a.auth.Authorize, ClientAddr: proxies.ClientAddr, Origins: c.Origins, Limits: limits,
		Compression: c.Compression, CompressMin: int(c.CompressionMin), Logger: a.log})
	if err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	a.onClose("websockets", a.sockets.Close)
	a.web, err = web.New(a.withAccounts(web.Config{Relay: a.relayed(), Authorizer: a.auth, Guard: a.hub, Socket: a.sockets.Handler(), Prepare: ws.Configure,
		Readings: a.readings, Fleet: a.fleetView(), Notifier: a.acting.notifier, NotifyLog: a.store, Doctor: a.examine, Hold: a.holdExport, Scaling: a.scaling, Pages: a.pages(), PagesEvery: a.pagesEvery, Base: c.BasePath, PublicURL: c.PublicURL, TLS: c.Encrypts(), Proxies: proxies, Limits: limits,
		Version: a.version, PublicPage: c.PublicPage, MetricsToken: c.Metrics.Token, MetricsPublic: c.Metrics.Public, Logger: a.log}))
	if err != nil {
		return fmt.Errorf("web: %w", err)
	}
	return nil
}

// endSessions ends the sessions of a revoked token, at once.
func (a *App) endSessions(token string) {
	if a.hub == nil {
		return
	}
	n := a.hub.EndSessions(func(id *relay.Identity) bool { return id.Token == token }, wire.CloseAuthFailed, "the token was revoked")
	a.log.Info("token revoked", "token", token, "sessions_ended", n)
}

// limits is what clients are told.
func (c *Config) limits() wire.Limits {
	l := &c.Limits
	return wire.Limits{FrameBytes: int(l.FrameBytes), MessageBytes: int(l.MessageBytes), Subscriptions: l.Subscriptions, HeaderCount: l.HeaderCount,
		HeaderBytes: int(l.HeaderBytes), MessagesPerS: int(l.MessagesPerS), BytesPerS: int(l.BytesPerS),
		MaxTTLMS: time.Duration(l.MaxTTL).Milliseconds(), MaxTimeoutMS: time.Duration(l.MaxTimeout).Milliseconds()}
}

// burst is two seconds' worth when nothing else was said.
func burst(rate, said float64) float64 {
	if said > 0 {
		return said
	}
	return 2 * rate
}

// hub is the relay's part of the configuration.
func (c *Config) hub() relay.Config {
	l, s, m := &c.Limits, &c.Session, &c.Mailbox
	cfg := relay.Config{Node: c.Node, Region: c.Region, Limits: c.limits(),
		Resume: time.Duration(s.Resume), ReplayFrames: s.ReplayFrames, ReplayBytes: int(s.ReplayBytes),
		Heartbeat: time.Duration(s.Heartbeat), HeartbeatMin: time.Duration(s.HeartbeatMin), HeartbeatMax: time.Duration(s.HeartbeatMax),
		AuthTimeout: time.Duration(s.AuthTimeout),
		Queue:       queue.Limits{Items: c.Queue.Frames, Bytes: int(c.Queue.Bytes)}, SlowAfter: time.Duration(c.Queue.SlowAfter), QueueBytes: int64(c.Queue.TotalBytes),
		MessageRate: limit.NewRate(l.MessagesPerS, burst(l.MessagesPerS, l.MessagesBurst)),
		ByteRate:    limit.NewRate(float64(l.BytesPerS), burst(float64(l.BytesPerS), float64(l.BytesBurst))),
		Addresses: limit.AddressLimits{PerSecond: l.AddressConnectsPerS, Burst: burst(l.AddressConnectsPerS, l.AddressConnectsBurst),
			Concurrent: l.AddressConnections, FailPerSecond: l.AuthFailuresPerS, FailBurst: l.AuthFailuresBurst},
		Gate:        limit.GateLimits{Connections: l.Connections, Pending: l.Pending, PerSecond: l.ConnectsPerS, Burst: l.ConnectsBurst},
		MaxChannels: l.Channels, DedupKeys: c.Dedup.Keys,
		Mailbox:  mailbox.Limits{Count: m.Count, Bytes: int64(m.Bytes), AgentCount: m.AgentCount, AgentBytes: int64(m.AgentBytes)},
		Overload: c.Overload.ladder()}
	for i := range c.Channels {
		cfg.Channels = append(cfg.Channels, c.Channels[i].rule())
	}
	return cfg
}

func (o *Overload) ladder() overload.Config {
	// How busy the loops are is no signal: what counts is how long messages wait, and
	// a busy machine of others would turn things off for nothing.
	never := overload.Shares{Elevated: overload.Never, Degraded: overload.Never, Critical: overload.Never}
	return overload.Config{
		Busy:   never,
		Lag:    overload.Lags{Elevated: time.Duration(o.LagElevated), Degraded: time.Duration(o.LagDegraded), Critical: time.Duration(o.LagCritical)},
		Queue:  overload.Shares{Elevated: o.QueueElevated, Degraded: o.QueueDegraded, Critical: o.QueueCritical},
		Memory: overload.Shares{Elevated: o.MemoryElevated, Degraded: o.MemoryDegraded, Critical: o.MemoryCritical},
		UpHold: time.Duration(o.UpHold), DownHold: time.Duration(o.DownHold)}
}

// rule is one channel rule. Validate has seen its globs and its policy.
func (r *ChannelRule) rule() relay.ChannelRule {
	match, _ := wire.ParseGlobs(r.Match)
	policy := map[string]queue.Policy{"drop_newest": queue.DropNewest, "disconnect": queue.Refuse}[r.Policy] // else DropOldest
	return relay.ChannelRule{Match: match, Policy: policy,
		Recent: relay.RecentLimits{Count: r.RecentCount, Bytes: int(r.RecentBytes), Age: time.Duration(r.RecentAge)},
		Keep:   relay.Keep{Count: r.KeepCount, Age: time.Duration(r.KeepAge)}}
}

// issuers reads the files that the JWT issuers name.
func (c *Config) issuers() (out []auth.Issuer, err error) {
	for i := range c.Auth.JWT {
		from := &c.Auth.JWT[i]
		is := auth.Issuer{Issuer: from.Issuer, Audience: from.Audience, Secret: []byte(from.Secret), JWKSURL: from.JWKSURL, Leeway: time.Duration(from.Leeway), Claim: from.Claim}
		if from.SecretFile != "" {
			text, err := os.ReadFile(from.SecretFile)
			if err != nil {
				return nil, fmt.Errorf("auth.jwt[%d].secret_file: %w", i, err)
			}
			is.Secret = []byte(strings.TrimSpace(string(text)))
		}
		if from.PublicKeyFile != "" {
			if is.PublicKeys, err = os.ReadFile(from.PublicKeyFile); err != nil {
				return nil, fmt.Errorf("auth.jwt[%d].public_key_file: %w", i, err)
			}
		}
		if len(from.Agents)+len(from.Send)+len(from.Subscribe)+len(from.Publish)+len(from.Roles) > 0 {
			is.Template = &auth.Grants{Agents: from.Agents, Send: from.Send, Subscribe: from.Subscribe, Publish: from.Publish, Roles: from.Roles}
		}
		out = append(out, is)
	}
	return out, nil
}

// Tokens lets auth keep its tokens in the database.
func Tokens(db *store.Store) auth.Tokens { return tokenStore{db} }

type tokenStore struct{ db *store.Store }

func (t tokenStore) CreateToken(ctx context.Context, tok auth.Token) error {
	_, err := t.db.CreateToken(ctx, store.Token(tok))
	return err
}

func (t tokenStore) TokensSince(ctx context.Context, rev uint64, limit int) ([]auth.Token, error) {
	rows, err := t.db.TokensSince(ctx, rev, limit)
	out := make([]auth.Token, len(rows))
	for i, r := range rows {
		out[i] = auth.Token(r)
	}
	return out, err
}

func (t tokenStore) RevokeToken(ctx context.Context, id string, at time.Time) error {
	return t.db.RevokeToken(ctx, id, at)
}

func (t tokenStore) TokensUsed(ctx context.Context, used map[string]time.Time) error {
	return t.db.TokensUsed(ctx, used)
}

// memory returns a function that reads how much memory the process holds and how
// much it may: the limit of its cgroup, else of the machine.
func memory() func() (used, limit int64) {
	max, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil || max == 0 || max > 1<<62 {
		return nil
	}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	return func() (int64, int64) {
		metrics.Read(samples)
		return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64()), int64(max)
	}
}
