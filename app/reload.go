package app

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/account"
	"agentnet/app/auth"
	"agentnet/app/scale"

	"golang.org/x/sys/unix"
)

// noteTime bounds the entry that a reload makes.
const noteTime = 5 * time.Second

// reloading is what of the configuration is in force.
type reloading struct {
	one   sync.Mutex // one reload at a time
	level *slog.LevelVar

	mu  sync.Mutex
	now Config // guarded by mu

	issuers []auth.Issuer // guarded by one; with the content of the files
}

// WithLogLevel gives the level that the logger of New looks at, so that a reload
// can change it.
func WithLogLevel(level *slog.LevelVar) Option {
	return func(a *App) { a.reloading.level = level }
}

// Reloaded says what a reload did, by keys of the configuration.
type Reloaded struct {
	Taken   []string // in force now
	Restart []string // differ, and count only after a restart
}

// takenAtReload are the keys that a running node can change; the files behind
// tls.cert, tls.key and auth.jwt are read again in any case.
var takenAtReload = []string{
	"log.level", "tls.cert", "tls.key", "auth.jwt",
	"limits.connections", "limits.pending", "limits.connects_per_s", "limits.connects_burst",
	"limits.address_connections", "limits.address_connects_per_s", "limits.address_connects_burst",
	"limits.auth_failures_per_s", "limits.auth_failures_burst",
}

// current is the configuration that is in force.
func (a *App) current() *Config {
	a.reloading.mu.Lock()
	defer a.reloading.mu.Unlock()
	cfg := a.reloading.now
	cfg.Data = a.cfg.Data
	return &cfg
}

// Reload puts next in force as far as a running node can. When anything in it is
// wrong, a file that cannot be read for example, nothing is changed.
func (a *App) Reload(ctx context.Context, next Config) (r Reloaded, err error) {
	a.reloading.one.Lock()
	defer a.reloading.one.Unlock()
	a.say("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
	defer a.say("READY=1")
	old := a.current()
	if next.Data == "" {
		next.Data = old.Data
	}
	if err = a.takeParts(&next); err != nil {
		a.noteReload(ctx, "failed", "The configuration was not reloaded, the old one stays in force: "+err.Error())
		a.log.Error("the configuration was not reloaded, the old one stays in force", "error", err)
		return r, fmt.Errorf("reload: %w", err)
	}
	for _, key := range changed(old, &next) {
		if slices.Contains(takenAtReload, key) {
			r.Taken = append(r.Taken, key)
		} else {
			r.Restart = append(r.Restart, key)
		}
	}
	a.reloading.mu.Lock()
	a.reloading.now.take(&next)
	a.reloading.mu.Unlock()
	a.log.Info("the configuration was reloaded", "changed", strings.Join(r.Taken, ", "), "need_a_restart", strings.Join(r.Restart, ", "))
	detail := "The configuration was reloaded; in force now: " + orNothing(r.Taken)
	if len(r.Restart) > 0 {
		detail += "; need a restart: " + strings.Join(r.Restart, ", ")
	}
	a.noteReload(ctx, "done", detail+".")
	return r, nil
}

// ReloadRefused notes that a configuration that could not even be read was to be
// put in force. What is wrong with it is in the log: it may quote what was written.
func (a *App) ReloadRefused(ctx context.Context) {
	a.noteReload(ctx, account.Failed, "The configuration was not reloaded, the old one stays in force: it could not be read; the log of the server says why.")
}

func orNothing(keys []string) string {
	if len(keys) == 0 {
		return "nothing new but the files read again"
	}
	return strings.Join(keys, ", ")
}

// noteReload enters a reload into the audit log, and one that changed something
// into the scaling log, where what follows it is seen beside it.
func (a *App) noteReload(ctx context.Context, outcome, detail string) {
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	now := time.Now()
	_, err := a.store.AppendAudit(ctx, account.Entry{At: now.Truncate(time.Millisecond), Node: a.cfg.Node, Actor: "server", Via: "server",
		Action: "config.reload", Outcome: outcome, Detail: detail})
	if err == nil && outcome == "done" {
		_, err = a.scaling.Write(ctx, scale.Entry{At: now, Kind: scale.KindConfig, Actor: a.cfg.Node, Region: a.cfg.Region, Summary: detail})
	}
	if err != nil {
		a.log.Warn("the reload was not entered into the logs of the database", "error", err)
	}
}

// takeParts tries what can fail first, so that an error leaves all as it was.
func (a *App) takeParts(next *Config) error {
	if err := next.Validate(); err != nil {
		return err
	}
	issuers, err := next.issuers()
	if err != nil {
		return err
	}
	var fresh certificates
	files := a.certificates != nil && a.certificates.acme == nil && next.TLS.Cert != ""
	if files {
		if err := fresh.load(next); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(issuers, a.reloading.issuers) { // else what was verified stays known
		if err := a.auth.SetIssuers(issuers); err != nil {
			return err
		}
		a.reloading.issuers = issuers
	}
	if files {
		a.certificates.files.Store(fresh.files.Load())
	}
	cfg := next.hub()
	a.hub.Admission(cfg.Gate, cfg.Addresses)
	if a.reloading.level != nil {
		_ = a.reloading.level.UnmarshalText([]byte(next.Log.Level)) // Validate has seen it
	}
	return nil
}

// take takes over from next what takenAtReload names.
func (c *Config) take(next *Config) {
	from := next.Fields()
	for i, f := range c.Fields() {
		if slices.Contains(takenAtReload, f.Key) {
			f.value.Set(from[i].value)
		}
	}
}

// changed lists the keys in which a and b differ.
func changed(a, b *Config) (keys []string) {
	other := b.Fields()
	for i, f := range a.Fields() {
		if !reflect.DeepEqual(f.value.Interface(), other[i].value.Interface()) && f.Text() != other[i].Text() {
			keys = append(keys, f.Key)
		}
	}
	return keys
}

// monotonic is the clock that systemd compares reloads by.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
