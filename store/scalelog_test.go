package store

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
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

	"agentnet/app/replica"
	"agentnet/app/scale"
)

func scaleNote(t testing.TB, n int) scale.Entry {
	t.Helper()
	e, err := scale.NewEntry(scale.KindNote, day0.Add(time.Duration(n)*time.Second+123456789), "alice", "eu", fmt.Sprintf("note <%d> & more", n), map[string]any{"n": n, "html": "<&>"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustAppend(t testing.TB, s *Store, from, to int) []scale.LogEntry {
	t.Helper()
	var out []scale.LogEntry
	for n := from; n < to; n++ {
		e := scaleNote(t, n)
		e.CauseIn = 1
		first := scaleNote(t, n)
		sealed, err := s.AppendScaleLog(t.Context(), "n1", []scale.Entry{first, e})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sealed...)
	}
	return out
}

func TestScaleLogReadsBackAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	wrote := mustAppend(t, s, 0, 30)
	if wrote[0].Seq != 1 || wrote[59].Seq != 60 || wrote[1].Cause != 1 || wrote[59].Cause != 59 || !strings.HasPrefix(wrote[0].Origin, "n1~") {
		t.Fatalf("got %+v and %+v, want numbers 1 to 60 with causes, of an origin named after the node", wrote[0], wrote[59])
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir})
	again := mustAppend(t, s, 30, 31)
	if again[0].Origin != wrote[0].Origin || again[0].Seq != 61 || again[0].Prev != wrote[59].Hash {
		t.Errorf("after a restart got %+v, want number 61 of %s", again[0], wrote[0].Origin)
	}
	report, err := s.VerifyScaleLog(t.Context(), wrote[0].Origin)
	if err != nil || len(report.Faults) > 0 || report.Rows != 62 || report.Known != report.End {
		t.Errorf("got %+v, %v, want 62 rows without a fault and the noted end", report, err)
	}
	e, err := s.ScaleLogEntry(t.Context(), wrote[0].Origin, 2)
	if err != nil || e.Summary != wrote[1].Summary || string(e.Data) != string(wrote[1].Data) || !e.At.Equal(wrote[1].At) || e.Hash != wrote[1].Hash {
		t.Errorf("got %+v, %v, want %+v", e, err, wrote[1])
	}
	if _, err := s.ScaleLogEntry(t.Context(), wrote[0].Origin, 999); !errors.Is(err, ErrNotFound) {
		t.Errorf("entry 999: got %v, want ErrNotFound", err)
	}
	led, err := s.ScaleLogCaused(t.Context(), wrote[0].Origin, 1)
	if err != nil || len(led) != 1 || led[0].Seq != 2 {
		t.Errorf("led to: got %+v, %v, want entry 2", led, err)
	}
}

func TestScaleLogPages(t *testing.T) {
	s := open(t, Config{})
	wrote := mustAppend(t, s, 0, 20)
	other, _ := scale.NewEntry(scale.KindConfig, day0.Add(time.Hour), "bob", "", "100% more_of it", nil)
	if _, err := s.AppendScaleLog(t.Context(), "n1", []scale.Entry{other}); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		f    scale.LogFilter
		want int
	}{
		{"all", scale.LogFilter{}, 41},
		{"kind", scale.LogFilter{Kinds: []scale.Kind{scale.KindConfig, scale.KindDrain}}, 1},
		{"actor", scale.LogFilter{Actor: "bob"}, 1},
		{"match", scale.LogFilter{Match: "NOTE <7>"}, 2},
		{"match takes no wildcards", scale.LogFilter{Match: "0% more_of"}, 1},
		{"and none", scale.LogFilter{Match: "0%_more"}, 0},
		{"from", scale.LogFilter{From: day0.Add(10 * time.Second)}, 21},
		{"to", scale.LogFilter{To: day0.Add(10 * time.Second)}, 20},
		{"another origin", scale.LogFilter{Origin: "n2"}, 0},
	}
	for _, tt := range tests {
		for _, oldest := range []bool{false, true} {
			var got []scale.LogEntry
			f := tt.f
			f.Oldest, f.Limit = oldest, 7
			for {
				page, err := s.ScaleLogPage(t.Context(), f)
				if err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
				got = append(got, page...)
				if len(page) < f.Limit {
					break
				}
				f.Before = page[len(page)-1].Place
			}
			sorted := slices.IsSortedFunc(got, func(a, b scale.LogEntry) int {
				return (int(b.Seq) - int(a.Seq)) * map[bool]int{true: -1, false: 1}[oldest]
			})
			if len(got) != tt.want || !sorted {
				t.Errorf("%s, oldest first %v: got %d entries, sorted %v, want %d", tt.name, oldest, len(got), sorted, tt.want)
			}
		}
	}
	if _, err := s.ScaleLogPage(t.Context(), scale.LogFilter{Limit: 1001}); err == nil {
		t.Error("a limit of 1001: got no error")
	}
	if origins, err := s.ScaleLogOrigins(t.Context()); err != nil || len(origins) != 1 || origins[0] != wrote[0].Origin {
		t.Errorf("got origins %v, %v", origins, err)
	}
}

// TestScaleLogTampering changes the log as somebody with the database could, and
// wants verify to name the row.
func TestScaleLogTampering(t *testing.T) {
	whole := t.TempDir()
	s := open(t, Config{Dir: whole})
	wrote := mustAppend(t, s, 0, 10)
	origin := wrote[0].Origin
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		sql  string
		kind scale.FaultKind
		seq  uint64
	}{
		{"summary", `UPDATE scale_entry SET summary = 'nothing happened' WHERE seq = 7`, scale.FaultEdited, 7},
		{"data", `UPDATE scale_entry SET data = replace(data, '3', '4') WHERE seq = 8`, scale.FaultEdited, 8},
		{"data that is no JSON", `UPDATE scale_entry SET data = 'x' WHERE seq = 8`, scale.FaultEdited, 8},
		{"kind", `UPDATE scale_entry SET kind = 'drain' WHERE seq = 2`, scale.FaultEdited, 2},
		{"kind that is none", `UPDATE scale_entry SET kind = 'fun' WHERE seq = 2`, scale.FaultEdited, 2},
		{"actor", `UPDATE scale_entry SET actor = 'mallory' WHERE seq = 20`, scale.FaultEdited, 20},
		{"time", `UPDATE scale_entry SET at_ns = at_ns + 1 WHERE seq = 1`, scale.FaultEdited, 1},
		{"cause", `UPDATE scale_entry SET cause = 1 WHERE seq = 6`, scale.FaultEdited, 6},
		{"hash", `UPDATE scale_entry SET hash = prev WHERE seq = 5`, scale.FaultEdited, 5},
		{"removed", `DELETE FROM scale_entry WHERE seq = 9`, scale.FaultRemoved, 9},
		{"first removed", `DELETE FROM scale_entry WHERE seq = 1`, scale.FaultRemoved, 1},
		{"cut off", `DELETE FROM scale_entry WHERE seq > 15`, scale.FaultTruncated, 20},
		{"all cut off", `DELETE FROM scale_entry`, scale.FaultTruncated, 20},
		{"reordered", `UPDATE scale_entry SET place = 1000 WHERE seq = 4; UPDATE scale_entry SET place = 4 WHERE seq = 5; UPDATE scale_entry SET place = 5 WHERE seq = 4`, scale.FaultReordered, 4},
		{"removed and renumbered", `DELETE FROM scale_entry WHERE seq = 9; UPDATE scale_entry SET seq = seq - 1 WHERE seq > 9`, scale.FaultEdited, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			s := open(t, Config{Dir: dir})
			if _, err := s.write.Exec(tt.sql); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("with the triggers: got %v, want a refusal", err)
			}
			if _, err := s.write.Exec(`DROP TRIGGER scale_entry_stays; DROP TRIGGER scale_entry_remains; ` + tt.sql); err != nil {
				t.Fatal(err)
			}
			report, err := s.VerifyScaleLog(t.Context(), origin)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(report.Faults, func(f scale.Fault) bool { return f.Kind == tt.kind && f.Seq == tt.seq }) {
				t.Errorf("got %+v, want entry %d named as %s", report.Faults, tt.seq, tt.kind)
			}
		})
	}
	t.Run("forged as a whole", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		s := open(t, Config{Dir: dir})
		if _, err := s.write.Exec(`DROP TRIGGER scale_entry_stays; DROP TRIGGER scale_entry_remains; DELETE FROM scale_entry`); err != nil {
			t.Fatal(err)
		}
		for n := range 25 { // a chain that is whole in itself, and longer than the old one
			if err := s.writer.apply(t.Context(), forge(origin, scaleNote(t, n))); err != nil {
				t.Fatal(err)
			}
		}
		report, err := s.VerifyScaleLog(t.Context(), origin)
		if err != nil || len(report.Faults) == 0 || report.Faults[0].Kind != scale.FaultReplaced || report.Faults[0].Seq != 20 {
			t.Errorf("got %+v, %v, want entry 20 named as replaced", report.Faults, err)
		}
	})
}

// forge appends to a chain as somebody with the database could.
func forge(origin string, e scale.Entry) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := appendEntries(tx, origin, []scale.Entry{e})
		return err
	}
}

// TestScaleLogKilled kills a process that appends, again and again: the chain
// holds and nothing acknowledged is missing. SCALELOG_ROUNDS is how often; the long
// form is 200.
func TestScaleLogKilled(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("SCALELOG_ROUNDS"))
	if rounds <= 0 {
		rounds = 10
	}
	dir := t.TempDir()
	acked := map[uint64]string{} // number -> hash
	for round := range rounds {
		cmd := childCommand("log", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		lines, kill := bufio.NewScanner(out), 5+rand.IntN(120)
		for seen := 0; lines.Scan(); seen++ {
			seq, hash, ok := strings.Cut(lines.Text(), " ")
			n, err := strconv.ParseUint(seq, 10, 64)
			if err != nil || !ok {
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
		checkKilled(t, dir, round, acked)
	}
	figure(t, "%d acknowledged entries over %d kills of a process that appends: the chain whole each time, nothing missing", len(acked), rounds)
}

func checkKilled(t *testing.T, dir string, round int, acked map[uint64]string) {
	s, err := Open(t.Context(), Config{Dir: dir, Check: CheckQuick})
	if err != nil {
		t.Fatalf("round %d: reopen: %v", round, err)
	}
	defer s.Close()
	origins, err := s.ScaleLogOrigins(t.Context())
	if err != nil || len(origins) != 1 {
		t.Fatalf("round %d: got origins %v, %v, want one", round, origins, err)
	}
	report, err := s.VerifyScaleLog(t.Context(), origins[0])
	if err != nil || len(report.Faults) > 0 {
		t.Fatalf("round %d: got %+v, %v, want a whole chain", round, report.Faults, err)
	}
	there := make(map[uint64]string, report.Rows)
	for after := uint64(0); ; {
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
			t.Fatalf("round %d: entry %d was acknowledged and is missing or another one", round, n)
		}
	}
}

// logChild appends to the log from several goroutines until it is killed, and
// prints number and hash of what was acknowledged.
func logChild(s *Store) int {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 1_000_000 {
				e, err := scale.NewEntry(scale.KindNote, time.Now(), "child", "", fmt.Sprintf("entry %d of %d", n, g), map[string]int{"n": n})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				batch := []scale.Entry{e, e, e}[:1+n%3]
				sealed, err := s.AppendScaleLog(context.Background(), "n1", batch)
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				var b strings.Builder
				for _, e := range sealed {
					fmt.Fprintf(&b, "%d %s\n", e.Seq, e.Hash)
				}
				os.Stdout.WriteString(b.String()) // one write for lines that stay whole
			}
		})
	}
	wg.Wait()
	return 0
}

// TestScaleLedgersBecomeEqual carries the logs of three data directories to each
// other, as the replicator does.
func TestScaleLedgersBecomeEqual(t *testing.T) {
	var stores []*Store
	for i := range 3 {
		s := open(t, Config{})
		node := fmt.Sprintf("n%d", i+1)
		for n := range 5 + 100*i {
			if _, err := s.AppendScaleLog(t.Context(), node, []scale.Entry{scaleNote(t, n)}); err != nil {
				t.Fatal(err)
			}
		}
		stores = append(stores, s)
	}
	for range 2 {
		for i, from := range stores {
			for k, to := range stores {
				if i != k {
					carryAll(t, from.ScaleLedger("x"), to.ScaleLedger("y"))
				}
			}
		}
	}
	for i, s := range stores {
		origins, err := s.ScaleLogOrigins(t.Context())
		if err != nil || len(origins) != 3 {
			t.Fatalf("store %d: got origins %v, %v, want three", i, origins, err)
		}
		for _, o := range origins {
			report, err := s.VerifyScaleLog(t.Context(), o)
			if err != nil || len(report.Faults) > 0 || report.Rows != map[byte]uint64{'1': 5, '2': 105, '3': 205}[o[1]] {
				t.Errorf("store %d, origin %s: got %+v, %v", i, o, report, err)
			}
		}
	}
}

func carryAll(t *testing.T, from, to replica.Ledger) {
	t.Helper()
	have, err := from.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for origin, head := range have.Heads {
		for {
			there, err := to.Position(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			after := there.Heads[origin]
			if after >= head || origin == there.Own {
				break
			}
			b, err := from.Since(t.Context(), origin, after, 4000)
			if err != nil || b.UpTo <= after {
				t.Fatalf("got %+v, %v, want entries above %d", b, err, after)
			}
			if err := to.Apply(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestScaleLedgerRefusesWhatDoesNotFollow(t *testing.T) {
	a, b := open(t, Config{}), open(t, Config{})
	wrote := mustAppend(t, a, 0, 5)
	origin := wrote[0].Origin
	batch, err := a.ScaleLedger("n1").Since(t.Context(), origin, 0, 1<<20)
	if err != nil || len(batch.Entries) != 10 {
		t.Fatalf("got %d entries, %v, want 10", len(batch.Entries), err)
	}
	to := b.ScaleLedger("n2")
	late := batch
	late.After, late.Entries = 5, batch.Entries[5:]
	if err := to.Apply(t.Context(), late); !errors.Is(err, replica.ErrGap) {
		t.Errorf("a batch behind a gap: got %v, want ErrGap", err)
	}
	var e scale.Entry
	if err := json.Unmarshal(batch.Entries[3].Body, &e); err != nil {
		t.Fatal(err)
	}
	e.Summary = "forged"
	forged := batch
	forged.Entries = slices.Clone(batch.Entries)
	forged.Entries[3].Body, _ = json.Marshal(e)
	if err := to.Apply(t.Context(), forged); err != nil {
		t.Errorf("a forged batch: got %v, want it to be left out without holding others up", err)
	}
	if origins, _ := b.ScaleLogOrigins(t.Context()); len(origins) != 0 {
		t.Errorf("got origins %v, want none of the forged batch", origins)
	}
	for range 2 { // the second time there is nothing to do
		if err := to.Apply(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := b.VerifyScaleLog(t.Context(), origin); err != nil || r.Rows != 10 || len(r.Faults) > 0 {
		t.Errorf("got %+v, %v, want 10 whole rows", r, err)
	}
}

// TestScaleLedgerRenews copies a data directory, as a restored backup or a cloned
// machine is one, and lets both write.
func TestScaleLedgerRenews(t *testing.T) {
	dir := t.TempDir()
	a := open(t, Config{Dir: filepath.Join(dir, "a")})
	mustAppend(t, a, 0, 3)
	old := mustAppend(t, a, 3, 4)[0].Origin
	if err := a.ScaleLedger("n1").Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := mustAppend(t, a, 4, 5)
	if next[0].Origin == old || !strings.HasPrefix(next[0].Origin, "n1~") || next[0].Seq != 2 {
		t.Errorf("got %+v, want number 2 of a new origin of n1", next[0])
	}
	for _, o := range []string{old, next[0].Origin} {
		if r, err := a.VerifyScaleLog(t.Context(), o); err != nil || len(r.Faults) > 0 {
			t.Errorf("%s: got %+v, %v", o, r.Faults, err)
		}
	}
}
