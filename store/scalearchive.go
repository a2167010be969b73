package store

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"agentnet/app/scale"
)

// logArchiveDir holds what left the scaling log, beside the database.
const logArchiveDir = "scalelog"

const (
	archiveFormat = "agentnet scaling log archive 1"
	// maxArchiveLine bounds one line of an archive: an entry and what surrounds it.
	maxArchiveLine = 2*maxEntry + 64<<10
	// unfinished begins the names of archives that are being written.
	unfinished = ".unfinished."
)

// archiveHeader is the first line of an archive; the entries follow, one a line,
// and an archiveEnd.
type archiveHeader struct {
	Format string     `json:"format"`
	Origin string     `json:"origin"`
	After  scale.Head `json:"after"` // the entry before the first one
}

type archiveEnd struct {
	End     *scale.Head `json:"end"`
	Entries uint64      `json:"entries"`
}

// An archiveWriter writes one archive under a name of its own until it is complete.
type archiveWriter struct {
	dir    string
	origin string
	after  scale.Head
	file   *os.File
	sum    interface {
		io.Writer
		Sum([]byte) []byte
	}
	packed *gzip.Writer
	lines  *bufio.Writer
	check  *scale.Verifier
}

func newArchive(dir, origin string, after scale.Head) (_ *archiveWriter, err error) {
	w := &archiveWriter{dir: filepath.Join(dir, logArchiveDir), origin: origin, after: after, sum: sha256.New(), check: scale.NewVerifier(after)}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return nil, err
	}
	if w.file, err = os.CreateTemp(w.dir, unfinished+"*"); err != nil {
		return nil, err
	}
	w.packed = gzip.NewWriter(io.MultiWriter(w.file, w.sum))
	w.lines = bufio.NewWriter(w.packed)
	if err := w.line(archiveHeader{Format: archiveFormat, Origin: origin, After: after}); err != nil {
		return nil, errors.Join(err, w.drop())
	}
	return w, nil
}

func (w *archiveWriter) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.lines.Write(append(text, '\n'))
	return err
}

func (w *archiveWriter) add(e *scale.Entry) error {
	w.check.Add(e)
	return w.line(e)
}

// finish makes the archive durable under its name, which is the same whenever the
// same entries are archived again after a crash. name is below the data directory.
func (w *archiveWriter) finish() (name, digest string, end scale.Head, rows uint64, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, w.drop())
		}
	}()
	faults, rows, end := w.check.Finish(scale.Head{})
	if len(faults) > 0 {
		return "", "", end, rows, fmt.Errorf("%w: %s (agentnet log verify names all); nothing is archived while it is so", ErrChain, faults[0].Text)
	}
	err = errors.Join(w.line(archiveEnd{End: &end, Entries: rows}), w.lines.Flush(), w.packed.Close(), w.file.Sync())
	if err = errors.Join(err, w.file.Close()); err != nil {
		return "", "", end, rows, err
	}
	name = fmt.Sprintf("%s.%012d.jsonl.gz", url.PathEscape(w.origin), w.after.Seq+1)
	if err = os.Rename(w.file.Name(), filepath.Join(w.dir, name)); err != nil {
		return "", "", end, rows, err
	}
	err = errors.Join(syncDir(w.dir), syncDir(filepath.Dir(w.dir)))
	return filepath.Join(logArchiveDir, name), hex.EncodeToString(w.sum.Sum(nil)), end, rows, err
}

func (w *archiveWriter) drop() error {
	_ = w.file.Close() // closed already where the last step failed
	return os.Remove(w.file.Name())
}

// ReadLogArchive verifies an archive of the scaling log and hands each entry over;
// each may be nil. What it finds wrong with the rows is in the report; an error
// says that it is no archive, or that it cannot be read to its end.
func ReadLogArchive(r io.Reader, each func(*scale.Entry) error) (scale.LogArchive, error) {
	var out scale.LogArchive
	sum := sha256.New()
	source := io.TeeReader(r, sum)
	packed, err := gzip.NewReader(source)
	if err != nil {
		return out, fmt.Errorf("this is no archive of the scaling log: %w", err)
	}
	lines := bufio.NewScanner(packed)
	lines.Buffer(make([]byte, 0, 64<<10), maxArchiveLine)
	var head archiveHeader
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil || head.Format != archiveFormat {
		return out, errors.Join(errors.New("this is no archive of the scaling log, or one of another version"), lines.Err())
	}
	out.Origin, out.After = head.Origin, head.After
	check := scale.NewVerifier(head.After)
	var last archiveEnd
	for last.End == nil {
		if !lines.Scan() {
			return out, fmt.Errorf("the archive ends before its end, behind %d entries: %w", check.Rows(), errors.Join(io.ErrUnexpectedEOF, lines.Err()))
		}
		if json.Unmarshal(lines.Bytes(), &last) == nil && last.End != nil {
			break
		}
		var e scale.Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return out, fmt.Errorf("line %d of the archive is no entry: %w", check.Rows()+2, err)
		}
		check.Add(&e)
		if each != nil {
			if err := each(&e); err != nil {
				return out, err
			}
		}
	}
	if lines.Scan() || lines.Err() != nil {
		return out, errors.Join(errors.New("the archive goes on behind its end"), lines.Err())
	}
	if _, err := io.Copy(io.Discard, source); err != nil {
		return out, fmt.Errorf("read the archive: %w", err)
	}
	out.Faults, out.Entries, out.End = check.Finish(*last.End)
	if out.Entries != last.Entries && len(out.Faults) == 0 {
		out.Faults = append(out.Faults, scale.Fault{Seq: out.End.Seq, Kind: scale.FaultTruncated, Text: fmt.Sprintf("the archive has %d entries and says that it has %d", out.Entries, last.Entries)})
	}
	out.Digest = hex.EncodeToString(sum.Sum(nil))
	return out, nil
}
