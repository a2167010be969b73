package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/app/replica"
)

// did writes n entries as a node would.
func did(t testing.TB, s *Store, node string, n int) (last account.Entry) {
	t.Helper()
	for i := range n {
		var err error
		last, err = s.AppendAudit(t.Context(), account.Entry{At: time.Now(), Node: node, Actor: "anna", Role: account.Admin, Via: account.ViaPage, Action: "token.create",
			Target: fmt.Sprint(i), Outcome: account.Done, Detail: "two\nlines, <b>, \xff and " + strings.Repeat("ü", 700)})
		if err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// pass brings to one what another one's ledger has, in small batches, each twice,
// as the replicator does. A fault of the chain holds an origin up and ends it.
func pass(t testing.TB, to, from replica.Ledger) {
	t.Helper()
	theirs, err := from.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for origin, head := range theirs.Heads {
		for {
			ours, err := to.Position(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at := ours.Heads[origin]
			if at >= head {
				break
			}
			b, err := from.Since(t.Context(), origin, at, 2000)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := to.Apply(t.Context(), b); err != nil {
					t.Fatalf("apply %s %d to %d: %v", origin, b.After, b.UpTo, err)
				}
			}
			if now, _ := to.Position(t.Context()); now.Heads[origin] == at {
				break
			}
		}
	}
}

// chains are the reports of a whole log, by the name of the node in the origin.
func chains(t testing.TB, s *Store) map[string]account.AuditReport {
	t.Helper()
	reports, err := s.VerifyAudit(t.Context(), account.KnownEnd{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]account.AuditReport{}
	for _, r := range reports {
		name, _, _ := strings.Cut(r.Origin, "~")
		if len(r.Faults) > 0 {
			t.Errorf("%s is not whole: %v", r.Origin, r.Faults)
		}
		out[name] = r
	}
	return out
}

func spoil(t testing.TB, s *Store, statement string) {
	t.Helper()
	if err := s.writer.apply(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(statement); return err }); err != nil {
		t.Fatal(err)
	}
}

func TestEveryNodeHoldsTheAuditLogOfAll(t *testing.T) {
	a, b, c := open(t, Config{}), open(t, Config{}), open(t, Config{})
	did(t, a, "a", 30)
	did(t, b, "b", 20)
	pass(t, b.AuditLedger("b"), a.AuditLedger("a"))
	did(t, a, "a", 5)
	pass(t, c.AuditLedger("c"), b.AuditLedger("b")) // b passes on what a wrote
	pass(t, c.AuditLedger("c"), a.AuditLedger("a"))
	got := chains(t, c)
	if got["a"].Rows != 35 || got["b"].Rows != 20 || got["a"].Own || got["b"].Own {
		t.Errorf("got %+v, want 35 entries of a and 20 of b", got)
	}
	if own := chains(t, a)["a"]; own.End != got["a"].End || !own.Own {
		t.Errorf("got the end %v, want %v as at its origin", got["a"].End, own.End)
	}
	list, err := c.Audit(t.Context(), account.AuditFilter{Limit: 1000})
	if err != nil || len(list) != 55 {
		t.Fatalf("got %d entries, %v, want 55", len(list), err)
	}
	for i := 1; i < len(list); i++ {
		if list[i].Place >= list[i-1].Place {
			t.Fatalf("place %d follows %d, want the newest first", list[i].Place, list[i-1].Place)
		}
	}
	of, err := c.Audit(t.Context(), account.AuditFilter{Origin: got["b"].Origin, Limit: 1000})
	if err != nil || len(of) != 20 {
		t.Errorf("got %d entries of b, %v, want 20", len(of), err)
	}
	second, err := c.Audit(t.Context(), account.AuditFilter{Before: list[29].Place, Limit: 1000})
	if err != nil || len(second) != 25 || second[0].Hash != list[30].Hash {
		t.Errorf("got %d entries behind the 30th, %v, want the other 25", len(second), err)
	}
}

func TestAuditOfAnotherNodeIsCheckedByOriginAndRow(t *testing.T) {
	for name, damage := range map[string]string{
		"edited":  `UPDATE audit SET detail = 'nothing happened' WHERE seq = 5 AND origin LIKE 'a~%'`,
		"removed": `DELETE FROM audit WHERE seq = 5 AND origin LIKE 'a~%'`,
	} {
		a, b := open(t, Config{}), open(t, Config{})
		did(t, a, "a", 10)
		did(t, b, "b", 10)
		pass(t, b.AuditLedger("b"), a.AuditLedger("a"))
		spoil(t, b, damage)
		reports, err := b.VerifyAudit(t.Context(), account.KnownEnd{})
		faults, rows := account.AuditFaults(reports)
		if err != nil || len(reports) != 2 || len(faults) == 0 || rows < 19 {
			t.Fatalf("%s: got %v, %v, want faults", name, reports, err)
		}
		for _, f := range faults {
			if !strings.HasPrefix(f.Origin, "a~") || f.Seq < 5 || f.Seq > 6 || !strings.HasPrefix(f.Text, f.Origin+": entry ") {
				t.Errorf("%s: got %+v, want origin a and entry 5", name, f)
			}
		}
		if len(reports[0].Faults) != 0 || !reports[0].Own {
			t.Errorf("%s: got %+v, want the own chain first, and whole", name, reports[0])
		}
	}
	// The end that was noted of another origin's chain.
	a, b := open(t, Config{}), open(t, Config{})
	last := did(t, a, "a", 10)
	pass(t, b.AuditLedger("b"), a.AuditLedger("a"))
	known := account.KnownEnd{Origin: last.Origin, Head: last.Head()}
	if back, err := account.ParseKnownEnd(known.String()); err != nil || back != known {
		t.Errorf("got %v, %v, want %v", back, err, known)
	}
	spoil(t, b, `DELETE FROM audit WHERE seq > 7`)
	reports, err := b.VerifyAudit(t.Context(), known)
	if faults, _ := account.AuditFaults(reports); err != nil || len(faults) != 1 || faults[0].Kind != chain.FaultTruncated || faults[0].Origin != last.Origin {
		t.Errorf("cut off: got %v, %v, want that its end is missing", reports, err)
	}
}

func TestForgedAuditEntriesAreNotTaken(t *testing.T) {
	a, b := open(t, Config{}), open(t, Config{})
	did(t, a, "a", 3)
	from, to := a.AuditLedger("a"), b.AuditLedger("b")
	pos, _ := from.Position(t.Context())
	good, err := from.Since(t.Context(), pos.Own, 0, 1<<20)
	if err != nil || len(good.Entries) != 3 {
		t.Fatalf("got %+v, %v", good, err)
	}
	change := func(body []byte, do func(map[string]any)) []byte {
		var m map[string]any
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		do(m)
		out, _ := json.Marshal(m)
		return out
	}
	for name, body := range map[string][]byte{
		"another actor":  change(good.Entries[1].Body, func(m map[string]any) { m["actor"] = "otto" }),
		"another hash":   change(good.Entries[1].Body, func(m map[string]any) { m["hash"] = strings.Repeat("0", 64) }),
		"another number": change(good.Entries[1].Body, func(m map[string]any) { m["seq"] = 7 }),
		"a line break":   change(good.Entries[1].Body, func(m map[string]any) { m["detail"] = "a\nb" }),
		"no JSON":        []byte("{"),
		"a wild end":     []byte(`{"base":true,"seq":9,"hash":"` + strings.Repeat("0", 64) + `"}`),
		"an end":         []byte(`{"base":true,"seq":2,"hash":"short"}`),
	} {
		forged := good
		forged.Entries = append([]replica.Entry{}, good.Entries...)
		forged.Entries[1].Body = body
		if err := to.Apply(t.Context(), forged); err != nil {
			t.Errorf("%s: got %v, want that it is left out", name, err)
		}
		if got, _ := to.Position(t.Context()); got.Heads[pos.Own] != 0 {
			t.Fatalf("%s: was taken", name)
		}
	}
	mine, _ := to.Position(t.Context())
	foreign := good
	foreign.Origin = mine.Own
	if err := to.Apply(t.Context(), foreign); err == nil {
		t.Error("entries under this node's own name were taken")
	}
	pass(t, to, from)
	if got := chains(t, b)["a"]; got.Rows != 3 {
		t.Errorf("got %+v, want the good ones", got)
	}
}

func TestAuditGoesOnBehindWhatWasRemoved(t *testing.T) {
	a, b, c := open(t, Config{}), open(t, Config{}), open(t, Config{})
	did(t, a, "a", 10)
	pass(t, b.AuditLedger("b"), a.AuditLedger("a")) // b has 1 to 10
	did(t, a, "a", 20)
	if n, err := a.PruneAudit(t.Context(), time.Time{}, 10); err != nil || n != 20 {
		t.Fatalf("got %d removed, %v, want 20", n, err)
	}
	did(t, a, "a", 1)
	pass(t, b.AuditLedger("b"), a.AuditLedger("a"))
	pass(t, c.AuditLedger("c"), b.AuditLedger("b")) // c learns of the hole from b
	for name, s := range map[string]*Store{"b": b, "c": c} {
		if got := chains(t, s)["a"]; got.Rows != 21 || got.Away != 10 || got.End.Seq != 31 {
			t.Errorf("%s: got %+v, want 1 to 10 and 21 to 31", name, got)
		}
	}
	d := open(t, Config{})
	pass(t, d.AuditLedger("d"), a.AuditLedger("a"))
	if got := chains(t, d)["a"]; got.Rows != 11 || got.Away != 0 || got.End.Seq != 31 {
		t.Errorf("got %+v, want 21 to 31", got)
	}
	// All is removed, and the chain goes on everywhere.
	for _, s := range []*Store{a, d} {
		if _, err := s.PruneAudit(t.Context(), time.Now().Add(time.Hour), 1000); err != nil {
			t.Fatal(err)
		}
	}
	did(t, a, "a", 2)
	pass(t, d.AuditLedger("d"), a.AuditLedger("a"))
	if got := chains(t, d)["a"]; got.Rows != 2 || got.End.Seq != 33 {
		t.Errorf("got %+v, want 32 and 33", got)
	}
	// In its own chain a row that was removed is no hole that may be.
	spoil(t, a, `INSERT INTO audit_base (origin, seq, hash) SELECT origin, seq + 5, hash FROM audit WHERE seq = 33`)
	spoil(t, a, `UPDATE audit SET seq = 39 WHERE seq = 33`)
	reports, err := a.VerifyAudit(t.Context(), account.KnownEnd{})
	if faults, _ := account.AuditFaults(reports); err != nil || len(faults) == 0 {
		t.Errorf("got %+v, %v, want faults", reports, err)
	}
}

func TestACopiedDirectoryWritesAChainOfItsOwn(t *testing.T) {
	a := open(t, Config{})
	did(t, a, "a", 5)
	copied := filepath.Join(t.TempDir(), FileName)
	if err := a.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	b := open(t, Config{Dir: filepath.Dir(copied)})
	before, _ := b.AuditLedger("b").Position(t.Context())
	if err := b.AuditLedger("b").Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := b.AuditLedger("b").Position(t.Context())
	if err != nil || after.Own == before.Own || after.Heads[before.Own] != 5 || after.Heads[after.Own] != 1 {
		t.Fatalf("got %+v, %v, want a new origin with one entry", after, err)
	}
	pass(t, a.AuditLedger("a"), b.AuditLedger("b")) // a hears that its origin is abandoned
	if now, _ := a.AuditLedger("a").Position(t.Context()); now.Own == before.Own || now.Own == after.Own {
		t.Errorf("the original goes on as %s, want an origin of its own", now.Own)
	}
	reports, err := a.VerifyAudit(t.Context(), account.KnownEnd{})
	if faults, rows := account.AuditFaults(reports); err != nil || len(faults) != 0 || rows != 7 || len(reports) != 3 {
		t.Errorf("got %+v, %v, want three whole chains", reports, err)
	}
}

func TestAuditOfBeforeOriginsIsKept(t *testing.T) {
	dir := t.TempDir()
	old, err := openSteps(t.Context(), Config{Dir: dir}, migrations()[:4])
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	db := pool(dbPath(dir), writing, time.Second, 1)
	var head chain.Head
	for i := range 9 {
		e, err := account.Seal(head, account.Entry{At: time.Now(), Node: "alpha", Actor: "anna", Via: account.ViaPage, Action: "a.b", Target: fmt.Sprint(i), Outcome: account.Done})
		if err != nil {
			t.Fatal(err)
		}
		head = e.Head()
		if i < 3 { // shortened
			if i == 2 {
				text, _ := json.Marshal(head)
				if _, err := db.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES ('audit_base', ?, 0)`, string(text)); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		if _, err := db.Exec(`INSERT INTO audit (seq, at_ms, node, actor, role, via, address, action, target, outcome, detail, prev, hash) VALUES (?, ?, ?, ?, '', ?, '', ?, ?, ?, '', ?, ?)`,
			int64(e.Seq), toMS(e.At), e.Node, e.Actor, e.Via, e.Action, e.Target, e.Outcome, e.Prev, e.Hash); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	s := open(t, Config{Dir: dir})
	did(t, s, "alpha", 1)
	if got := chains(t, s)["alpha"]; !got.Own || got.Rows != 7 || got.End.Seq != 10 {
		t.Errorf("got %+v, want the six entries of before and a seventh in one chain", got)
	}
}

func TestKnownEndsThatMakeNoSense(t *testing.T) {
	hash := strings.Repeat("a", 64)
	for _, text := range []string{"1", "1:", ":1:" + hash, "x:" + hash, "1:" + hash + "a", "-1:" + hash, "n1:x:" + hash, strings.Repeat("n", 200) + ":1:" + hash} {
		if k, err := account.ParseKnownEnd(text); err == nil {
			t.Errorf("%.40q: got %v, want an error", text, k)
		}
	}
}
