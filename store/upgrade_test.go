package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/app/scale"
)

// released are the migrations as they were first used. One that databases have seen
// must never change: what is to be different comes as a further one.
var released = []string{
	"0001_tokens.sql 9644b5a7574fdbb5",
	"0002_changes.sql 667592e9013fa161",
	"0003_scaling.sql 154ae0660b71394a",
	"0004_accounts.sql 761e9da2b056b3d6",
	"0005_scale_anchor.sql 619b3a06028e4341",
	"0006_audit_origins.sql cb07bf05a9a0c137",
	"0007_notify_delivery.sql 9f3df186b85b828a",
}

const (
	ownLog, otherLog     = "n1~0a0b0c0d", "n2~01020304"
	oldEntries, oldAudit = 400, 300
)

// TestEveryOlderSchemaIsUpgradedWithItsRows makes a database of each older schema,
// fills every table of it, upgrades it, and holds that no row is lost or changed,
// that the chains of the scaling log and of the audit log verify and go on, that
// what an upgrade found damaged stays named, and that the copy from before is whole.
func TestEveryOlderSchemaIsUpgradedWithItsRows(t *testing.T) {
	for version := 1; version < len(migrations()); version++ {
		t.Run(fmt.Sprintf("from %d", version), func(t *testing.T) {
			dir := t.TempDir()
			fillSchema(t, dir, version)
			before := allRows(t, dbPath(dir))
			for table, rows := range before {
				if len(rows) == 0 {
					t.Errorf("schema %d: the table %s has no row: fill it in this test", version, table)
				}
			}
			s := open(t, Config{Dir: dir})
			wantRows(t, before, allRows(t, dbPath(dir)))
			wantChains(t, s, version)
			wantUse(t, s, version)

			copies, err := filepath.Glob(filepath.Join(dir, backupDir, fmt.Sprintf("before-schema-%04d-*.db", version+1)))
			if err != nil || len(copies) != 1 {
				t.Fatalf("got copies %v, %v, want one from before", copies, err)
			}
			again := t.TempDir()
			text, err := os.ReadFile(copies[0])
			if err == nil {
				err = os.WriteFile(dbPath(again), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, before, allRows(t, dbPath(again)))
			restored := open(t, Config{Dir: again})
			wantRows(t, before, allRows(t, dbPath(again)))
			if err := restored.Check(t.Context(), CheckFull); err != nil {
				t.Errorf("the copy from before, upgraded: %v", err)
			}
		})
	}
}

// TestAnUpgradeHidesNoDamage edits a row of the scaling log and one of the audit log
// under an older schema.
func TestAnUpgradeHidesNoDamage(t *testing.T) {
	for version := 4; version < len(migrations()); version++ {
		t.Run(fmt.Sprintf("from %d", version), func(t *testing.T) {
			dir := t.TempDir()
			fillSchema(t, dir, version)
			db := pool(dbPath(dir), writing, time.Second, 1)
			for _, text := range []string{`DROP TRIGGER scale_entry_stays`, `UPDATE scale_entry SET summary = 'other' WHERE origin = '` + ownLog + `' AND seq = 300`,
				`UPDATE audit SET detail = 'other' WHERE seq = 200`} {
				if _, err := db.Exec(text); err != nil {
					t.Fatal(err)
				}
			}
			db.Close()
			s := open(t, Config{Dir: dir})
			r, err := s.VerifyScaleLog(t.Context(), ownLog)
			if err != nil || len(r.Faults) != 1 || r.Faults[0].Seq != 300 || r.Faults[0].Kind != scale.FaultEdited {
				t.Errorf("scaling log: got %+v, %v, want entry 300 named", r.Faults, err)
			}
			reports, err := s.VerifyAudit(t.Context(), account.KnownEnd{})
			faults, _ := account.AuditFaults(reports)
			if err != nil || len(faults) != 1 || faults[0].Seq != 200 || faults[0].Kind != chain.FaultEdited {
				t.Errorf("audit log: got %+v, %v, want entry 200 named", faults, err)
			}
		})
	}
}

// TestReleasedMigrationsStay compares the migrations with what was released.
func TestReleasedMigrationsStay(t *testing.T) {
	var got []string
	for _, m := range migrations() {
		sum := sha256.Sum256([]byte(m.sql))
		got = append(got, m.name+" "+hex.EncodeToString(sum[:8]))
	}
	if n := min(len(got), len(released)); len(got) < len(released) || !slices.Equal(got[:n], released[:n]) {
		t.Errorf("got\n%s\nwant\n%s\na migration that databases have seen must not change", strings.Join(got, "\n"), strings.Join(released, "\n"))
	} else if len(got) > len(released) {
		t.Errorf("add to the list what is new: %q", got[n:])
	}
}

// A storedRow is one row by the names of its columns.
type storedRow map[string]string

// allRows reads every table of a database.
func allRows(t *testing.T, path string) map[string][]storedRow {
	t.Helper()
	db := pool(path, reading, time.Second, 1)
	defer db.Close()
	tables, err := db.Query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for tables.Next() {
		var name string
		if err := tables.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := errors.Join(tables.Err(), tables.Close()); err != nil {
		t.Fatal(err)
	}
	out := map[string][]storedRow{}
	for _, name := range names {
		out[name] = tableRows(t, db, name)
	}
	return out
}

func tableRows(t *testing.T, db *sql.DB, table string) []storedRow {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), `SELECT * FROM "`+table+`"`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	out := []storedRow{}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := storedRow{}
		for i, c := range columns {
			row[c] = fmt.Sprintf("%T %v", values[i], values[i])
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// text writes the columns of a row that another one has too.
func (r storedRow) text(like storedRow) string {
	var b strings.Builder
	for _, c := range slices.Sorted(func(yield func(string) bool) {
		for c := range r {
			if _, ok := like[c]; ok && !yield(c) {
				return
			}
		}
	}) {
		fmt.Fprintf(&b, "%s=%s\n", c, r[c])
	}
	return b.String()
}

// wantRows wants each row of before to be there, in all of the columns that are.
func wantRows(t *testing.T, before, after map[string][]storedRow) {
	t.Helper()
	for table, rows := range before {
		now, ok := after[table]
		if !ok || len(now) == 0 {
			t.Errorf("the table %s is gone, or empty", table)
			continue
		}
		there := map[string]int{}
		for _, row := range now {
			there[row.text(rows[0])]++
		}
		for _, row := range rows {
			if row["name"] == "string audit_base" {
				continue // it is in a table of its own since schema 6
			}
			if table == "counter" {
				continue // it only grows; see wantUse
			}
			if key := row.text(now[0]); there[key] == 0 {
				t.Errorf("%s: a row is lost or changed:\n%s", table, key)
				break
			} else {
				there[key]--
			}
		}
	}
}

// wantSame wants the same rows.
func wantSame(t *testing.T, before, after map[string][]storedRow) {
	t.Helper()
	wantRows(t, before, after)
	for table, rows := range after {
		if len(rows) != len(before[table]) {
			t.Errorf("the copy has %d rows in %s, want %d", len(rows), table, len(before[table]))
		}
	}
}

// wantChains verifies both logs and has them go on.
func wantChains(t *testing.T, s *Store, version int) {
	t.Helper()
	if err := s.Check(t.Context(), CheckFull); err != nil {
		t.Errorf("check: %v", err)
	}
	for range 2 {
		if version >= 3 {
			left := uint64(oldEntries)
			if version >= 5 {
				left -= 200
			}
			mine, err := s.VerifyScaleLog(t.Context(), ownLog)
			if err != nil || len(mine.Faults) > 0 || mine.Rows < left || (mine.Anchor != nil) != (version >= 5) {
				t.Errorf("scaling log of this node: got %+v, %v, want at least %d rows without a fault", mine, err, left)
			}
			wholeLog(t, s, otherLog, oldEntries)
			if e, err := s.ScaleLogEntry(t.Context(), ownLog, 300); err != nil || !strings.HasPrefix(e.Summary, "note <149> & more") {
				t.Errorf("entry 300: got %q, %v", e.Summary, err)
			}
		}
		if version >= 4 {
			if got := chains(t, s)["n1"]; !got.Own || got.Rows < oldAudit-50 || got.End.Seq < oldAudit {
				t.Errorf("audit log: got %+v, want the %d entries of before", got, oldAudit-50)
			}
		}
		mustAppend(t, s, 9000, 9002)
		did(t, s, "n1", 1)
	}
	wrote := mustAppend(t, s, 9002, 9003)
	if version >= 3 && wrote[0].Origin != ownLog {
		t.Errorf("the log goes on as %q, want %q", wrote[0].Origin, ownLog)
	}
}

// wantUse reads what was stored before through the program, and has it used.
func wantUse(t *testing.T, s *Store, version int) {
	t.Helper()
	tokens := tokensOf(t, s)
	want := 60
	if version > 1 {
		want = 62
	}
	if len(tokens) != want || tokens["id000002"].Hash == tokens["id000003"].Hash {
		t.Errorf("got %d tokens, want %d", len(tokens), want)
	}
	rev, err := s.CreateToken(t.Context(), token(2000))
	if err != nil || rev <= uint64(want) {
		t.Errorf("a new token: got revision %d, %v, want one above those of before", rev, err)
	}
	if value, _, err := s.Setting(t.Context(), "theme"); err != nil || value != "dark" {
		t.Errorf("setting: got %q, %v", value, err)
	}
	other := open(t, Config{}) // and another node gets all of it
	pull(t, other, s, 1000, 0)
	if got := tokensOf(t, other); len(got) != want+1 {
		t.Errorf("another node got %d tokens, want %d", len(got), want+1)
	}
	if version >= 3 {
		for _, q := range []struct {
			node string
			span time.Duration
			want int
		}{{"", 10 * time.Second, 90}, {"n1", time.Minute, 1}, {"n1", 15 * time.Minute, 1}, {"@eu", 10 * time.Second, 90}} {
			n := 0
			err := s.Rollups(t.Context(), scale.RollupQuery{Span: q.span, Nodes: []string{q.node}, From: day0, To: day0.Add(time.Hour)}, func(_ string, r *scale.Rollup) error {
				if st := r.Stat(scale.Connections); st.Count > 0 && st.Avg >= 100 {
					n++
				}
				return nil
			})
			if err != nil || n != q.want {
				t.Errorf("samples of %q by %v: got %d, %v, want %d", q.node, q.span, n, err, q.want)
			}
		}
		alerts, err := s.Alerts(t.Context())
		silences, err2 := s.Silences(t.Context())
		if errors.Join(err, err2) != nil || len(alerts) != 1 || alerts[0].State != scale.Firing || len(silences) != 1 || silences[0].By != "anna" {
			t.Errorf("got alerts %+v, silences %+v, %v, %v", alerts, silences, err, err2)
		}
	}
	if version >= 4 {
		if _, a, err := s.Session(t.Context(), [32]byte{3}); err != nil || a.Name != "anna" || a.Role != account.Admin {
			t.Errorf("session: got %+v, %v", a, err)
		}
		if left, err := s.RecoveryLeft(t.Context(), "anna"); err != nil || left != 2 {
			t.Errorf("got %d recovery codes, %v, want 2", left, err)
		}
		if l, err := s.Link(t.Context(), [32]byte{4}); err != nil || l.Account != "bert" {
			t.Errorf("link: got %+v, %v", l, err)
		}
		if n, err := s.Admins(t.Context()); err != nil || n != 1 {
			t.Errorf("got %d admins, %v, want 1", n, err)
		}
	}
}
