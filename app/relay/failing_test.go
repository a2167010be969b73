package relay

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay/mailbox"
	"agentnet/app/wire"
)

var errDisk = errors.New("the disk is full")

// ledger is a Journal in memory that can fail, wait, and answer out of order.
type ledger struct {
	mu      sync.Mutex
	kept    []*Parked
	fail    bool
	hold    bool // done is not called before release
	waiting []func(error)
	wrong   []string // calls that must not be
}

func (j *ledger) Put(p *Parked, done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := error(nil)
	if j.fail {
		err = errDisk
	} else {
		j.kept = append(j.kept, p)
	}
	if j.hold {
		j.waiting = append(j.waiting, func(error) { done(err) })
		return
	}
	go done(err)
}

func (j *ledger) Delete(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := len(j.kept)
	j.kept = slices.DeleteFunc(j.kept, func(p *Parked) bool { return p.MessageID == id })
	if len(j.kept) == n && !j.fail {
		j.wrong = append(j.wrong, id)
	}
}

func (j *ledger) Load(fn func(*Parked) error) error {
	for _, p := range j.kept {
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}
func (j *ledger) Close() error { return nil }

// release answers what waits, the newest first.
func (j *ledger) release() {
	j.mu.Lock()
	waiting := j.waiting
	j.waiting = nil
	j.mu.Unlock()
	for i := len(waiting) - 1; i >= 0; i-- {
		waiting[i](nil)
	}
	synctest.Wait()
}

func (j *ledger) set(fail, hold bool) { j.mu.Lock(); j.fail, j.hold = fail, hold; j.mu.Unlock() }
func (j *ledger) count() int          { j.mu.Lock(); defer j.mu.Unlock(); return len(j.kept) }

// inLedger is inWorld with a ledger.
func inLedger(t *testing.T, f func(w *world, j *ledger)) {
	inWorld(t, func(c *Config) { c.Journal = &ledger{} }, func(w *world) {
		j := w.hub.cfg.Journal.(*ledger)
		f(w, j)
		if len(j.wrong) > 0 {
			t.Errorf("deleted before they were put: %v", j.wrong)
		}
	})
}

func lasting(to, data string) *wire.Command {
	c := send(to, data)
	c.TTLMS = 3_600_000
	return c
}

func TestDiskFails(t *testing.T) {
	inLedger(t, func(w *world, j *ledger) {
		alice := w.join("alice")
		j.set(true, false)
		c := lasting("bob", "x")
		c.Key = []byte("again")
		alice.refused(c, wire.Unavailable)
		if n := w.hub.mail.Count(); n != 0 {
			t.Errorf("%d messages are parked after a refusal", n)
		}
		if r := w.hub.Ready(); r[2].OK {
			t.Error("the hub says that the journal works")
		}
		j.set(false, false)
		if ok := alice.ok(c); ok.Outcome != wire.Parked {
			t.Errorf("the same key after the refusal: got %+v", ok)
		}
		if r := w.hub.Ready(); !r[2].OK {
			t.Errorf("the hub says that the journal still fails: %+v", r[2])
		}
		if got := datas(w.join("bob").take()); !slices.Equal(got, []string{`"x"`}) {
			t.Errorf("bob got %v, want the message once", got)
		}
	})
}

// TestDiskFailsWhileASessionKeepsIt: the receiver's session is away and holds the
// message; it is parked, and comes.
func TestDiskFailsWhileASessionKeepsIt(t *testing.T) {
	inLedger(t, func(w *world, j *ledger) {
		alice, bob := w.join("alice"), w.join("bob")
		bob.drop()
		j.set(true, false)
		if ok := alice.ok(lasting("bob", "x")); ok.Outcome != wire.Parked {
			t.Errorf("got %+v", ok)
		}
		if got := datas(w.back(bob, 0).take()); !slices.Equal(got, []string{`"x"`}) {
			t.Errorf("bob got %v", got)
		}
	})
}

func TestDiskIsSlowAndOutOfOrder(t *testing.T) {
	inLedger(t, func(w *world, j *ledger) {
		alice := w.join("alice")
		j.set(false, true)
		c := lasting("bob", "0")
		c.Key = []byte("k")
		ids := []uint64{alice.start(c), alice.start(c), alice.start(lasting("bob", "1"))}
		if got := alice.take(); len(got) != 0 {
			t.Errorf("answered before the disk had it: %+v", got)
		}
		j.release()
		answered := map[uint64]string{}
		for _, ev := range only(alice.take(), wire.KindOK) {
			answered[ev.ID] = ev.OK.MessageID
		}
		if len(answered) != 3 || answered[ids[0]] != answered[ids[1]] {
			t.Errorf("answers %v, want all three, the first two alike", answered)
		}
		bob := w.join("bob")
		if got := datas(bob.take()); !slices.Equal(got, []string{`"0"`, `"1"`}) {
			t.Errorf("bob got %v", got)
		}
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 2})
		if w.hub.mail.Count() != 0 || j.count() != 0 {
			t.Errorf("after the ack: %d in the mailbox, %d on disk", w.hub.mail.Count(), j.count())
		}
	})
}

// TestAckedBeforeTheDiskIsDone: a live session that was full gets and acknowledges
// a parked message at once; it must not stay on disk.
func TestAckedBeforeTheDiskIsDone(t *testing.T) {
	inLedger(t, func(w *world, j *ledger) {
		alice, bob := w.join("alice"), w.join("bob")
		s := bob.sock.link.(*link).session
		s.mu.Lock()
		s.mail = true
		s.mu.Unlock()
		j.set(false, true)
		alice.start(lasting("bob", "x"))
		if got := datas(bob.take()); !slices.Equal(got, []string{`"x"`}) {
			t.Fatalf("bob got %v", got)
		}
		bob.tell(&wire.Command{Kind: wire.KindAck, Seq: 1})
		j.release()
		if got := only(alice.take(), wire.KindOK); len(got) != 1 || got[0].OK.Outcome != wire.Parked || j.count() != 0 {
			t.Errorf("got %+v with %d on disk", got, j.count())
		}
	})
}

func TestParkedSurvivesARestart(t *testing.T) {
	var disk []*Parked
	inWorld(t, func(c *Config) { c.Journal = &ledger{} }, func(w *world) {
		c := lasting("bob", "x")
		c.Receipts = true
		w.join("alice").ok(c)
		disk = w.hub.cfg.Journal.(*ledger).kept
	})
	start := func(c *Config) { c.Journal = &ledger{kept: slices.Clone(disk)} }
	inWorld(t, start, func(w *world) {
		alice := w.join("alice")
		if got := datas(w.join("bob").take()); !slices.Equal(got, []string{`"x"`}) {
			t.Errorf("bob got %v", got)
		}
		if r := only(alice.take(), wire.KindReceipt); len(r) != 1 || r[0].Receipt.State != wire.ReceiptDelivered {
			t.Errorf("receipts %+v", r)
		}
	})
}

func TestMailboxOverflow(t *testing.T) {
	inWorld(t, func(c *Config) { c.Mailbox = mailbox.Limits{AgentCount: 3} }, func(w *world) {
		alice := w.join("alice")
		for i := range 3 {
			alice.ok(lasting("bob", fmt.Sprint(i)))
		}
		c := lasting("bob", "3")
		c.Receipts, c.Key = true, []byte("k")
		alice.refused(c, wire.Overloaded)
		alice.ok(lasting("carol", "another agent's mailbox has room"))
		if got := datas(w.join("bob").take()); len(got) != 3 {
			t.Errorf("bob got %v", got)
		}
		if n := w.hub.Stats().Dropped["mailbox_full"]; n != 1 {
			t.Errorf("%d counted as dropped, want 1", n)
		}
		for i := range w.hub.receipts {
			if len(w.hub.receipts[i].m) != 0 {
				t.Error("a refused message is waited for")
			}
		}
		if ok := alice.ok(c); ok.Outcome != wire.Delivered {
			t.Errorf("the same key again: %+v", ok)
		}
	})
}

// TestExpiredWhileASessionKeepsIt: as long as the session may come back nobody is
// told that the message is lost, and then exactly one thing is.
func TestExpiredWhileASessionKeepsIt(t *testing.T) {
	for name, returns := range map[string]bool{"returns": true, "stays away": false} {
		t.Run(name, func(t *testing.T) {
			inLedger(t, func(w *world, j *ledger) {
				alice, bob := w.join("alice"), w.join("bob")
				bob.drop()
				c := send("bob", "x")
				c.TTLMS, c.Receipts = 5000, true
				alice.ok(c)
				time.Sleep(20 * time.Second)
				if r := only(alice.take(), wire.KindReceipt); len(r) != 0 {
					t.Errorf("told too early: %+v", r)
				}
				want := wire.ReceiptExpired
				if returns {
					want = wire.ReceiptDelivered
					if got := w.back(bob, 0).take(); len(got) != 1 {
						t.Errorf("bob got %+v", got)
					}
				}
				time.Sleep(3 * time.Minute)
				if r := only(alice.take(), wire.KindReceipt); len(r) != 1 || r[0].Receipt.State != want {
					t.Errorf("got receipts %+v, want one %s", r, want)
				}
				if j.count() != 0 {
					t.Errorf("%d left on disk", j.count())
				}
			})
		})
	}
}

// TestLiveMessageComesAfterParkedOnes: one session of bob still has parked messages
// before it, another takes the new one at once; both get all, in order.
func TestLiveMessageComesAfterParkedOnes(t *testing.T) {
	inWorld(t, func(c *Config) { c.Queue.Items = 8 }, func(w *world) {
		alice := w.join("alice")
		for i := range 6 {
			alice.ok(lasting("bob", fmt.Sprint(i)))
		}
		slow := w.dial()
		slow.block()
		slow.sock.link.Receive(slow.sock.turn, frames(w.enc, &wire.Command{ID: 1, Kind: wire.KindConnect, Connect: &wire.Connect{Token: "all", Agent: "bob"}}))
		slow.sock.turn.Flush(true)
		fast := w.join("bob")
		want := []string{`"0"`, `"1"`, `"2"`, `"3"`, `"4"`, `"5"`}
		if got := datas(fast.take()); !slices.Equal(got, want) {
			t.Fatalf("the fast session got %v", got)
		}
		if ok := alice.ok(send("bob", "live")); ok.Outcome != wire.Delivered || ok.Sessions != 1 {
			t.Errorf("got %+v, want delivered to the fast session", ok)
		}
		fast.tell(&wire.Command{Kind: wire.KindAck, Seq: 0})
		slow.unblock()
		if got := datas(only(slow.take(), wire.KindMessage)); !slices.Equal(got, append(want, `"live"`)) {
			t.Errorf("the slow session got %v", got)
		}
		slow.tell(&wire.Command{Kind: wire.KindAck, Seq: 7})
		if n := w.hub.mail.Count(); n != 0 {
			t.Errorf("%d messages are still parked", n)
		}
	})
}
