package journal

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// An Inspection is what a journal's files hold, read without changing them.
type Inspection struct {
	Segments  int
	DiskBytes int64
	Messages  int      // that are live
	TornBytes int64    // at the end of the newest file: a write that was under way
	Damaged   []Damage // at most 100
	SetAside  int      // files that an earlier start could not read and kept
}

// Inspect reads the journal in dir. It takes no lock and works beside the process
// that has it open; what that one writes meanwhile may be seen or not. A folder
// that does not exist is an empty journal.
func Inspect(dir string) (Inspection, error) {
	var in Inspection
	numbers, err := listSegments(dir)
	if os.IsNotExist(err) {
		return in, nil
	}
	if err != nil {
		return in, fmt.Errorf("inspect journal: %w", err)
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*.damaged"))
	if err != nil {
		return in, fmt.Errorf("inspect journal: %w", err)
	}
	in.SetAside = len(aside)
	live := map[string]uint64{} // seq by id
	ids := map[uint64]string{}
	var gone []uint64
	for i, n := range numbers {
		seqs, err := in.segment(segmentPath(dir, n), i == len(numbers)-1, live, ids)
		if os.IsNotExist(err) { // its messages were moved on meanwhile
			continue
		}
		if err != nil {
			return in, fmt.Errorf("inspect journal: %w", err)
		}
		gone = append(gone, seqs...)
	}
	for _, seq := range gone {
		if id, ok := ids[seq]; ok && live[id] == seq {
			delete(live, id)
		}
	}
	in.Messages = len(live)
	return in, nil
}

func (in *Inspection) segment(path string, newest bool, live map[string]uint64, ids map[uint64]string) (gone []uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	in.Segments++
	in.DiskBytes += int64(len(data))
	name := filepath.Base(path)
	_, k, err := parseHeader(data)
	if err != nil {
		if !newest || len(data) > segmentHead {
			in.damage(Damage{name, 0, int64(len(data))})
		}
		return nil, nil
	}
	damaged, tail := scan(data, segmentHead, &k, func(off int, fr frame) {
		if fr.kind == kindDelete {
			gone = append(gone, fr.seq)
			return
		}
		if _, err := decodeMessage(fr.body); err != nil {
			in.damage(Damage{name, int64(off), int64(fr.size)})
			return
		}
		id, _ := messageID(fr.body)
		live[id], ids[fr.seq] = fr.seq, id
	})
	for _, d := range damaged {
		in.damage(Damage{name, int64(d[0]), int64(d[1])})
	}
	switch rest := int64(len(data) - tail); {
	case rest > 0 && newest:
		in.TornBytes = rest
	case rest > 0:
		in.damage(Damage{name, int64(tail), rest})
	}
	return gone, nil
}

func (in *Inspection) damage(d Damage) {
	if len(in.Damaged) < maxDamaged {
		in.Damaged = append(in.Damaged, d)
	}
}

// Copy copies the segments of the journal in dir to into, which must exist, as
// they are at one moment, and returns how many files that were. It works beside
// the process that has the journal open: that one only appends to the newest
// file, and removes an old one after what was live in it stands further on.
func Copy(dir, into string) (int, error) {
	const tries = 20 // compaction removes at most one file in many commits
	var last error
	for range tries {
		n, again, err := copyOnce(dir, into)
		if err == nil && !again {
			return n, nil
		}
		if err != nil && !again {
			return 0, fmt.Errorf("copy journal: %w", err)
		}
		last = err
	}
	return 0, fmt.Errorf("copy journal: its files changed all the time; try again when it is less busy: %w", last)
}

// copyOnce opens all segments, notes how long each is, and only then copies: a
// removed file stays readable while it is open, and what is appended later is not
// taken. again says that the list changed before all were open.
func copyOnce(dir, into string) (n int, again bool, err error) {
	numbers, err := listSegments(dir)
	if os.IsNotExist(err) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	files := make([]*os.File, 0, len(numbers))
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	sizes := make([]int64, 0, len(numbers))
	for _, number := range numbers {
		f, err := os.Open(segmentPath(dir, number))
		if err != nil {
			return 0, os.IsNotExist(err), err
		}
		files = append(files, f)
		info, err := f.Stat()
		if err != nil {
			return 0, false, err
		}
		sizes = append(sizes, info.Size())
	}
	after, err := listSegments(dir)
	if err != nil {
		return 0, false, err
	}
	// A segment that was added meanwhile may hold what was deleted from an old one
	// that is already gone.
	if len(after) != len(numbers) || len(after) > 0 && (after[0] != numbers[0] || after[len(after)-1] != numbers[len(numbers)-1]) {
		return 0, true, fmt.Errorf("%d files became %d", len(numbers), len(after))
	}
	for i, f := range files {
		if err := copySegment(f, sizes[i], filepath.Join(into, filepath.Base(f.Name()))); err != nil {
			return 0, false, err
		}
	}
	return len(files), false, nil
}

func copySegment(from *os.File, size int64, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(from, 0, size))
	if err2 := out.Close(); err == nil {
		err = err2
	}
	return err
}
