package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"agentnet/app"
	"agentnet/app/backup"
)

// backupCommand is `agentnet backup`.
type backupCommand struct {
	To string `arg:"" name:"file" help:"New file, such as relay.tar.gz, or a folder: then the file is named after the time."`

	dataFlag
	Keep   int  `default:"0" help:"In a folder: keep only so many backups, the newest. 0: all."`
	Verify bool `help:"Make none: read FILE completely and say whether it can be restored."`
	JSON   bool `name:"json" help:"Print JSON."`
}

// backupJSON is what --json prints.
type backupJSON struct {
	Path     string     `json:"path"`
	Bytes    int64      `json:"bytes,omitempty"`
	Data     int64      `json:"data_bytes"`
	Files    int        `json:"files"`
	Schema   int        `json:"schema"`
	Parked   int        `json:"parked"`
	Embedded *time.Time `json:"embedded,omitempty"`
	Made     time.Time  `json:"made"`
	Version  string     `json:"version"`
	Skipped  []string   `json:"skipped,omitempty"`
	Removed  []string   `json:"removed,omitempty"`
}

// Run makes a backup and verifies it.
func (c *backupCommand) Run(ctx context.Context, env *Env) error {
	if c.Keep < 0 {
		return usagef("--keep: want 0 or more")
	}
	if c.Verify {
		m, err := backup.Verify(ctx, c.To)
		if err != nil {
			return err
		}
		return c.print(env, "is whole", backup.Result{Path: c.To, Manifest: m})
	}
	dir := c.dir(env)
	o := backup.Options{Data: dir, To: c.To, Keep: c.Keep, Version: env.Version}
	if record, err := app.ReadRecord(dir); err == nil {
		o.Node = record.Settings["node"]
	}
	res, err := backup.Make(ctx, o)
	detail := ""
	if err == nil {
		detail = fmt.Sprintf("%d files with %d bytes", len(res.Manifest.Files), res.Manifest.Bytes())
	}
	trail(ctx, env, dir, "backup", c.To, detail, err)
	if err != nil {
		return err
	}
	return c.print(env, "was made and verified", res)
}

func (c *backupCommand) print(env *Env, what string, r backup.Result) error {
	m := r.Manifest
	if c.JSON {
		return printJSON(env.Stdout, backupJSON{r.Path, r.Bytes, m.Bytes(), len(m.Files), m.Schema, m.Parked, m.Embedded, m.Made, m.Version, r.Skipped, r.Removed})
	}
	text := fmt.Sprintf("%s %s: %d files with %d bytes, schema %d, %d parked messages", r.Path, what, len(m.Files), m.Bytes(), m.Schema, m.Parked)
	if m.Embedded != nil {
		text += ", embedded Redis as of " + m.Embedded.Format(time.RFC3339)
	}
	if len(r.Skipped) > 0 {
		text += "; left out, because they are no files: " + strings.Join(r.Skipped, ", ")
	}
	if len(r.Removed) > 0 {
		text += fmt.Sprintf("; %d older ones were removed", len(r.Removed))
	}
	_, err := fmt.Fprintln(env.Stdout, text)
	return err
}
