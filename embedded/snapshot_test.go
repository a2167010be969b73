package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// snapshotOf returns a snapshot file of a store with one key of each kind.
func snapshotOf(t testing.TB) []byte {
	t.Helper()
	cfg := Config{Dir: t.TempDir()}
	s := start(t, cfg)
	fillAll(t, dial(t, s))
	stop(t, s)
	data, err := os.ReadFile(filepath.Join(cfg.Dir, snapshotName))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDamagedSnapshot cuts a file at every length and flips every byte: each time
// the store starts, empty, and the file is kept beside.
func TestDamagedSnapshot(t *testing.T) {
	whole := snapshotOf(t)
	if _, err := decodeSnapshot(whole); err != nil {
		t.Fatalf("the whole one: %v", err)
	}
	for n := range whole {
		if snap, err := decodeSnapshot(whole[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read as %+v", n, len(whole), snap)
		}
		flipped := bytes.Clone(whole)
		flipped[n] ^= 0x10
		if snap, err := decodeSnapshot(flipped); err == nil {
			t.Fatalf("with byte %d changed it was read as %+v", n, snap)
		}
	}
	dir := t.TempDir()
	for i, data := range [][]byte{nil, whole[:len(whole)/2], []byte("not a snapshot at all, but long enough"), whole[:len(whole)-1], append(bytes.Clone(whole), 0)} {
		if err := os.WriteFile(filepath.Join(dir, snapshotName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, Config{Dir: dir})
		if st := s.Stats(); st.Keys != 0 || st.WasClean {
			t.Errorf("file %d: %+v, want an empty store", i, st)
		}
		dial(t, s).must(t, "SET", "k", "v")
		stop(t, s)
	}
	kept, err := filepath.Glob(filepath.Join(dir, snapshotName+".corrupt-*"))
	if err != nil || len(kept) != keepCorrupt {
		t.Errorf("kept %v, %v, want the newest %d", kept, err, keepCorrupt)
	}
}

// TestTooLargeSnapshot is refused before it is read into memory.
func TestTooLargeSnapshot(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, snapshotName))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Fatal(err)
	}
	if st := start(t, Config{Dir: dir}).Stats(); st.Keys != 0 {
		t.Errorf("got %+v, want an empty store", st)
	}
}

// TestSnapshotWhileWriting takes snapshots while streams are trimmed under them;
// for the race detector, and each one must be readable.
func TestSnapshotWhileWriting(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	s := start(t, cfg)
	stopped := make(chan struct{})
	ended := make(chan struct{})
	c := dial(t, s)
	go func() {
		defer close(ended)
		for i := 1; ; i++ {
			select {
			case <-stopped:
				return
			default:
			}
			if _, err := c.do("XADD", fmt.Sprint("s", i%5), "MAXLEN", "50", fmt.Sprintf("%d-0", i), "p", "body"); err != nil {
				t.Errorf("XADD: %v", err)
				return
			}
			if _, err := c.do("XTRIM", fmt.Sprint("s", i%5), "MINID", fmt.Sprintf("%d-0", i-100)); err != nil {
				t.Errorf("XTRIM: %v", err)
				return
			}
		}
	}()
	for range 30 {
		if err := s.Snapshot(); err != nil {
			t.Fatalf("Snapshot: %v", err)
		}
		data, err := os.ReadFile(filepath.Join(cfg.Dir, snapshotName))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeSnapshot(data); err != nil {
			t.Fatal(err)
		}
	}
	close(stopped)
	<-ended
}

func FuzzDecodeSnapshot(f *testing.F) {
	whole := snapshotOf(f)
	f.Add(whole[:len(whole)-4])
	f.Add([]byte(snapshotMagic + "\x01\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		// With a right checksum, so that the decoder itself is met.
		snap, err := decodeSnapshot(sealed(body))
		if err != nil {
			return
		}
		var again bytes.Buffer
		w := newSnapshotWriter(&again, 1<<30, snap.saved, snap.runID, snap.clean)
		for _, it := range snap.items {
			w.item(it)
		}
		if err := w.end(); err != nil {
			t.Fatalf("write again: %v", err)
		}
		second, err := decodeSnapshot(again.Bytes())
		if err != nil || describe(second) != describe(snap) {
			t.Errorf("read again: %v, %v, want %v", second, err, snap)
		}
		// Whatever it holds, the store survives it.
		s, err := Start(context.Background(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range snap.items {
			it.put(s.redis.DB(0), time.UnixMilli(0))
		}
		s.count()
		stop(t, s)
	})
}

// sealed appends the checksum that body should have.
func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, crcTable))
}

// describe is a snapshot's content as text, in which NaN equals NaN.
func describe(snap *snapshot) string {
	var b strings.Builder
	for _, it := range snap.items {
		fmt.Fprintf(&b, "%q %+v\n", it.fields, *it)
	}
	return b.String()
}
