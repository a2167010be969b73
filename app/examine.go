package app

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"agentnet/app/doctor"
	"agentnet/app/redis"
	"agentnet/embedded/journal"
	"agentnet/store"
)

// Doctor is what the doctor has to know of a node with this configuration.
func (c *Config) Doctor() doctor.Config {
	d := doctor.Config{
		Data: c.Data, Listen: c.Listen, BasePath: c.BasePath, PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies,
		TLSCert: c.TLS.Cert, TLSKey: c.TLS.Key, ACME: len(c.TLS.ACME.Domains) > 0, Redis: c.redisURL(), RedisTLS: redis.TLS(c.RedisTLS), Connections: c.Limits.Connections,
		Bounds: []doctor.Bound{
			{Key: "queue.total_bytes", Bytes: int64(c.Queue.TotalBytes)},
			{Key: "mailbox.bytes", Bytes: int64(c.Mailbox.Bytes)},
			{Key: "dedup.keys × 100 B", Bytes: int64(c.Dedup.Keys) * 100},
		},
	}
	if d.Redis == "" {
		d.Bounds = append(d.Bounds, doctor.Bound{Key: "embedded.max_bytes", Bytes: int64(c.Embedded.MaxBytes)})
	}
	d.Database = func(ctx context.Context) (doctor.Database, error) {
		in, err := store.Inspect(ctx, filepath.Join(c.Data, store.FileName), store.CheckQuick, false)
		return doctor.Database{Schema: in.Schema, Knows: in.Knows, Bytes: in.Bytes, WAL: in.WAL, Free: in.Free, Max: int64(c.Database.MaxBytes)}, err
	}
	d.Journal = func(context.Context) (doctor.Journal, error) {
		in, err := journal.Inspect(filepath.Join(c.Data, "journal"))
		found := doctor.Journal{Messages: in.Messages, Segments: in.Segments, Bytes: in.DiskBytes, Torn: in.TornBytes, SetAside: in.SetAside}
		for _, damage := range in.Damaged {
			found.Damaged = append(found.Damaged, damage.String())
		}
		return found, err
	}
	return d
}

// HiddenRedis says that the address of Redis was told without its password.
func (c *Config) HiddenRedis() bool { return strings.Contains(c.Redis, ":***@") }

// examine is the doctor's look at this node, from inside.
func (a *App) examine(ctx context.Context) []doctor.Finding {
	return a.watchExamined(ctx, func(int, doctor.Finding) {})
}

// watchExamined is examine, and hands each finding over as it is made.
func (a *App) watchExamined(ctx context.Context, found func(place int, f doctor.Finding)) []doctor.Finding {
	cfg := a.current()
	d := cfg.Doctor()
	d.PID, d.Running, d.Listen = os.Getpid(), true, a.Addr()
	if d.URL = a.cfg.PublicURL; d.URL == "" {
		d.URL = a.cfg.LocalURL(a.Addr())
	}
	return doctor.Watch(ctx, d, found)
}
