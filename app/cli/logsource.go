package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app"
	"agentnet/app/backup"
	"agentnet/app/scale"
	"agentnet/store"
)

// logPlace are the flags that say where the scaling log is read: a running relay, or
// a data directory.
type logPlace struct {
	office
	Data string `placeholder:"DIR" help:"Read this data directory itself instead of asking a relay (AGENTNET_DATA). Without it and without a token: the default one."`
}

// A logSource has the scaling log.
type logSource interface {
	page(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error)
	entry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, []scale.LogEntry, error)
	verify(ctx context.Context) ([]scale.LogReport, error)
	note(ctx context.Context, text string) (scale.LogEntry, error)
}

// open finds the log for the time of f.
func (l *logPlace) open(ctx context.Context, env *Env, f func(logSource) error) error {
	if l.Data == "" && l.Token != "" {
		return f(&remoteLog{office: &l.office, env: env})
	}
	dir := l.Data
	if dir == "" {
		dir = app.DataDir(env.Getenv)
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("data directory %s: no relay has ever kept data there; give the right one with --data, or AGENTNET_TOKEN to ask a running relay", dir)
	}
	if err := backup.Incomplete(dir); err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	defer db.Close()
	return f(&localLog{db, env})
}

// localLog reads a data directory.
type localLog struct {
	db  *store.Store
	env *Env
}

func (l *localLog) page(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error) {
	return l.db.ScaleLogPage(ctx, f)
}

func (l *localLog) entry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, []scale.LogEntry, error) {
	if origin == "" {
		origins, err := l.db.ScaleLogOrigins(ctx)
		if err != nil {
			return scale.LogEntry{}, nil, err
		}
		if len(origins) != 1 {
			return scale.LogEntry{}, nil, usagef("there are %d logs here: name the entry as ORIGIN:SEQ", len(origins))
		}
		origin = origins[0]
	}
	e, err := l.db.ScaleLogEntry(ctx, origin, seq)
	if errors.Is(err, store.ErrNotFound) {
		return e, nil, usagef("there is no entry %d in the log of %s", seq, origin)
	}
	if err != nil {
		return e, nil, err
	}
	led, err := l.db.ScaleLogCaused(ctx, origin, seq)
	return e, led, err
}

func (l *localLog) verify(ctx context.Context) ([]scale.LogReport, error) {
	origins, err := l.db.ScaleLogOrigins(ctx)
	if err != nil {
		return nil, err
	}
	heads, err := l.db.KnownHeads()
	if err == nil {
		for o := range heads { // a log of which nothing is left is no whole log
			if !slices.Contains(origins, o) {
				origins = append(origins, o)
			}
		}
	}
	out := make([]scale.LogReport, 0, len(origins))
	for _, o := range origins {
		r, err := l.db.VerifyScaleLog(ctx, o)
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (l *localLog) note(ctx context.Context, text string) (scale.LogEntry, error) {
	e, err := scale.Note(time.Now(), systemActor(), text)
	if err != nil {
		return scale.LogEntry{}, err
	}
	sealed, err := l.db.AppendScaleLog(ctx, "cli", []scale.Entry{e})
	trail(ctx, l.env, l.db.Dir(), "log.note", "", "", err)
	if err != nil {
		return scale.LogEntry{}, err
	}
	return sealed[0], nil
}

// remoteLog asks a running relay.
type remoteLog struct {
	*office
	env *Env
}

func (l *remoteLog) get(ctx context.Context, path string, q url.Values, into any) error {
	return l.call(ctx, l.env, http.MethodGet, path+"?"+q.Encode(), nil, into)
}

func (l *remoteLog) page(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error) {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	kinds := make([]string, len(f.Kinds))
	for i, k := range f.Kinds {
		kinds[i] = k.String()
	}
	set("kinds", strings.Join(kinds, ","))
	set("origin", f.Origin)
	set("actor", f.Actor)
	set("match", f.Match)
	if !f.From.IsZero() {
		set("from", f.From.UTC().Format(time.RFC3339))
		set("to", f.To.UTC().Format(time.RFC3339))
	}
	if f.Oldest {
		set("order", "oldest")
	}
	if f.Before > 0 {
		set("before", strconv.FormatUint(f.Before, 10))
	}
	set("limit", strconv.Itoa(f.Limit))
	var reply struct {
		Entries []scale.LogEntry `json:"entries"`
	}
	err := l.get(ctx, "/v1/scaling/log", q, &reply)
	return reply.Entries, err
}

func (l *remoteLog) entry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, []scale.LogEntry, error) {
	id := strconv.FormatUint(seq, 10)
	if origin != "" {
		id = origin + ":" + id
	}
	var reply struct {
		Entry scale.LogEntry   `json:"entry"`
		Led   []scale.LogEntry `json:"led"`
	}
	err := l.get(ctx, "/v1/scaling/log/entry", url.Values{"id": {id}}, &reply)
	return reply.Entry, reply.Led, err
}

func (l *remoteLog) verify(ctx context.Context) ([]scale.LogReport, error) {
	var reply struct {
		Reports []scale.LogReport `json:"reports"`
	}
	err := l.get(ctx, "/v1/scaling/log/verify", nil, &reply)
	return reply.Reports, err
}

func (l *remoteLog) note(ctx context.Context, text string) (e scale.LogEntry, err error) {
	err = l.call(ctx, l.env, http.MethodPost, "/v1/scaling/log/notes", map[string]string{"text": text}, &e)
	return e, err
}
