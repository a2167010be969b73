package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agentnet/embedded"
	"agentnet/embedded/journal"
	"agentnet/store"
)

// Options say what is backed up, and where to.
type Options struct {
	Data    string // data directory
	To      string // a new file, or a folder that gets a file named after the time
	Keep    int    // in a folder: how many backups stay, the newest; 0: all
	Node    string // written into the manifest; may be ""
	Version string
	Now     func() time.Time // nil: time.Now
}

// A Result is a backup that was made and verified.
type Result struct {
	Path     string
	Bytes    int64 // of the file
	Manifest *Manifest
	Skipped  []string // what is no regular file, and was left out
	Removed  []string // older backups, because of Keep
}

// Make writes a backup and verifies it. On an error nothing is left at the place.
func Make(ctx context.Context, o Options) (res Result, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	data, err := filepath.Abs(o.Data)
	if err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	if info, err := os.Stat(data); err != nil || !info.IsDir() {
		return res, fmt.Errorf("backup: there is no data directory %s; give the right one with --data", data)
	}
	if err := Incomplete(data); err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	target, folder, err := place(o)
	if err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	// Beside the target, so that a full disk shows here and the last step is a rename.
	stage, err := os.MkdirTemp(filepath.Dir(target), stagePrefix+"backup-")
	if err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	defer os.RemoveAll(stage)
	m := &Manifest{Format: formatNow, Program: "agentnet", Version: o.Version, Node: o.Node, Made: o.Now().UTC().Truncate(time.Second)}
	res = Result{Path: target, Manifest: m}
	content := filepath.Join(stage, "content")
	if res.Skipped, err = collect(ctx, data, content, m); err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	part := filepath.Join(stage, "archive")
	if err := writeArchive(ctx, part, content, m); err != nil {
		return res, fmt.Errorf("backup: write the archive: %w", err)
	}
	if err := os.RemoveAll(content); err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	if _, err := verifyIn(ctx, part, filepath.Join(stage, "verify")); err != nil {
		return res, fmt.Errorf("backup: what was written cannot be read back: %w", err)
	}
	if res.Bytes, err = publish(part, target); err != nil {
		return res, fmt.Errorf("backup: %w", err)
	}
	if folder && o.Keep > 0 {
		if res.Removed, err = prune(filepath.Dir(target), o.Keep); err != nil {
			return res, fmt.Errorf("backup: remove older ones: %w", err)
		}
	}
	return res, nil
}

// place decides on the file's name.
func place(o Options) (target string, folder bool, err error) {
	if target, err = filepath.Abs(o.To); err != nil {
		return "", false, err
	}
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return target, false, nil
	case err != nil:
		return "", false, err
	case !info.IsDir():
		return "", false, fmt.Errorf("%s: %w: a backup never overwrites one; give another name, or a folder", target, os.ErrExist)
	}
	target = filepath.Join(target, "agentnet-"+o.Now().UTC().Format(stampForm)+".tar.gz")
	if _, err := os.Lstat(target); err == nil {
		return "", false, fmt.Errorf("%s: %w", target, os.ErrExist)
	}
	return target, true, nil
}

// collect copies everything into the folder content and lists it in m.
func collect(ctx context.Context, data, content string, m *Manifest) (skipped []string, err error) {
	for _, dir := range []string{content, filepath.Join(content, journalDir)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(data, store.FileName)); err == nil {
		if err := collectDatabase(ctx, data, content, m); err != nil {
			return nil, err
		}
	}
	if _, err := journal.Copy(filepath.Join(data, journalDir), filepath.Join(content, journalDir)); err != nil {
		return nil, err
	}
	if skipped, err = collectRest(ctx, data, content); err != nil {
		return nil, err
	}
	if err := describe(content, m); err != nil {
		return nil, err
	}
	return skipped, list(content, m)
}

func collectDatabase(ctx context.Context, data, content string, m *Manifest) error {
	path := filepath.Join(data, store.FileName)
	in, err := store.Inspect(ctx, path, store.CheckNone, false)
	if err != nil {
		return err
	}
	m.Schema = in.Schema
	return store.CopyFile(ctx, path, filepath.Join(content, store.FileName))
}

// collectRest copies what is neither the database nor the journal.
func collectRest(ctx context.Context, data, content string) (skipped []string, err error) {
	err = filepath.WalkDir(data, func(p string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // was removed meanwhile
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(data, p)
		if err != nil || rel == "." {
			return err
		}
		name := filepath.ToSlash(rel)
		switch {
		case leftOut(name) || name == store.FileName || name == journalDir:
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(content, rel), 0o700)
		case !d.Type().IsRegular():
			skipped = append(skipped, name)
			return nil
		}
		return copyFile(p, filepath.Join(content, rel))
	})
	return skipped, err
}

// copyFile copies one file; one that is gone meanwhile is left out.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// describe reads from the copies what the manifest tells of them.
func describe(content string, m *Manifest) error {
	j, err := journal.Inspect(filepath.Join(content, journalDir))
	if err != nil {
		return err
	}
	m.Parked = j.Messages
	e, err := embedded.Inspect(filepath.Join(content, embeddedDir))
	switch {
	case err == nil:
		saved := e.Saved.UTC()
		m.Embedded = &saved
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

// list enters every file of content with its checksum, by name.
func list(content string, m *Manifest) error {
	err := filepath.WalkDir(content, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(content, p)
		if err != nil {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		sum := sha256.New()
		n, err := io.Copy(sum, f)
		m.Files = append(m.Files, File{Path: filepath.ToSlash(rel), Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
		return err
	})
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return err
}

// publish gives a finished archive its name, which must be free. Link and not
// Rename, which would replace a file that somebody made meanwhile.
func publish(part, target string) (int64, error) {
	info, err := os.Stat(part)
	if err != nil {
		return 0, err
	}
	if err := os.Link(part, target); err != nil {
		if _, taken := os.Lstat(target); taken == nil {
			return 0, fmt.Errorf("%s: %w", target, os.ErrExist)
		}
		if err := os.Rename(part, target); err != nil { // no hard links here
			return 0, err
		}
	}
	return info.Size(), syncDir(filepath.Dir(target))
}

// prune removes all backups of a folder but the newest; their names sort by time.
func prune(dir string, keep int) (removed []string, err error) {
	all, err := filepath.Glob(filepath.Join(dir, "agentnet-*T*Z.tar.gz"))
	if err != nil {
		return nil, err
	}
	slices.Sort(all)
	for _, old := range all[:max(0, len(all)-keep)] {
		if err := os.Remove(old); err != nil {
			return removed, err
		}
		removed = append(removed, old)
	}
	return removed, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
