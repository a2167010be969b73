package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentnet/app/scale"
)

// mustTrim trims and wants so many entries to leave.
func mustTrim(t *testing.T, s *Store, trim LogTrim, want uint64) LogTrimmed {
	t.Helper()
	trim.Node = "n1"
	got, err := s.TrimScaleLog(t.Context(), trim)
	if err != nil || got.Entries != want || len(got.Faults) > 0 {
		t.Fatalf("trim: got %+v, %v, want %d entries gone", got, err, want)
	}
	return got
}

func readArchive(t *testing.T, path string) (scale.LogArchive, []scale.Entry) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var entries []scale.Entry
	got, err := ReadLogArchive(f, func(e *scale.Entry) error { entries = append(entries, *e); return nil })
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return got, entries
}

func wholeLog(t *testing.T, s *Store, origin string, rows uint64) scale.LogReport {
	t.Helper()
	r, err := s.VerifyScaleLog(t.Context(), origin)
	if err != nil || len(r.Faults) > 0 || r.Rows != rows {
		t.Fatalf("verify: got %+v, %v, want %d rows without a fault", r, err, rows)
	}
	return r
}

func TestScaleLogTrimmed(t *testing.T) {
	s := open(t, Config{})
	wrote := mustAppend(t, s, 0, 30) // two entries a second
	origin := wrote[0].Origin
	mustTrim(t, s, LogTrim{Before: day0, Archive: true}, 0)
	got := mustTrim(t, s, LogTrim{Before: day0.Add(10 * time.Second), Archive: true}, 20)
	a := got.Anchors[0]
	if a.Head.Seq != 20 || a.Head != wrote[19].Head() || a.Gone != a.Head || a.Entries != 20 {
		t.Errorf("got anchor %+v, want it behind entry 20", a)
	}
	r := wholeLog(t, s, origin, 41) // 40 and the entry that signs
	if r.Anchor == nil || *r.Anchor != a {
		t.Errorf("verify names %+v, want %+v", r.Anchor, a)
	}
	first, entries := readArchive(t, filepath.Join(s.Dir(), a.File))
	if len(first.Faults) > 0 || first.Entries != 20 || first.End != a.Head || first.Digest != a.Digest || entries[7].Hash != wrote[7].Hash || entries[7].Summary != wrote[7].Summary {
		t.Errorf("got archive %+v, want entries 1 to 20 as they were written", first)
	}
	if text, fault := first.Beside(r.Anchor); fault != nil || !strings.Contains(text, "goes on with entry 21") {
		t.Errorf("the archive beside the log: got %q, %v", text, fault)
	}
	if _, err := s.ScaleLogEntry(t.Context(), origin, 20); !errors.Is(err, ErrNotFound) {
		t.Errorf("entry 20: got %v, want it gone", err)
	}
	next := mustAppend(t, s, 30, 31)
	if next[0].Seq != 62 {
		t.Errorf("got number %d behind the trimmed log, want 62", next[0].Seq)
	}
	// Without archives entries simply leave, and the newest one never does.
	got = mustTrim(t, s, LogTrim{Before: time.Now().Add(time.Hour)}, 42)
	if got.Anchors[0].File != "" {
		t.Errorf("got an archive %q, want none", got.Anchors[0].File)
	}
	r = wholeLog(t, s, origin, 2)
	if text, fault := first.Beside(r.Anchor); fault != nil || !strings.Contains(text, "entries 21 to 62 are in later archives") {
		t.Errorf("an older archive beside the log: got %q, %v", text, fault)
	}
}

func TestScaleLogTrimmedBySize(t *testing.T) {
	s := open(t, Config{})
	origin := mustAppend(t, s, 0, 100)[0].Origin
	trim := LogTrim{Bytes: 100 * (entryOverhead + 60), Archive: true, Node: "n1"}
	for range 3 {
		if _, err := s.TrimScaleLog(t.Context(), trim); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.VerifyScaleLog(t.Context(), origin)
	if err != nil || len(r.Faults) > 0 || r.Rows < 50 || r.Rows > 102 {
		t.Errorf("got %+v, %v, want about 100 of 200 rows kept", r, err)
	}
	if place, err := s.overfull(t.Context(), trim.Bytes+2000); err != nil || place != 0 {
		t.Errorf("the log is still too large: got place %d, %v", place, err)
	}
}

// TestTrimmedScaleLogTampering changes a trimmed log, and wants verify to name it.
func TestTrimmedScaleLogTampering(t *testing.T) {
	whole := t.TempDir()
	s := open(t, Config{Dir: whole})
	origin := mustAppend(t, s, 0, 20)[0].Origin
	mustTrim(t, s, LogTrim{Before: day0.Add(5 * time.Second), Archive: true}, 10)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, sql string
		kind      scale.FaultKind
		seq       uint64
	}{
		{"edited", `UPDATE scale_entry SET summary = 'nothing' WHERE seq = 15`, scale.FaultEdited, 15},
		{"first edited", `UPDATE scale_entry SET prev = hash WHERE seq = 11`, scale.FaultEdited, 11},
		{"first removed", `DELETE FROM scale_entry WHERE seq = 11`, scale.FaultRemoved, 11},
		{"removed", `DELETE FROM scale_entry WHERE seq = 20`, scale.FaultRemoved, 20},
		{"reordered", `UPDATE scale_entry SET place = 1000 WHERE seq = 14; UPDATE scale_entry SET place = 14 WHERE seq = 15; UPDATE scale_entry SET place = 15 WHERE seq = 14`, scale.FaultReordered, 14},
		{"cut off", `DELETE FROM scale_entry WHERE seq > 30`, scale.FaultTruncated, 41},
		{"removed as if archived", `UPDATE scale_anchor SET seq = 12, hash = (SELECT hash FROM scale_entry WHERE seq = 12), gone_seq = 12, gone_hash = (SELECT hash FROM scale_entry WHERE seq = 12); DELETE FROM scale_entry WHERE seq <= 12`, scale.FaultRemoved, 12},
		{"anchor edited", `UPDATE scale_anchor SET hash = 'x'`, scale.FaultReplaced, 11},
		{"archive forged", `UPDATE scale_anchor SET digest = 'x'`, scale.FaultRemoved, 10},
		{"anchor removed", `DROP TRIGGER scale_anchor_remains; DELETE FROM scale_anchor`, scale.FaultEdited, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			s := open(t, Config{Dir: dir})
			if _, err := s.write.Exec(`DROP TRIGGER scale_entry_stays; DROP TRIGGER scale_entry_remains; ` + tt.sql); err != nil {
				t.Fatal(err)
			}
			r, err := s.VerifyScaleLog(t.Context(), origin)
			if err != nil || !slices.ContainsFunc(r.Faults, func(f scale.Fault) bool { return f.Kind == tt.kind && f.Seq == tt.seq }) {
				t.Errorf("got %+v, %v, want entry %d named as %s", r.Faults, err, tt.seq, tt.kind)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		s := open(t, Config{Dir: whole})
		for _, sql := range []string{`DELETE FROM scale_entry WHERE seq = 11`, `UPDATE scale_anchor SET gone_seq = 9`, `DELETE FROM scale_anchor`} {
			if _, err := s.write.Exec(sql); err == nil {
				t.Errorf("%s: got no error", sql)
			}
		}
		// What was edited is evidence: it does not leave.
		if _, err := s.write.Exec(`DROP TRIGGER scale_entry_stays; UPDATE scale_entry SET actor = 'mallory' WHERE seq = 12`); err != nil {
			t.Fatal(err)
		}
		for _, archive := range []bool{true, false} {
			got, err := s.TrimScaleLog(t.Context(), LogTrim{Before: day0.Add(15 * time.Second), Archive: archive, Node: "n1"})
			if err != nil || got.Entries != 0 || !errors.Is(got.Faults[origin], ErrChain) || !strings.Contains(got.Faults[origin].Error(), "entry 12") {
				t.Errorf("archive %v: got %+v, %v, want nothing to leave and entry 12 named", archive, got, err)
			}
		}
	})
}

func TestDamagedArchiveIsNamed(t *testing.T) {
	s := open(t, Config{})
	mustAppend(t, s, 0, 20)
	a := mustTrim(t, s, LogTrim{Before: day0.Add(5 * time.Second), Archive: true}, 10).Anchors[0]
	raw, err := os.ReadFile(filepath.Join(s.Dir(), a.File))
	if err != nil {
		t.Fatal(err)
	}
	for at := range raw {
		bad := slices.Clone(raw)
		bad[at] ^= 0x41
		got, err := ReadLogArchive(strings.NewReader(string(bad)), nil)
		if _, fault := got.Beside(&a); err == nil && len(got.Faults) == 0 && fault == nil {
			t.Errorf("byte %d of %d changed: got no fault", at, len(raw))
		}
		if _, err := ReadLogArchive(strings.NewReader(string(raw[:at])), nil); err == nil {
			t.Errorf("cut at byte %d: got no error", at)
		}
	}
}

func FuzzReadLogArchive(f *testing.F) {
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ReadLogArchive(strings.NewReader(string(b)), nil) // must return
	})
}

// TestTrimmedScaleLogIsCarried gives a trimmed log to a node that has nothing of it,
// and to one that was away since before it was trimmed.
func TestTrimmedScaleLogIsCarried(t *testing.T) {
	from := open(t, Config{})
	origin := mustAppend(t, from, 0, 10)[0].Origin
	empty, away := open(t, Config{}), open(t, Config{})
	carryAll(t, from.ScaleLedger("n1"), away.ScaleLedger("n3")) // has 1 to 20
	wrote := mustAppend(t, from, 10, 30)
	mustTrim(t, from, LogTrim{Before: day0.Add(20 * time.Second), Archive: true}, 40)
	for name, to := range map[string]*Store{"n2": empty, "n3": away} {
		for range 2 { // what comes again is passed over
			carryAll(t, from.ScaleLedger("n1"), to.ScaleLedger(name))
		}
		r := wholeLog(t, to, origin, 21)
		if r.Anchor == nil || r.Anchor.Head.Seq != 40 || r.End.Seq != 61 {
			t.Errorf("%s: got %+v, want the log behind entry 40", name, r)
		}
		e, err := to.ScaleLogEntry(t.Context(), origin, 41)
		if err != nil || e.Hash != wrote[20].Hash {
			t.Errorf("%s: entry 41: got %+v, %v", name, e, err)
		}
		own, err := to.ScaleLedger(name).Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wholeLog(t, to, own.Own, 1) // it signed that
	}
	// The rows from before the gap leave for an archive of their own.
	got, err := away.TrimScaleLog(t.Context(), LogTrim{Before: day0.Add(-time.Hour), Archive: true, Node: "n3"})
	if err != nil || got.Entries != 20 || len(got.Anchors) != 1 {
		t.Fatalf("got %+v, %v, want the 20 entries from before the gap gone", got, err)
	}
	old, _ := readArchive(t, filepath.Join(away.Dir(), got.Anchors[0].File))
	if old.Entries != 20 || len(old.Faults) > 0 {
		t.Errorf("got %+v, want entries 1 to 20", old)
	}
	if text, fault := old.Beside(&got.Anchors[0]); fault != nil || !strings.Contains(text, "21 to 40 never were") {
		t.Errorf("got %q, %v", text, fault)
	}
	wholeLog(t, away, origin, 21)
	if got, err := from.ScaleLedger("n1").Since(t.Context(), origin, 0, 1); err != nil || len(got.Entries) != 2 || got.UpTo != 41 {
		t.Errorf("got %d entries up to %d, %v, want the anchor and one entry however small the batch", len(got.Entries), got.UpTo, err)
	}
}

// trimChild appends and trims until it is killed, and prints what was acknowledged.
func trimChild(s *Store) int {
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for n := range 1_000_000 {
				e, err := scale.NewEntry(scale.KindNote, time.Now(), "child", "", fmt.Sprintf("%d of %d", n, g), nil)
				if err != nil {
					panic(err)
				}
				sealed, err := s.AppendScaleLog(context.Background(), "n1", []scale.Entry{e})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Printf("%d %s\n", sealed[0].Seq, sealed[0].Hash)
			}
		})
	}
	wg.Go(func() {
		for {
			got, err := s.TrimScaleLog(context.Background(), LogTrim{Bytes: 20 * entryOverhead, Archive: true, Node: "n1"})
			if err != nil || len(got.Faults) > 0 {
				fmt.Fprintln(os.Stderr, got.Faults, err)
				os.Exit(1)
			}
		}
	})
	wg.Wait()
	return 0
}

// TestScaleLogKilledWhileTrimmed kills a process that appends and trims at once: the
// chain holds each time, and in the end every acknowledged entry is in the log or in
// an archive, and the archives follow one another without a gap.
func TestScaleLogKilledWhileTrimmed(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("SCALELOG_ROUNDS"))
	if rounds <= 0 {
		rounds = 6
	}
	dir := t.TempDir()
	acked := map[uint64]string{}
	for round := range rounds {
		cmd := childCommand("trim", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		lines, kill := bufio.NewScanner(out), 20+rand.IntN(80)
		for seen := 0; lines.Scan(); seen++ {
			seq, hash, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.ParseUint(seq, 10, 64)
			if err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			acked[n] = hash
			if seen == kill {
				cmd.Process.Signal(syscall.SIGKILL)
			}
		}
		watchdog.Stop()
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d: child ended with %v, want killed", round, err)
		}
		checkTrimmed(t, dir, round, acked, round == rounds-1)
	}
}

func checkTrimmed(t *testing.T, dir string, round int, acked map[uint64]string, last bool) {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatalf("round %d: reopen: %v", round, err)
	}
	defer s.Close()
	origins, err := s.ScaleLogOrigins(t.Context())
	if err != nil || len(origins) != 1 {
		t.Fatalf("round %d: got origins %v, %v, want one", round, origins, err)
	}
	r, err := s.VerifyScaleLog(t.Context(), origins[0])
	if err != nil || len(r.Faults) > 0 {
		t.Fatalf("round %d: got %+v, %v, want a whole chain", round, r.Faults, err)
	}
	if !last {
		return
	}
	there := map[uint64]string{}
	files, err := filepath.Glob(filepath.Join(dir, logArchiveDir, "*.jsonl.gz"))
	if err != nil || len(files) < 2 || r.Anchor == nil {
		t.Fatalf("got %d archives and anchor %+v, %v", len(files), r.Anchor, err)
	}
	var end scale.Head
	for _, path := range files { // their names are in the order of their first entries
		a, entries := readArchive(t, path)
		if a.After.Seq > r.Anchor.Gone.Seq || a.After == r.Anchor.Gone {
			continue // written before the kill, and not yet signed: its entries are in the log
		}
		if a.After != end || len(a.Faults) > 0 {
			t.Fatalf("archive %s begins behind %+v, want %+v; faults %+v", filepath.Base(path), a.After, end, a.Faults)
		}
		for i := range entries {
			there[entries[i].Seq] = entries[i].Hash
		}
		end = a.End
	}
	if end != r.Anchor.Gone {
		t.Fatalf("the archives end at %+v, the log begins behind %+v", end, r.Anchor.Gone)
	}
	archived := len(there)
	for after := r.Anchor.Head.Seq; ; {
		page, err := s.ScaleLog(origins[0]).Entries(t.Context(), after, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			there[page[i].Seq], after = page[i].Hash, page[i].Seq
		}
	}
	for n, hash := range acked {
		if there[n] != hash {
			t.Errorf("entry %d was acknowledged and is missing or another one", n)
		}
	}
	figure(t, "%d acknowledged entries over %d kills of a process that appends and trims: the chain whole each time, %d entries in %d archives, %d in the log, nothing missing", len(acked), round+1, archived, len(files), len(there)-archived)
}
