package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"agentnet/app"
	"agentnet/app/account"
	"agentnet/store"
)

// trailTime bounds what a command waits for its entry in the audit log.
const trailTime = 10 * time.Second

// trail writes into the audit log of a data directory what a command did there, by
// whom, and what came of it. Where no relay keeps data there is no such log. That
// it could not be written is told and does not undo what was done.
func trail(ctx context.Context, env *Env, dir, action, target, detail string, done error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), trailTime) // also of what was broken off
	defer cancel()
	if err := writeTrail(ctx, env, dir, action, target, detail, done); err != nil {
		fmt.Fprintf(env.Stderr, "agentnet: %s is not in the audit log of %s: %s\n", action, dir, explain(err))
	}
}

func writeTrail(ctx context.Context, env *Env, dir, action, target, detail string, done error) error {
	path := filepath.Join(dir, store.FileName)
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	// A command must not bring the database to another schema in passing.
	if in, err := store.Inspect(ctx, path, store.CheckNone, false); err != nil {
		return err
	} else if in.Schema != in.Knows {
		return fmt.Errorf("its schema is %d, this program writes %d", in.Schema, in.Knows)
	}
	log := slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	db, err := store.Open(ctx, store.Config{Dir: dir, Logger: log})
	if err != nil {
		return err
	}
	defer db.Close()
	e := account.Entry{At: time.Now(), Node: nodeOf(dir), Actor: "system:" + systemUser(), Role: account.Admin, Via: account.ViaCommand,
		Action: action, Target: target, Outcome: account.Done, Detail: detail}
	if done != nil {
		e.Outcome = account.Failed
	}
	_, err = db.AppendAudit(ctx, e)
	return err
}

// nodeOf names the node that runs on a data directory, as far as it is known.
func nodeOf(dir string) string {
	record, err := app.ReadRecord(dir)
	if err != nil {
		return "command"
	}
	if name := record.Settings["node"]; name != "" {
		return name
	}
	return app.DefaultConfig().Node
}
