package store

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
)

func person(name string, role account.Role) account.Account {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return account.Account{Name: name, Role: role, Password: "hash of " + name, Since: at, Created: at}
}

func mustAccount(t testing.TB, s *Store, a account.Account) {
	t.Helper()
	if err := s.CreateAccount(t.Context(), a, false); err != nil {
		t.Fatal(err)
	}
}

func aSession(n byte, name string) account.Session {
	at := time.Date(2026, 11, 23, 13, 0, 0, 0, time.UTC)
	return account.Session{Hash: [32]byte{n}, ID: fmt.Sprint("s", n), Account: name, How: "password", Address: "192.0.2.1", Browser: "Firefox", Created: at, Seen: at, Expires: at.Add(time.Hour)}
}

func TestPeopleAreTheSameOnAllNodes(t *testing.T) {
	a, b := open(t, Config{}), open(t, Config{})
	anna := person("anna", account.Admin)
	anna.Second = "SECRET"
	mustAccount(t, a, anna)
	hashes := [][32]byte{sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))}
	if err := a.PutRecovery(t.Context(), "anna", hashes); err != nil {
		t.Fatal(err)
	}
	if err := a.CreateSession(t.Context(), aSession(1, "anna")); err != nil {
		t.Fatal(err)
	}
	level(t, a, b)
	got, err := b.Account(t.Context(), "anna")
	if err != nil || got != anna {
		t.Errorf("got %+v, %v, want %+v", got, err, anna)
	}
	session, who, err := b.Session(t.Context(), [32]byte{1})
	if err != nil || session != aSession(1, "anna") || who != anna {
		t.Errorf("got %+v of %+v, %v: a session does not open on another node", session, who, err)
	}

	// What was used or ended on one node is of no use on the other.
	if used, err := b.UseRecovery(t.Context(), "anna", hashes[0]); !used || err != nil {
		t.Fatalf("got %v, %v", used, err)
	}
	if n, err := b.EndSessions(t.Context(), account.SessionFilter{Account: "anna"}); n != 1 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	level(t, a, b)
	if used, _ := a.UseRecovery(t.Context(), "anna", hashes[0]); used {
		t.Error("a recovery code was good on both nodes")
	}
	if n, _ := a.RecoveryLeft(t.Context(), "anna"); n != 1 {
		t.Errorf("got %d recovery codes left, want 1", n)
	}
	if _, _, err := a.Session(t.Context(), [32]byte{1}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("an ended session on the other node: got %v", err)
	}
}

func TestADeletedAccountStaysDeleted(t *testing.T) {
	a, b := open(t, Config{}), open(t, Config{})
	mustAccount(t, a, person("anna", account.Admin))
	mustAccount(t, a, person("vic", account.Viewer))
	if err := a.CreateSession(t.Context(), aSession(1, "vic")); err != nil {
		t.Fatal(err)
	}
	level(t, a, b)
	if err := a.DeleteAccount(t.Context(), "vic"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ChangeAccount(t.Context(), "vic", func(v *account.Account) error { v.Role = account.Admin; return nil }); err != nil {
		t.Fatal(err) // b does not know yet
	}
	level(t, a, b)
	for name, s := range map[string]*Store{"a": a, "b": b} {
		if _, err := s.Account(t.Context(), "vic"); !errors.Is(err, account.ErrNotFound) {
			t.Errorf("%s: got %v, want that vic is gone", name, err)
		}
		if list, err := s.Sessions(t.Context(), account.SessionFilter{}); err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v, want no session", name, list, err)
		}
	}
	again := person("vic", account.Operator)
	again.Since = again.Since.Add(time.Hour)
	mustAccount(t, b, again)
	level(t, a, b)
	if got, err := a.Account(t.Context(), "vic"); err != nil || got != again {
		t.Errorf("made again: got %+v, %v", got, err)
	}
}

func TestTheLaterOfTwoRolesWins(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	clock := func(d time.Duration) Config { return Config{Now: func() time.Time { return now.Add(d) }} }
	a, b := open(t, clock(0)), open(t, clock(time.Second))
	mustAccount(t, a, person("anna", account.Admin))
	mustAccount(t, a, person("vic", account.Viewer))
	level(t, a, b)
	role := func(s *Store, r account.Role) {
		if _, err := s.ChangeAccount(t.Context(), "vic", func(v *account.Account) error { v.Role = r; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	role(b, account.Operator)
	role(a, account.Admin)
	level(t, a, b)
	for name, s := range map[string]*Store{"a": a, "b": b} {
		if got, err := s.Account(t.Context(), "vic"); err != nil || got.Role != account.Operator {
			t.Errorf("%s: got %+v, %v, want the role that was given later", name, got, err)
		}
	}
}

func TestTheLastAdminStays(t *testing.T) {
	s := open(t, Config{})
	mustAccount(t, s, person("anna", account.Admin))
	mustAccount(t, s, person("vic", account.Viewer))
	for name, do := range map[string]func() error{
		"another role": func() error {
			_, err := s.ChangeAccount(t.Context(), "anna", func(a *account.Account) error { a.Role = account.Operator; return nil })
			return err
		},
		"disabled": func() error {
			_, err := s.ChangeAccount(t.Context(), "anna", func(a *account.Account) error { a.Disabled = true; return nil })
			return err
		},
		"deleted": func() error { return s.DeleteAccount(t.Context(), "anna") },
	} {
		if err := do(); !errors.Is(err, account.ErrLastAdmin) {
			t.Errorf("%s: got %v, want ErrLastAdmin", name, err)
		}
	}
	if got, err := s.Account(t.Context(), "anna"); err != nil || got != person("anna", account.Admin) {
		t.Errorf("got %+v, %v, want that nothing has changed", got, err)
	}
	if err := s.CreateAccount(t.Context(), person("anna", account.Admin), false); !errors.Is(err, account.ErrExists) {
		t.Errorf("a name twice: got %v", err)
	}
	if err := s.CreateAccount(t.Context(), person("eve", account.Admin), true); !errors.Is(err, account.ErrNotFirst) {
		t.Errorf("a second first admin: got %v", err)
	}
}

func TestHostileChangesOfPeople(t *testing.T) {
	s := open(t, Config{})
	for _, c := range []Change{
		{Kind: accountKind, Key: "anna", Body: []byte(`{"role":"root","since_ms":1,"created_ms":1}`)},
		{Kind: accountKind, Key: "<b>", Body: []byte(`{"role":"admin"}`)},
		{Kind: accountKind, Key: "anna", Body: []byte(`{"role":7}`)},
		{Kind: sessionKind, Key: "zz", Body: []byte(`{"id":"x"}`)},
		{Kind: sessionKind, Key: "00", Rank: Deleted},
		{Kind: recoveryKind, Key: "", Body: []byte(`{}`)},
		{Kind: recoveryKind, Key: fmt.Sprintf("%064d", 0), Body: []byte(`[]`)},
	} {
		err := s.writer.apply(t.Context(), func(tx *sql.Tx) error { return s.appliers[c.Kind](tx, &c) })
		if !errors.Is(err, ErrBadChange) {
			t.Errorf("%s %q %s: got %v, want ErrBadChange", c.Kind, c.Key, c.Body, err)
		}
	}
}

func TestAuditLogIsCheckedRowByRow(t *testing.T) {
	for name, damage := range map[string]string{
		"edited":   `UPDATE audit SET detail = 'nothing happened' WHERE seq = 5`,
		"removed":  `DELETE FROM audit WHERE seq = 5`,
		"replaced": `UPDATE audit SET prev = (SELECT hash FROM audit WHERE seq = 3) WHERE seq = 5`,
	} {
		s := open(t, Config{})
		for i := range 10 {
			if _, err := s.AppendAudit(t.Context(), account.Entry{At: time.Now(), Actor: "anna", Via: account.ViaPage, Action: "a.b", Target: fmt.Sprint(i), Outcome: account.Done}); err != nil {
				t.Fatal(err)
			}
		}
		err := s.writer.apply(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(damage); return err })
		if err != nil {
			t.Fatal(err)
		}
		faults, _, _, err := verified(t, s, chain.Head{})
		if err != nil || len(faults) == 0 || faults[0].Seq != 5 {
			t.Errorf("%s: got %v, %v, want a fault at entry 5", name, faults, err)
		}
	}
	s := open(t, Config{})
	var last account.Entry
	for range 10 {
		var err error
		if last, err = s.AppendAudit(t.Context(), account.Entry{At: time.Now(), Actor: "anna", Action: "a.b", Outcome: account.Done}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.writer.apply(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`DELETE FROM audit WHERE seq > 7`); return err }); err != nil {
		t.Fatal(err)
	}
	if faults, _, _, err := verified(t, s, last.Head()); err != nil || len(faults) != 1 || faults[0].Kind != chain.FaultTruncated {
		t.Errorf("cut off: got %v, %v, want that its end is missing", faults, err)
	}
}

// verified checks the log of a database that has a chain of its own only.
func verified(t testing.TB, db *Store, known chain.Head) (faults []chain.Fault, rows uint64, end chain.Head, err error) {
	t.Helper()
	reports, err := db.VerifyAudit(t.Context(), account.KnownEnd{Head: known})
	if len(reports) > 1 {
		t.Fatalf("got %d chains, want one", len(reports))
	}
	for _, r := range reports {
		faults, rows, end = r.Faults, r.Rows, r.End
	}
	return faults, rows, end, err
}
