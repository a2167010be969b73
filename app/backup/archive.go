package backup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"agentnet/embedded"
	"agentnet/embedded/journal"
	"agentnet/store"
)

// writeArchive writes the manifest and the files of content, in its order.
func writeArchive(ctx context.Context, name, content string, m *Manifest) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	w := tar.NewWriter(zip)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	header := tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(text)), ModTime: m.Made}
	if err := w.WriteHeader(&header); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, file := range m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := addFile(w, content, file, m); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), zip.Close(), f.Sync())
}

func addFile(w *tar.Writer, content string, file File, m *Manifest) error {
	if err := w.WriteHeader(&tar.Header{Name: file.Path, Mode: 0o600, Size: file.Bytes, ModTime: m.Made}); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(content, filepath.FromSlash(file.Path)))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// unpack writes the files of an archive below into, which must not exist, and
// compares each with the manifest.
func unpack(ctx context.Context, name, into string) (*Manifest, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	r := tar.NewReader(zip)
	head, err := r.Next()
	if err != nil || head.Name != manifestName || head.Size > maxManifest {
		return nil, fmt.Errorf("%w: it does not begin with a manifest", ErrDamaged)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	m, err := parseManifest(text)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(into, 0o700); err != nil {
		return nil, err
	}
	for _, want := range m.Files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		head, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: %s is missing: %v", ErrDamaged, want.Path, err)
		}
		if head.Name != want.Path || head.Size != want.Bytes || head.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("%w: %.100q stands where the manifest has %s with %d bytes", ErrDamaged, head.Name, want.Path, want.Bytes)
		}
		if err := unpackFile(r, want, filepath.Join(into, filepath.FromSlash(want.Path))); err != nil {
			return nil, err
		}
	}
	if _, err := r.Next(); err != io.EOF {
		return nil, fmt.Errorf("%w: it does not end where the manifest says (%v)", ErrDamaged, err)
	}
	// What follows the tar, up to the checksum of gzip itself.
	if n, err := io.Copy(io.Discard, io.LimitReader(zip, 1<<20)); err != nil || n == 1<<20 {
		return nil, fmt.Errorf("%w: its end: %v", ErrDamaged, err)
	}
	return m, nil
}

func unpackFile(r io.Reader, want File, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), r)
	if e := errors.Join(out.Sync(), out.Close()); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrDamaged, want.Path, err)
	}
	if n != want.Bytes || hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("%w: %s does not have the checksum of the manifest", ErrDamaged, want.Path)
	}
	return nil
}

// Verify reads a backup completely and opens every part of it: checksums, the
// database with all its indexes, each parked message, the snapshot of the embedded
// Redis. It needs as much room beside the file as the data takes.
func Verify(ctx context.Context, name string) (*Manifest, error) {
	stage, err := os.MkdirTemp(filepath.Dir(name), stagePrefix+"verify-")
	if err != nil {
		return nil, fmt.Errorf("verify backup: %w", err)
	}
	defer os.RemoveAll(stage)
	m, err := verifyIn(ctx, name, filepath.Join(stage, "content"))
	if err != nil {
		return nil, fmt.Errorf("verify backup %s: %w", name, err)
	}
	return m, nil
}

// verifyIn unpacks into the folder content, which it leaves, and opens what is there.
func verifyIn(ctx context.Context, name, content string) (*Manifest, error) {
	m, err := unpack(ctx, name, content)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(content, store.FileName)
	if _, err := os.Stat(path); err == nil {
		if _, err := store.Inspect(ctx, path, store.CheckFull, true); err != nil {
			return nil, err
		}
	} else if m.Schema != 0 {
		return nil, fmt.Errorf("%w: the database is missing", ErrDamaged)
	}
	j, err := journal.Inspect(filepath.Join(content, journalDir))
	if err != nil {
		return nil, err
	}
	// Damage that was there before is no reason to have no backup of the rest: it
	// is the same as at the time of the copy, which the checksums prove.
	if j.Messages != m.Parked {
		return nil, fmt.Errorf("%w: %d parked messages can be read, the manifest says %d", ErrDamaged, j.Messages, m.Parked)
	}
	if _, err := embedded.Inspect(filepath.Join(content, embeddedDir)); err != nil && !(m.Embedded == nil && errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	return m, nil
}
