// Package backup writes a node's data directory into one file and puts it back.
//
// Make works beside a running server: the database is copied from a snapshot of
// its own, the journal of parked messages as it is at one moment, and the content
// of the embedded Redis as it was saved last, at most a minute earlier unless
// configured otherwise. The archive is a gzipped tar with a manifest of checksums
// in front; a file counts as made only after it was read back and every part of
// it was opened. Restore verifies before it touches anything, moves what was there
// aside, and leaves a mark while it is half done.
//
// It is not for external Redis, which has its own ways, and the archive is not
// encrypted: it holds hashes of tokens, parked messages and private keys of
// certificates, and is written with mode 0600.
package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"agentnet/store"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrDamaged  = errors.New("the backup is damaged")
	ErrNotEmpty = errors.New("the data directory is not empty")
	ErrHalf     = errors.New("a restore was interrupted")
)

const (
	manifestName = "manifest.json"
	formatNow    = 1
	// maxManifest bounds the manifest, which names each file.
	maxManifest = 8 << 20
	maxFiles    = 100_000
	// maxBytes bounds what one archive may unpack to.
	maxBytes = 1 << 40

	journalDir  = "journal"
	embeddedDir = "embedded"
	// halfName is there while Restore changes the data directory.
	halfName = "restore.incomplete"
	// asidePrefix begins the name of the folder with what was there before.
	asidePrefix = "before-restore-"
	// stagePrefix begins the names of folders of work in progress.
	stagePrefix = ".agentnet-"
	stampForm   = "20060102T150405Z"
)

// A Manifest says what an archive holds.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"`
	Version string    `json:"version"`
	Node    string    `json:"node,omitempty"`
	Made    time.Time `json:"made"`
	Schema  int       `json:"schema"` // of the database; 0: there is none
	Parked  int       `json:"parked"` // messages in the journal
	// Embedded is when the embedded Redis was saved; nil: there is no snapshot.
	Embedded *time.Time `json:"embedded,omitempty"`
	Files    []File     `json:"files"`
}

// A File is one file of the data directory.
type File struct {
	Path   string `json:"path"` // with slashes, below the data directory
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Bytes is what all files take together.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// parseManifest reads and checks a manifest: its paths stay within a folder, and
// its sizes are ones that a backup can have.
func parseManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %v", ErrDamaged, err)
	}
	if m.Program != "agentnet" {
		return nil, fmt.Errorf("%w: it is no backup of agentnet", ErrDamaged)
	}
	if m.Format != formatNow {
		return nil, fmt.Errorf("the backup has format %d, this program reads %d: use the version that made it (%q)", m.Format, formatNow, m.Version)
	}
	if len(m.Files) > maxFiles {
		return nil, fmt.Errorf("%w: it lists %d files, at most %d", ErrDamaged, len(m.Files), maxFiles)
	}
	seen := map[string]bool{}
	var total int64
	for _, f := range m.Files {
		if !safe(f.Path) || seen[f.Path] {
			return nil, fmt.Errorf("%w: it lists the path %.100q", ErrDamaged, f.Path)
		}
		seen[f.Path] = true
		if f.Bytes < 0 || f.Bytes > maxBytes-total {
			return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, f.Path, f.Bytes)
		}
		total += f.Bytes
	}
	return m, nil
}

// safe says that name stays below the folder that it is put into.
func safe(name string) bool {
	return name != "" && name != "." && name != manifestName && path.Clean(name) == name && !path.IsAbs(name) &&
		name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\\\x00:")
}

// leftOut says that a file of a data directory is not part of a backup: what
// belongs to a running process, what is work in progress, and older copies.
func leftOut(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	base := path.Base(name)
	switch {
	case top == "backups", strings.HasPrefix(top, asidePrefix), strings.HasPrefix(top, stagePrefix), name == halfName, name == "node.json", name == "pressure.json":
		return true
	case base == "lock", strings.HasSuffix(base, ".tmp"), strings.HasSuffix(base, ".part"), strings.HasSuffix(base, ".damaged"):
		return true
	case name == store.FileName+"-wal", name == store.FileName+"-shm", name == store.FileName+"-journal":
		return true
	case top == embeddedDir && (strings.Contains(base, ".corrupt-") || strings.HasSuffix(base, ".running")):
		return true
	}
	return false
}
