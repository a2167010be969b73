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

	step func() // see mark
}

// Restored is what Restore did.
type Restored struct {
	Manifest *Manifest
	Data     string
	Aside    string // folder with what was there before; "" when there was nothing
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
	if _, err := Settle(res.Data); err != nil && !(o.Force && errors.Is(err, ErrHalf)) {
		return res, fmt.Errorf("restore: %w", err)
	}
	old, err := present(res.Data)
	if err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	if len(old) > 0 && !o.Force {
		return res, fmt.Errorf("restore: %w: %s holds %s; --force moves it aside", ErrNotEmpty, res.Data, some(old))
	}
	// Within the directory: it may be a mount of its own, and a rename must do.
	stage, err := os.MkdirTemp(res.Data, restoreStage)
	if err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if readErr := Incomplete(res.Data); readErr == nil { // else Settle still needs it
			os.RemoveAll(stage)
		}
	}()
	content := filepath.Join(stage, contentName)
	if res.Manifest, err = verifyIn(ctx, o.File, content); err != nil {
		return res, fmt.Errorf("restore: %s: %w", o.File, err)
	}
	if err := markOld(content); err != nil {
		return res, fmt.Errorf("restore: %w", err)
	}
	m := mark{Stage: filepath.Base(stage), Old: old, step: o.step}
	if len(old) > 0 {
		m.Aside = asidePrefix + o.Now().UTC().Format(stampForm)
		res.Aside = filepath.Join(res.Data, m.Aside)
	}
	if err := m.swap(res.Data); err != nil {
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
