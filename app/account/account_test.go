package account_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/store"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	password = "four words and more"
	wrong    = "wrong wrong wrong"
)

// A clock that stands until a test moves it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type bench struct {
	*account.Service
	db    *store.Store
	clock *clock
}

var cheap = account.Cost{Memory: 64, Time: 1, Lanes: 1}

func newBench(t *testing.T, change ...func(*account.Config)) *bench {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b := &bench{db: db, clock: &clock{at: time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)}}
	cfg := account.Config{Rows: db, Node: "n1", Cost: cheap, Now: b.clock.now}
	for _, f := range change {
		f(&cfg)
	}
	if b.Service, err = account.New(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) make(t *testing.T, name string, role account.Role) {
	t.Helper()
	if _, err := b.Create(t.Context(), account.Spec{Name: name, Role: role, Password: password}); err != nil {
		t.Fatal(err)
	}
}

func from(address string) account.Attempt { return account.Attempt{Address: address} }

func TestSessionsEnd(t *testing.T) {
	b := newBench(t, func(c *account.Config) { c.Idle, c.Lifetime = time.Hour, 10*time.Hour })
	b.make(t, "anna", account.Admin)
	sign := func() string {
		ticket, err := b.SignIn(t.Context(), "anna", password, from("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		return ticket.Session
	}
	idle := sign()
	b.clock.add(59 * time.Minute)
	if _, err := b.Visit(t.Context(), idle); err != nil {
		t.Errorf("used after 59 minutes: %v", err)
	}
	b.clock.add(59 * time.Minute)
	if _, err := b.Visit(t.Context(), idle); err != nil {
		t.Errorf("used every 59 minutes: %v", err)
	}
	b.clock.add(time.Hour)
	if _, err := b.Visit(t.Context(), idle); !errors.Is(err, account.ErrSignedOut) {
		t.Errorf("idle for an hour: got %v, want signed out", err)
	}
	busy := sign()
	for range 24 {
		b.clock.add(25 * time.Minute)
		_, err := b.Visit(t.Context(), busy)
		if over := b.clock.now().Sub(time.Date(2026, 11, 23, 16, 58, 0, 0, time.UTC)) >= 10*time.Hour; (err != nil) != over {
			t.Errorf("at %v: got %v, want ended = %v", b.clock.now(), err, over)
		}
	}
	for _, nonsense := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 5000), "' OR 1=1"} {
		if _, err := b.Visit(t.Context(), nonsense); !errors.Is(err, account.ErrSignedOut) {
			t.Errorf("%.20q: got %v, want signed out", nonsense, err)
		}
	}
	if list, err := b.db.Sessions(t.Context(), account.SessionFilter{}); err != nil || len(list) != 2 || strings.Contains(fmt.Sprint(list), busy) {
		t.Errorf("got %v, %v, want two sessions without their secrets", list, err)
	}
	if err := b.db.Sweep(t.Context(), b.clock.now(), b.clock.now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if list, _ := b.db.Sessions(t.Context(), account.SessionFilter{}); len(list) != 0 {
		t.Errorf("got %d sessions after the sweep, want none", len(list))
	}
}

func TestSessionsOfOneAccountAreBounded(t *testing.T) {
	b := newBench(t)
	b.make(t, "anna", account.Admin)
	var first string
	for i := range 60 {
		ticket, err := b.SignIn(t.Context(), "anna", password, from("192.0.2.1"))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = ticket.Session
		}
		b.clock.add(time.Second)
	}
	if list, _ := b.db.Sessions(t.Context(), account.SessionFilter{}); len(list) != 50 {
		t.Errorf("got %d sessions, want 50", len(list))
	}
	if _, err := b.Visit(t.Context(), first); !errors.Is(err, account.ErrSignedOut) {
		t.Errorf("the oldest: got %v, want signed out", err)
	}
}

func TestGuessingSlowsDownAndRecovers(t *testing.T) {
	b := newBench(t)
	b.make(t, "anna", account.Admin)
	ticket, err := b.SignIn(t.Context(), "anna", password, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	guess := func(address string) error {
		_, err := b.SignIn(t.Context(), "anna", wrong, from(address))
		b.clock.add(100 * time.Millisecond)
		return err
	}
	refused, waits := 0, 0
	for i := range 200 { // from many addresses: the account's own measure holds
		err := guess(fmt.Sprintf("198.51.100.%d", i))
		var wait *account.WaitError
		switch {
		case errors.Is(err, account.ErrRefused):
			refused++
		case errors.As(err, &wait):
			waits++
			if wait.For <= 0 || wait.For > time.Minute {
				t.Fatalf("told to wait %v, want at most a minute", wait.For)
			}
		default:
			t.Fatal(err)
		}
	}
	if refused < 10 || refused > 11 || waits < 180 {
		t.Errorf("got %d guesses checked and %d sent away, want some 10", refused, waits)
	}
	if _, err := b.SignIn(t.Context(), "anna", password, account.Attempt{Address: "203.0.113.9", Device: ticket.Device}); err != nil {
		t.Errorf("the admin's own browser meanwhile: %v", err)
	}
	b.clock.add(2 * time.Minute)
	if _, err := b.SignIn(t.Context(), "anna", password, from("203.0.113.9")); err != nil {
		t.Errorf("from elsewhere two minutes later: %v", err)
	}
	rows, err := b.db.Audit(t.Context(), account.AuditFilter{Outcome: account.Refused, Limit: 1000})
	if err != nil || len(rows) > 60 {
		t.Errorf("got %d rows of failures in the audit log, %v, want a bounded number", len(rows), err)
	}
	if list, _ := b.db.Audit(t.Context(), account.AuditFilter{Match: "more failed attempts"}); len(list) == 0 {
		t.Error("the audit log does not say how many attempts it left out")
	}
}

func TestAFloodTakesNoMemory(t *testing.T) {
	b := newBench(t, func(c *account.Config) { c.Now = nil; c.Cost = account.Cost{Memory: 8 << 10, Time: 1, Lanes: 1} })
	b.make(t, "anna", account.Admin)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	began := time.Now()
	known, err := b.SignIn(t.Context(), "anna", password, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		wg.Go(func() {
			_, err := b.SignIn(t.Context(), fmt.Sprintf("user%d", i), wrong, from(fmt.Sprintf("10.0.%d.%d", i/250, i%250)))
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(err)]++
		})
	}
	if _, err := b.SignIn(t.Context(), "anna", password, account.Attempt{Address: "10.0.0.1", Device: known.Device}); err != nil {
		t.Errorf("a known browser during the flood: %v", err)
	}
	wg.Wait()
	if got[account.ErrBusy.Error()] < 300 || got[account.ErrRefused.Error()] < 1 || time.Since(began) > 15*time.Second {
		t.Errorf("got %v in %v, want most to be sent away at once", got, time.Since(began))
	}
}

func TestHashesGrowWithTheCost(t *testing.T) {
	b := newBench(t)
	b.make(t, "anna", account.Admin)
	before, _ := b.Account(t.Context(), "anna")
	stronger, err := account.New(account.Config{Rows: b.db, Cost: account.Cost{Memory: 128, Time: 2, Lanes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stronger.SignIn(t.Context(), "anna", wrong, from("192.0.2.1")); !errors.Is(err, account.ErrRefused) {
		t.Fatal(err)
	}
	if now, _ := b.Account(t.Context(), "anna"); now.Password != before.Password {
		t.Error("a wrong password changed the hash")
	}
	if _, err := stronger.SignIn(t.Context(), "anna", password, from("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	now, _ := b.Account(t.Context(), "anna")
	if !strings.Contains(now.Password, "$m=128,t=2,p=1$") || !strings.Contains(before.Password, "$m=64,t=1,p=1$") {
		t.Errorf("got %q after %q, want more work", now.Password, before.Password)
	}
	if _, err := b.SignIn(t.Context(), "anna", password, from("192.0.2.1")); err != nil {
		t.Errorf("with the new hash: %v", err)
	}
}

func TestPasswordRules(t *testing.T) {
	for text, want := range map[string]string{
		"short":                               "10 characters",
		"ééééééééé":                           "10 characters",
		"password123":                         "first that anybody",
		"PASSWORD123":                         "first that anybody",
		"zzzzzzzzzzzz":                        "first that anybody",
		"anna.smith1":                         "little more than the name",
		strings.Repeat("x1", 200):             "at most 256 bytes",
		"nul\x00 in the middle":               "not text",
		"bad \xff bytes in it":                "not text",
		"four words and more":                 "",
		"żółć gęślą jaźń":                     "",
		"anna.smith has a long memory":        "",
		strings.Repeat("é", 128):              "first that anybody",
		"x" + strings.Repeat("éab", 85)[:250]: "",
	} {
		err := account.CheckPassword("anna.smith", text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
}

func TestOneOfManyIsTheFirstAdmin(t *testing.T) {
	b := newBench(t, func(c *account.Config) { c.Now = nil })
	secret, err := b.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for i := range 8 {
		wg.Go(func() {
			_, err := b.UseLink(t.Context(), secret, fmt.Sprintf("admin%d", i), password, from(fmt.Sprintf("192.0.2.%d", i)))
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	done := 0
	for err := range errs {
		if err == nil {
			done++
		} else if !errors.Is(err, account.ErrLink) {
			t.Errorf("got %v, want that the link is used", err)
		}
	}
	if list, _ := b.Accounts(t.Context(), "", 100); done != 1 || len(list) != 1 {
		t.Errorf("got %d successes and %d accounts, want 1 and 1", done, len(list))
	}
}

func TestLinksEnd(t *testing.T) {
	b := newBench(t)
	first, _ := b.FirstLink(t.Context())
	second, _ := b.FirstLink(t.Context())
	if _, err := b.CheckLink(t.Context(), first, from("192.0.2.1")); !errors.Is(err, account.ErrLink) {
		t.Errorf("a link before a newer one: got %v", err)
	}
	b.clock.add(24*time.Hour - time.Second)
	if _, err := b.CheckLink(t.Context(), second, from("192.0.2.1")); err != nil {
		t.Errorf("just before its end: %v", err)
	}
	b.clock.add(time.Second)
	if _, err := b.CheckLink(t.Context(), second, from("192.0.2.1")); !errors.Is(err, account.ErrLink) {
		t.Errorf("after 24 hours: got %v", err)
	}
	b.make(t, "anna", account.Admin)
	ticket, _ := b.SignIn(t.Context(), "anna", password, from("192.0.2.1"))
	reset, err := b.ResetLink(t.Context(), "anna")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Visit(t.Context(), ticket.Session); !errors.Is(err, account.ErrSignedOut) {
		t.Errorf("a session after the reset: got %v", err)
	}
	if _, err := b.SignIn(t.Context(), "anna", password, from("192.0.2.1")); !errors.Is(err, account.ErrRefused) {
		t.Errorf("the old password after the reset: got %v", err)
	}
	if _, err := b.SignIn(t.Context(), "anna", "", from("192.0.2.1")); !errors.Is(err, account.ErrRefused) {
		t.Errorf("no password after the reset: got %v", err)
	}
	if _, err := b.UseLink(t.Context(), reset, "eve", "quite another password", from("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SignIn(t.Context(), "anna", "quite another password", from("192.0.2.1")); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if _, err := b.UseLink(t.Context(), reset, "", password, from("192.0.2.1")); !errors.Is(err, account.ErrLink) {
		t.Errorf("the link for the second time: got %v", err)
	}
}

func TestVouched(t *testing.T) {
	b := newBench(t)
	b.make(t, "anna", account.Admin)
	who := account.Vouched{Key: "https://id.example 1", Name: "Anna", Role: account.Operator, How: "oidc"}
	ticket, err := b.SignInVouched(t.Context(), who, from("192.0.2.1"))
	if err != nil || ticket.Name == "anna" || !strings.HasPrefix(ticket.Name, "anna-") {
		t.Fatalf("got %+v, %v: a name elsewhere must not open the account of that name here", ticket, err)
	}
	who.Role = account.Viewer
	again, err := b.SignInVouched(t.Context(), who, from("192.0.2.1"))
	if err != nil || again.Name != ticket.Name || again.Role != account.Viewer {
		t.Errorf("got %+v, %v, want the same account with its new role", again, err)
	}
	if v, err := b.Visit(t.Context(), ticket.Session); err != nil || v.Role != account.Viewer {
		t.Errorf("an older session: got %+v, %v, want the new role", v, err)
	}
	if _, err := b.SignIn(t.Context(), ticket.Name, "", from("192.0.2.1")); !errors.Is(err, account.ErrRefused) {
		t.Errorf("by a password that it does not have: got %v", err)
	}
	var invalid *account.Invalid
	who.Role = account.Nobody
	if _, err := b.SignInVouched(t.Context(), who, from("192.0.2.1")); !errors.As(err, &invalid) {
		t.Errorf("in no group: got %v", err)
	}
	who.Role = account.Viewer
	if err := b.SetDisabled(t.Context(), ticket.Name, true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SignInVouched(t.Context(), who, from("192.0.2.1")); !errors.As(err, &invalid) {
		t.Errorf("disabled: got %v", err)
	}
	for name, want := range map[string]string{"Łukasz Ż": "ukasz", "../../etc": "etc", "<script>": "script", "…": "guest", strings.Repeat("a", 200): strings.Repeat("a", 64)} {
		ticket, err := b.SignInVouched(t.Context(), account.Vouched{Key: "k " + name, Name: name, Role: account.Viewer, How: "oidc"}, from("192.0.2.1"))
		if err != nil || ticket.Name != want {
			t.Errorf("%.20q: got %q, %v, want %q", name, ticket.Name, err, want)
		}
	}
}

func TestAuditLogShowsWhatWasDoneToIt(t *testing.T) {
	b := newBench(t)
	record := func(n int) {
		for i := range n {
			err := b.Record(t.Context(), account.Entry{Actor: "anna", Role: account.Admin, Via: account.ViaPage, Action: "token.create", Target: fmt.Sprint(i), Outcome: account.Done,
				Detail: "two\nlines \x1b[31m and " + strings.Repeat("long ", 500)})
			if err != nil {
				t.Fatal(err)
			}
			b.clock.add(time.Minute)
		}
	}
	record(20)
	faults, rows, end, err := verified(t, b.db, chain.Head{})
	if err != nil || len(faults) != 0 || rows != 20 || end.Seq != 20 {
		t.Fatalf("got %v, %d rows, end %v, %v", faults, rows, end, err)
	}
	list, _ := b.db.Audit(t.Context(), account.AuditFilter{Limit: 1})
	if e := list[0]; strings.ContainsAny(e.Detail, "\n\x1b") || len(e.Detail) > 700 || e.Node != "n1" {
		t.Errorf("got %+v, want one short line", e)
	}
	if n, err := b.db.PruneAudit(t.Context(), b.clock.now().Add(-15*time.Minute), 1000); err != nil || n != 5 {
		t.Fatalf("got %d removed, %v, want 5 by age", n, err)
	}
	if n, err := b.db.PruneAudit(t.Context(), time.Time{}, 10); err != nil || n != 5 {
		t.Fatalf("got %d removed, %v, want 5 by number", n, err)
	}
	record(3)
	if faults, rows, _, err := verified(t, b.db, end); err != nil || len(faults) != 0 || rows != 13 {
		t.Errorf("after it was shortened: got %v, %d rows, %v", faults, rows, err)
	}
	if n, err := b.db.PruneAudit(t.Context(), b.clock.now().Add(time.Hour), 1000); err != nil || n != 13 {
		t.Fatalf("got %d removed, %v, want all", n, err)
	}
	record(1)
	if faults, _, end, _ := verified(t, b.db, chain.Head{}); len(faults) != 0 || end.Seq != 24 {
		t.Errorf("after all was removed: got %v, end %v, want the chain to go on", faults, end)
	}
}

func TestWritersShareOneChain(t *testing.T) {
	b := newBench(t, func(c *account.Config) { c.Now = nil })
	other, err := store.Open(t.Context(), store.Config{Dir: b.db.Dir()}) // as a command beside the server
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var wg sync.WaitGroup
	for _, db := range []*store.Store{b.db, other, b.db, other} {
		wg.Go(func() {
			for range 10 {
				if _, err := db.AppendAudit(context.Background(), account.Entry{At: time.Now(), Actor: "x", Via: account.ViaCommand, Action: "a.b", Outcome: account.Done}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if faults, rows, _, err := verified(t, b.db, chain.Head{}); err != nil || len(faults) != 0 || rows != 40 {
		t.Errorf("got %v, %d rows, %v", faults, rows, err)
	}
}

// verified checks the log of a database that has a chain of its own only.
func verified(t testing.TB, db *store.Store, known chain.Head) (faults []chain.Fault, rows uint64, end chain.Head, err error) {
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
