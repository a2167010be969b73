package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"agentnet/app/backup"
)

// restoreCommand is `agentnet restore`.
type restoreCommand struct {
	File string `arg:"" help:"File that \"agentnet backup\" made."`

	dataFlag
	Force bool `help:"Also into a directory that holds data: that is moved into a folder within it."`
}

// Run verifies a backup and puts it back.
func (c *restoreCommand) Run(ctx context.Context, env *Env) error {
	r, err := backup.Restore(ctx, backup.RestoreOptions{File: c.File, Data: c.dir(env), Force: c.Force})
	if err == nil {
		detail := "the backup of " + r.Manifest.Made.Format(time.RFC3339) + " was put back"
		if r.Aside != "" {
			detail += "; what was there before is in " + filepath.Base(r.Aside)
		}
		trail(ctx, env, r.Data, "restore", filepath.Base(c.File), detail, nil)
	}
	if errors.Is(err, backup.ErrNotEmpty) {
		return usagef("%v", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "%s holds the backup of %s: %d files with %d bytes\n", r.Data, r.Manifest.Made.Format(time.RFC3339), len(r.Manifest.Files), r.Manifest.Bytes())
	if r.Aside != "" {
		fmt.Fprintf(env.Stdout, "what was there before is in %s; remove it when all is well\n", r.Aside)
	}
	_, err = fmt.Fprintln(env.Stdout, "tokens and accounts are as they were then: what was revoked later has to be revoked again, unless other nodes of the relay know of it")
	return err
}
