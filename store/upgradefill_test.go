package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/app/notify"
	"agentnet/app/scale"
)

// fillSchema makes a database of an older schema with rows in all of its tables.
func fillSchema(t *testing.T, dir string, version int) {
	t.Helper()
	old, err := openSteps(t.Context(), Config{Dir: dir}, migrations()[:version])
	if version == 1 { // this program cannot work on it
		if err == nil {
			t.Fatal("a program that reads changes opened a schema without them")
		}
		for i := range 60 {
			insertOld(t, dir, token(i+1), i%3 == 1)
		}
		exec1(t, dir, `INSERT INTO setting (name, value, changed_ms) VALUES ('theme', 'dark', 7)`)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		mustCreate(t, old, token(i+1))
	}
	if err := errors.Join(old.RevokeToken(t.Context(), "id000007", day0.Add(time.Hour)), old.PutSetting(t.Context(), "theme", "dark", day0)); err != nil {
		t.Fatal(err)
	}
	other := open(t, Config{})
	mustCreate(t, other, token(1001), token(1002))
	pull(t, old, other, 1000, 0)
	if version >= 3 {
		fillSamples(t, old)
	}
	if version >= 4 {
		fillPeople(t, old)
	}
	if version >= 7 {
		if err := old.AppendDeliveries(t.Context(), []notify.Delivery{{At: day0, Message: "m1", Channel: "ops", Outcome: "delivered", Tries: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if version >= 3 {
		fillLog(t, dir)
	}
	if version >= 4 {
		fillAudit(t, dir, version)
	}
	if version >= 5 { // older entries have left, behind an anchor
		old, err := openSteps(t.Context(), Config{Dir: dir}, migrations()[:version])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := old.TrimScaleLog(t.Context(), LogTrim{Before: day0.Add(100 * time.Second), Archive: true, Node: "n1"}); err != nil || got.Entries != 200 || len(got.Faults) > 0 {
			t.Fatalf("trim: got %+v, %v", got, err)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func exec1(t *testing.T, dir, text string, args ...any) {
	t.Helper()
	db := pool(dbPath(dir), writing, time.Second, 1)
	defer db.Close()
	if _, err := db.Exec(text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func fillSamples(t *testing.T, s *Store) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(5, 5))
	var rows []scale.NodeRollup
	for i := range 90 {
		for _, node := range []string{"", "n1", "@eu"} {
			rows = append(rows, scale.NodeRollup{Node: node, Rollup: rollupOf(rnd, day0.Add(time.Duration(i)*10*time.Second), 10*time.Second, 10)})
		}
	}
	promote := []scale.Promotion{{Node: "n1", From: day0, Span: time.Minute}, {Node: "n1", From: day0, Span: 15 * time.Minute}}
	err := errors.Join(s.PutRollups(t.Context(), rows, promote, day0.Add(time.Hour), 0),
		s.PutAlerts(t.Context(), []scale.Alert{{Rule: "cpu_warning", State: scale.Firing, Value: 0.8, Since: day0}}, nil),
		s.PutSilences(t.Context(), []scale.Silence{{ID: "s1", Rule: "cpu_warning", By: "anna", Reason: "known", From: day0, Until: day0.Add(time.Hour)}}))
	if err != nil {
		t.Fatal(err)
	}
}

func fillPeople(t *testing.T, s *Store) {
	t.Helper()
	for i, name := range []string{"anna", "bert", "cleo"} {
		if err := s.CreateAccount(t.Context(), person(name, []account.Role{account.Admin, account.Operator, account.Viewer}[i]), false); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(s.SignedIn(t.Context(), "anna", day0), s.PutRecovery(t.Context(), "anna", [][32]byte{{1}, {2}}),
		s.CreateSession(t.Context(), account.Session{Hash: [32]byte{3}, ID: "x1", Account: "anna", How: "password", Created: day0, Seen: day0, Expires: day0.Add(1000 * time.Hour)}),
		s.PutLink(t.Context(), account.Link{Hash: [32]byte{4}, Kind: account.LinkReset, Account: "bert", Created: day0, Expires: day0.Add(time.Hour)}))
	if err != nil {
		t.Fatal(err)
	}
}

// fillLog writes the scaling logs of two nodes as every schema has had them.
func fillLog(t *testing.T, dir string) {
	t.Helper()
	db := pool(dbPath(dir), writing, time.Second, 1)
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES (?, ?, 0)`, settingOrigin, ownLog); err != nil {
		t.Fatal(err)
	}
	heads := map[string]scale.Head{}
	for i := range oldEntries {
		for _, origin := range []string{ownLog, otherLog} {
			// The other one's entries are from later on, and stay.
			n := i / 2
			if origin == otherLog {
				n += 3600
			}
			e, err := scale.Seal(heads[origin], scaleNote(t, n))
			if err == nil {
				_, err = insertEntries(tx, origin, []scale.Entry{e})
			}
			if err != nil {
				t.Fatal(err)
			}
			heads[origin] = e.Head()
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// fillAudit writes an audit log whose beginning was removed: one chain before schema
// 6, one for each origin since then.
func fillAudit(t *testing.T, dir string, version int) {
	t.Helper()
	db := pool(dbPath(dir), writing, time.Second, 1)
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	must := func(text string, args ...any) {
		if _, err := tx.Exec(text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if version >= 6 {
		must(`INSERT INTO setting (name, value, changed_ms) VALUES (?, ?, 0)`, settingAuditOrigin, ownLog)
	}
	var head chain.Head
	for i := range oldAudit {
		e, err := account.Seal(head, account.Entry{At: day0.Add(time.Duration(i) * time.Second), Node: "n1", Actor: "anna", Role: account.Admin, Via: account.ViaPage, Action: "token.create", Target: fmt.Sprint(i), Outcome: account.Done, Detail: "ü & <b>"})
		if err != nil {
			t.Fatal(err)
		}
		head = e.Head()
		switch {
		case i < 50:
		case version < 6:
			must(`INSERT INTO audit (seq, at_ms, node, actor, role, via, address, action, target, outcome, detail, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				int64(e.Seq), toMS(e.At), e.Node, e.Actor, string(e.Role), e.Via, e.Address, e.Action, e.Target, e.Outcome, e.Detail, e.Prev, e.Hash)
		default:
			e.Origin = ownLog
			if _, err := insertAudit(tx, e); err != nil {
				t.Fatal(err)
			}
		}
		if i == 49 && version < 6 {
			text, _ := json.Marshal(head)
			must(`INSERT INTO setting (name, value, changed_ms) VALUES ('audit_base', ?, 0)`, string(text))
		} else if i == 49 {
			must(`INSERT INTO audit_base (origin, seq, hash) VALUES (?, ?, ?)`, ownLog, int64(head.Seq), head.Hash)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}
