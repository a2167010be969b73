package journal

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"agentnet/app/relay"
)

func newestFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("segments: %v, %v", files, err)
	}
	slices.Sort(files)
	return files[len(files)-1]
}

// flipByte changes one byte; a negative at counts from the end.
func flipByte(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0x40
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// written returns the folder's one segment with messages 0 to n-1, and where each
// message's frame ends.
func written(t *testing.T, n int) (data []byte, ends []int) {
	t.Helper()
	cfg := Config{Dir: t.TempDir()}
	j := open(t, cfg)
	mustPark(t, j, numbers(0, n)...)
	j.Close()
	data, err := os.ReadFile(newestFile(t, cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}
	_, k, err := parseHeader(data)
	if err != nil {
		t.Fatal(err)
	}
	scan(data, segmentHead, &k, func(off int, f frame) { ends = append(ends, off+f.size) })
	if len(ends) != n || ends[n-1] != len(data) {
		t.Fatalf("%d frames, want %d", len(ends), n)
	}
	return data, ends
}

// reopen puts data in a fresh folder and loads it.
func reopen(t *testing.T, data []byte) ([]*relay.Parked, Stats) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(segmentPath(dir, 1), data, 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer j.Close()
	return load(t, j), j.Stats()
}

// TestTornWrite cuts the file at every byte of the last three records.
func TestTornWrite(t *testing.T) {
	data, ends := written(t, 8)
	for cut := ends[4]; cut <= len(data); cut++ {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		got, st := reopen(t, data[:cut])
		wantMessages(t, got, numbers(0, whole)...)
		if torn := int64(cut - ends[whole-1]); st.TornBytes != torn || len(st.Damaged) != 0 {
			t.Fatalf("cut at %d: torn %d, damaged %v, want %d, none", cut, st.TornBytes, st.Damaged, torn)
		}
	}
}

// TestHole is a torn write of another kind: the file has its length but the disk
// never got the last block.
func TestHole(t *testing.T) {
	data, ends := written(t, 8)
	clear(data[ends[5]+20:])
	got, st := reopen(t, data)
	wantMessages(t, got, numbers(0, 6)...)
	if st.TornBytes == 0 {
		t.Error("nothing was reported as torn")
	}
}

// TestTornHeader is a crash while a segment is made.
func TestTornHeader(t *testing.T) {
	data, _ := written(t, 2)
	for cut := 0; cut < segmentHead; cut++ {
		got, st := reopen(t, data[:cut])
		wantMessages(t, got)
		if len(st.Damaged) != 0 {
			t.Fatalf("cut at %d: damaged %v, want none", cut, st.Damaged)
		}
	}
}

// TestFlippedBytes changes each byte of a file in turn. Exactly the hit record is
// lost, and the loss is reported; damage of one copy of the header costs nothing.
func TestFlippedBytes(t *testing.T) {
	clean, ends := written(t, 5)
	for at := range clean {
		data := slices.Clone(clean)
		data[at] ^= byte(1 << (at % 8))
		got, st := reopen(t, data)
		hit, _ := slices.BinarySearch(ends, at+1) // the record that holds byte at
		var want []int
		for n := range ends {
			if at < segmentHead || n != hit {
				want = append(want, n)
			}
		}
		wantMessages(t, got, want...)
		lost := len(st.Damaged) > 0 || st.TornBytes > 0
		if lost != (at >= segmentHead) {
			t.Fatalf("byte %d: damaged %v, torn %d", at, st.Damaged, st.TornBytes)
		}
	}
}

// TestManyDamagedPlaces also scrambles whole stretches; what is loaded is genuine.
func TestManyDamagedPlaces(t *testing.T) {
	clean, ends := written(t, 60)
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		data := slices.Clone(clean)
		hit := map[int]bool{}
		for range 1 + r.IntN(6) {
			at := segmentHead + r.IntN(len(data)-segmentHead)
			for i := at; i < min(at+1+r.IntN(900), len(data)); i++ {
				if c := byte(r.Uint32()); c != data[i] {
					data[i] = c
					n, _ := slices.BinarySearch(ends, i+1)
					hit[n] = true
				}
			}
		}
		var want []int
		for n := range ends {
			if !hit[n] {
				want = append(want, n)
			}
		}
		got, st := reopen(t, data)
		wantMessages(t, got, want...)
		if len(st.Damaged) == 0 && st.TornBytes == 0 {
			t.Fatalf("seed %d: no damage reported", seed)
		}
	}
}

// TestForgedFrame shows that a payload cannot pass for a frame, even when the
// frame around it is damaged: marker and salt are not known to who sends.
func TestForgedFrame(t *testing.T) {
	foreign := newKey()
	forged, start := beginFrame(nil, &foreign, kindPut, 99)
	forged = appendMessage(forged, message(99))
	endFrame(forged, &foreign, start)

	cfg := Config{Dir: t.TempDir()}
	j := open(t, cfg)
	p := message(1)
	p.Payload.Data = forged
	if err := park(t, j, p)[0]; err != nil {
		t.Fatal(err)
	}
	mustPark(t, j, 2)
	j.Close()
	flipByte(t, newestFile(t, cfg.Dir), segmentHead+frameHead)
	wantMessages(t, load(t, open(t, cfg)), 2)
}

// TestLostHeader loses both copies: the file is put aside for the operator, and
// the others are read.
func TestLostHeader(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	j := open(t, cfg)
	mustPark(t, j, 1)
	j.Close()
	first := newestFile(t, cfg.Dir)
	j = open(t, cfg)
	mustPark(t, j, 2)
	j.Close()
	flipByte(t, first, 3)
	flipByte(t, first, headerSize+3)
	j = open(t, cfg)
	wantMessages(t, load(t, j), 2)
	if st := j.Stats(); len(st.Damaged) != 1 {
		t.Errorf("damaged %v, want one", st.Damaged)
	}
	if _, err := os.Stat(first + ".damaged"); err != nil {
		t.Errorf("the file was not kept: %v", err)
	}
}

// TestDamageWhileRunning damages a live record of an old segment behind the
// journal's back. Compaction reports it and goes on.
func TestDamageWhileRunning(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SegmentBytes: 4 << 10}
	j := open(t, cfg)
	load(t, j)
	first := newestFile(t, cfg.Dir)
	mustPark(t, j, 0)
	mustPark(t, j, 1)
	flipByte(t, first, segmentHead+frameHead+frameMin+5)
	for n := 2; n < 200; n++ {
		mustPark(t, j, n)
		j.Delete(message(n).MessageID)
	}
	mustPark(t, j, 200)
	st := j.Stats()
	if len(st.Damaged) != 1 || st.Count != 2 || st.DiskBytes > 10*cfg.SegmentBytes {
		t.Errorf("damaged %v, count %d, disk %d, want one, 2, few", st.Damaged, st.Count, st.DiskBytes)
	}
	j.Close()
	wantMessages(t, load(t, open(t, cfg)), 1, 200)
}

// TestPowerCut keeps, at a random fsync, only what earlier fsyncs covered, plus
// any part of what was not covered. All that was acked by then is loaded.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		cutAt, syncs := 1+r.IntN(40), 0
		synced := map[string]int64{}
		var acked []int
		after := t.TempDir()
		cfg := Config{Dir: t.TempDir(), SegmentBytes: 6 << 10}
		cfg.sync = func(f *os.File) error {
			syncs++
			if syncs == cutAt {
				cutPower(t, r, cfg.Dir, after, synced)
			}
			if err := datasync(f); err != nil {
				return err
			}
			st, err := f.Stat()
			synced[filepath.Base(f.Name())] = st.Size()
			return err
		}
		j := open(t, cfg)
		load(t, j)
		for n := 0; syncs < cutAt; n++ {
			before := syncs
			mustPark(t, j, n)
			if syncs < cutAt || before == cutAt {
				acked = append(acked, n)
			}
		}
		j.Close()
		next := open(t, Config{Dir: after})
		got := load(t, next)
		next.Close()
		if len(got) < len(acked) {
			t.Fatalf("seed %d: %d messages, want the %d that were acked", seed, len(got), len(acked))
		}
		for i, n := range acked {
			if !reflect.DeepEqual(got[i], message(n)) {
				t.Fatalf("seed %d: message %d differs", seed, n)
			}
		}
	}
}

// cutPower copies dir to after as a power cut might leave it.
func cutPower(t *testing.T, r *rand.Rand, dir, after string, synced map[string]int64) {
	files, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		keep := max(synced[filepath.Base(path)], segmentHead)
		rest := data[keep:]
		rest = rest[:r.IntN(len(rest)+1)]
		if r.IntN(2) == 0 && len(rest) > 0 {
			clear(rest[r.IntN(len(rest)):]) // blocks that never reached the disk
		}
		if err := os.WriteFile(filepath.Join(after, filepath.Base(path)), data[:int(keep)+len(rest)], 0o600); err != nil {
			t.Error(err)
		}
	}
}
