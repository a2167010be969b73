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
	Wait   app.Duration `default:"0s" placeholder:"TIME" help:"Wait up to so long, such as 4h, while the node on the data directory sheds load; then make it all the same, and say so."`
	Keep   int          `default:"0" help:"In a folder: keep only so many backups, the newest. 0: all."`
	Verify bool         `help:"Make none: read FILE completely and say whether it can be restored."`
	JSON   bool         `name:"json" help:"Print JSON."`
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
	if c.Keep < 0 || c.Wait < 0 {
		return usagef("--keep, --wait: want 0 or more")
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
	waited, err := c.await(ctx, env, dir)
	if err != nil {
		return err
	}
	res, err := backup.Make(ctx, o)
	detail := ""
	if err == nil {
		detail = fmt.Sprintf("%d files with %d bytes", len(res.Manifest.Files), res.Manifest.Bytes())
		if waited != "" {
			detail += "; " + waited
		}
	}
	trail(ctx, env, dir, "backup", c.To, detail, err)
	if err != nil {
		return err
	}
	return c.print(env, "was made and verified", res)
}

// await puts the backup off while the node beside it sheds load, and says so. That
// the node's note cannot be read delays none.
func (c *backupCommand) await(ctx context.Context, env *Env, dir string) (string, error) {
	most := time.Duration(c.Wait)
	waited, err := app.AwaitCalm(ctx, dir, most, func(s app.Strain) {
		fmt.Fprintf(env.Stderr, "the backup waits up to %v for the node to be calm: %s since %s\n", most, s.Why, s.Since.Local().Format("15:04:05"))
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return "", err
	case err != nil:
		fmt.Fprintf(env.Stderr, "agentnet: the backup does not wait: %s\n", explain(err))
		return "", nil
	case waited.For > 0 && waited.Why != "":
		fmt.Fprintln(env.Stderr, "the backup "+waited.String())
		return waited.String(), nil
	}
	return "", nil
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
