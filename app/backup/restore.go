package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agentnet/embedded"
	"agentnet/store"
)

// RestoreOptions say what is put back, and where.
type RestoreOptions struct {
	File  string
	Data  string
	Force bool             // also into a directory that holds data, which is moved aside
	Now   func() time.Time // nil: time.Now
}

// Restored is what Restore did.
type Restored struct {
	Manifest *Manifest
	Data     string
	Aside    string // folder with what was there before; "" when there was nothing
}

// Incomplete returns ErrHalf when a restore into dir did not come to its end. Such
// a directory is neither the old one nor the new one, and nobody may serve it.
func Incomplete(dir string) error {
	aside, err := os.ReadFile(filepath.Join(dir, halfName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w in %s: run it again with --force; what was there before is in %s", ErrHalf, dir, strings.TrimSpace(string(aside)))
}

// Restore puts a backup into a data directory that no server uses. Nothing is
// changed before the whole backup was verified. What the directory held is kept in
// a folder within it.
func Restore(ctx context.Context, o RestoreOptions) (res Restored, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if res.Data, err = filepath.Abs(o.Data); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	if _, err := os.Stat(o.File); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	lock, err := store.Lock(res.Data) // also makes the directory
	if err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	defer lock.Unlock()
	old, err := present(res.Data)
	if err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	if half := Incomplete(res.Data); half != nil && !o.Force {
		return res, fmt.Errorf("restore: %w", half)
	}
	if len(old) > 0 && !o.Force {
		return res, fmt.Errorf("restore: %w: %s holds %s; --force moves it aside", ErrNotEmpty, res.Data, some(old))
	}
	// Within the directory: it may be a mount of its own, and a rename must do.
	stage, err := os.MkdirTemp(res.Data, stagePrefix+"restore-")
	if err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	defer os.RemoveAll(stage)
	content := filepath.Join(stage, "content")
	if res.Manifest, err = verifyIn(ctx, o.File, content); err != nil {
		return res, fmt.Errorf("restore: %s: %w", o.File, err)
	}
	if err := markOld(content); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	if res.Aside, err = swap(res.Data, content, old, asidePrefix+o.Now().UTC().Format(stampForm)); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	return res, nil
}

// markOld makes the embedded Redis start as after a crash: clients may have seen
// more than it holds, and learn of it by a new run id.
func markOld(content string) error {
	dir := filepath.Join(content, embeddedDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, embedded.RunningFile), nil, 0o600)
}

// present lists what a restore would replace.
func present(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		n := e.Name()
		if n == "lock" || n == halfName || n == "lost+found" || strings.HasPrefix(n, asidePrefix) || strings.HasPrefix(n, stagePrefix) {
			continue
		}
		names = append(names, n)
	}
	return names, nil
}

func some(names []string) string {
	const shown = 5
	if len(names) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return strings.Join(names, ", ")
}

// swap moves old into the folder aside and the content into its place. The mark
// stands from before the first move until after the last.
func swap(data, content string, old []string, aside string) (string, error) {
	half := filepath.Join(data, halfName)
	into := filepath.Join(data, aside)
	if err := os.WriteFile(half, []byte(into+"\n"), 0o600); err != nil {
		return "", err
	}
	if err := syncDir(data); err != nil {
		return "", err
	}
	if len(old) == 0 {
		into = ""
	} else if err := os.Mkdir(into, 0o700); err != nil {
		return "", err
	}
	for _, name := range old {
		if err := os.Rename(filepath.Join(data, name), filepath.Join(into, name)); err != nil {
			return into, err
		}
	}
	entries, err := os.ReadDir(content)
	if err != nil {
		return into, err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(content, e.Name()), filepath.Join(data, e.Name())); err != nil {
			return into, err
		}
	}
	if err := syncDir(data); err != nil {
		return into, err
	}
	if err := os.Remove(half); err != nil {
		return into, err
	}
	return into, syncDir(data)
}
