package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("JOURNAL_CHILD"); dir != "" {
		runChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// message returns a message whose every field follows from its number, so that
// damage anywhere in it shows.
func message(n int) *relay.Parked {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	data := make([]byte, r.IntN(700))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	p := &relay.Parked{
		MessageID: fmt.Sprintf("01J%023d", n), From: fmt.Sprint("alice/", n), To: fmt.Sprint("bob/", n%17),
		TimeMS: int64(n) * 1000, ExpiresMS: int64(n)*1000 + 60_000, Class: wire.Class(n % wire.Classes), Receipts: n%3 == 0,
		Payload: wire.Payload{Data: data, Binary: n%2 == 0},
	}
	for i := range n % 4 {
		p.Headers = append(p.Headers, wire.Header{Name: fmt.Sprint("h", i), Value: fmt.Sprint("v", n)})
	}
	return p
}

func open(t *testing.T, cfg Config) *Journal {
	t.Helper()
	j, err := Open(cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { j.Close() })
	return j
}

// park stores messages and waits for all outcomes, which it returns in order.
func park(t *testing.T, j *Journal, ps ...*relay.Parked) []error {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, len(ps))
	for i, p := range ps {
		wg.Add(1)
		j.Put(p, func(err error) { errs[i] = err; wg.Done() })
	}
	waitFor(t, &wg)
	return errs
}

func waitFor(t *testing.T, wg *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the journal did not answer within 20 s")
	}
}

func mustPark(t *testing.T, j *Journal, ns ...int) {
	t.Helper()
	var ps []*relay.Parked
	for _, n := range ns {
		ps = append(ps, message(n))
	}
	for i, err := range park(t, j, ps...) {
		if err != nil {
			t.Fatalf("Put(%d): %v", ns[i], err)
		}
	}
}

func load(t *testing.T, j *Journal) (out []*relay.Parked) {
	t.Helper()
	if err := j.Load(func(p *relay.Parked) error { out = append(out, p); return nil }); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return out
}

// wantMessages checks order and content.
func wantMessages(t *testing.T, got []*relay.Parked, want ...int) {
	t.Helper()
	var ids, wantIDs []string
	for _, p := range got {
		ids = append(ids, p.MessageID)
	}
	for _, n := range want {
		wantIDs = append(wantIDs, message(n).MessageID)
	}
	if !slices.Equal(ids, wantIDs) {
		t.Fatalf("got %d messages %v, want %d: %v", len(ids), ids, len(wantIDs), wantIDs)
	}
	for i, n := range want {
		if !reflect.DeepEqual(got[i], message(n)) {
			t.Fatalf("message %d: got %+v, want %+v", n, got[i], message(n))
		}
	}
}

func numbers(from, to int) (out []int) {
	for n := from; n < to; n++ {
		out = append(out, n)
	}
	return out
}

func TestPutDeleteReopen(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	j := open(t, cfg)
	wantMessages(t, load(t, j))
	mustPark(t, j, numbers(0, 50)...)
	j.Delete(message(7).MessageID)
	j.Delete(message(0).MessageID)
	j.Delete("unknown")
	if st := j.Stats(); st.Count != 48 || st.Puts != 50 {
		t.Errorf("Stats: count %d, puts %d, want 48, 50", st.Count, st.Puts)
	}
	if err := j.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	j = open(t, cfg)
	wantMessages(t, load(t, j), append(numbers(1, 7), numbers(8, 50)...)...)
	if st := j.Stats(); st.TornBytes != 0 || len(st.Damaged) != 0 {
		t.Errorf("after a clean stop: %+v, want nothing torn or damaged", st)
	}
	if err := j.Load(func(*relay.Parked) error { return nil }); err == nil {
		t.Error("a second Load succeeded, want an error")
	}
}

func TestRefusals(t *testing.T) {
	big := message(1)
	big.Payload.Data = make([]byte, 2000)
	tests := []struct {
		name string
		cfg  Config
		put  []*relay.Parked
		want error // of the last
	}{
		{"count", Config{MaxCount: 2}, []*relay.Parked{message(1), message(2), message(3)}, ErrFull},
		{"bytes", Config{MaxBytes: 100}, []*relay.Parked{big, message(2)}, ErrFull},
		{"message", Config{MaxMessage: 1000}, []*relay.Parked{big}, ErrTooLarge},
		{"duplicate", Config{}, []*relay.Parked{message(1), message(1)}, ErrDuplicate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Dir = t.TempDir()
			j := open(t, tt.cfg)
			errs := park(t, j, tt.put...)
			last := len(errs) - 1
			if !errors.Is(errs[last], tt.want) {
				t.Errorf("last Put: %v, want %v", errs[last], tt.want)
			}
			for _, err := range errs[:last] {
				if err != nil {
					t.Errorf("earlier Put: %v, want nil", err)
				}
			}
			j.Delete(tt.put[0].MessageID)
			if tt.want == ErrFull {
				if err := park(t, j, message(9))[0]; err != nil {
					t.Errorf("Put after Delete: %v, want nil", err)
				}
			}
		})
	}
}

// TestBusy holds the disk still and shows that what waits is bounded, and that
// the refused are told while the disk is stuck.
func TestBusy(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	j := open(t, Config{Dir: t.TempDir(), MaxWaiting: 2000, sync: func(f *os.File) error {
		entered <- struct{}{}
		<-release
		return datasync(f)
	}})
	var admitted sync.WaitGroup
	admitted.Add(1)
	j.Put(message(0), func(error) { admitted.Done() })
	<-entered
	refused := make(chan error, 1)
	for n := 1; ; n++ {
		admitted.Add(1)
		told := make(chan error, 1)
		j.Put(message(n), func(err error) { told <- err; admitted.Done() })
		if j.Stats().Refused > 0 {
			refused <- <-told
			break
		}
		if n > 100 {
			t.Fatal("100 messages wait, want a refusal at 2000 bytes")
		}
	}
	if err := <-refused; !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	close(release)
	waitFor(t, &admitted)
}

func TestClosedAndLocked(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	j := open(t, cfg)
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "another node") {
		t.Errorf("second Open: %v, want an error that names another node", err)
	}
	j.Close()
	j.Close()
	if err := park(t, j, message(1))[0]; !errors.Is(err, ErrClosed) {
		t.Errorf("Put after Close: %v, want %v", err, ErrClosed)
	}
}

// TestCloseKeepsAccepted closes while Puts wait: each is told, and what was told
// nil is there.
func TestCloseKeepsAccepted(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	j := open(t, cfg)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var stored []int
	for n := range 300 {
		wg.Add(1)
		j.Put(message(n), func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				stored = append(stored, n)
			}
			wg.Done()
		})
	}
	j.Close()
	waitFor(t, &wg)
	if len(stored) != 300 {
		t.Errorf("%d stored, want 300", len(stored))
	}
	wantMessages(t, load(t, open(t, cfg)), stored...)
}

// TestFsyncFailure shows that a failed fsync is believed: nothing is promised
// until the journal is opened again.
func TestFsyncFailure(t *testing.T) {
	fail := false
	cfg := Config{Dir: t.TempDir()}
	broken := cfg
	broken.sync = func(f *os.File) error {
		if fail {
			fail = false // the next one would succeed, as the kernel's does
			return errors.New("input/output error")
		}
		return datasync(f)
	}
	j := open(t, broken)
	mustPark(t, j, 1)
	fail = true
	if err := park(t, j, message(2))[0]; !errors.Is(err, ErrBroken) {
		t.Errorf("Put at the failing fsync: %v, want %v", err, ErrBroken)
	}
	if err := park(t, j, message(3))[0]; !errors.Is(err, ErrBroken) {
		t.Errorf("Put after it: %v, want %v", err, ErrBroken)
	}
	if st := j.Stats(); st.Broken == nil || st.Count != 1 {
		t.Errorf("Stats: broken %v, count %d, want an error, 1", st.Broken, st.Count)
	}
	if err := j.Close(); !errors.Is(err, ErrBroken) {
		t.Errorf("Close: %v, want %v", err, ErrBroken)
	}
	j = open(t, cfg)
	if got := load(t, j); len(got) == 0 || !reflect.DeepEqual(got[0], message(1)) {
		t.Errorf("after opening again: got %v, want message 1 first", got)
	}
	mustPark(t, j, 4)
}

// TestCompaction keeps a few messages for long among many short-lived ones. The
// files stay bounded, order and content survive, and the next Open agrees.
func TestCompaction(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SegmentBytes: 16 << 10, MaxBytes: 64 << 10}
	j := open(t, cfg)
	load(t, j)
	var keep []int
	most := int64(0)
	for n := range 3000 {
		mustPark(t, j, n)
		if n%100 == 0 {
			keep = append(keep, n)
		} else {
			j.Delete(message(n).MessageID)
		}
		most = max(most, j.Stats().DiskBytes)
	}
	st := j.Stats()
	if limit := 2*st.Bytes + 6*cfg.SegmentBytes; most > limit {
		t.Errorf("files grew to %d bytes with %d live, want at most %d", most, st.Bytes, limit)
	}
	if st.Moved == 0 || st.Count != len(keep) {
		t.Errorf("moved %d, count %d, want some, %d", st.Moved, st.Count, len(keep))
	}
	j.Close()
	j = open(t, cfg)
	wantMessages(t, load(t, j), keep...)
	for _, n := range keep {
		j.Delete(message(n).MessageID)
	}
	j.Close()
	j = open(t, cfg)
	wantMessages(t, load(t, j))
	mustPark(t, j, 1)
	j.Close()
	if files, _ := filepath.Glob(filepath.Join(cfg.Dir, "*"+segmentSuffix)); len(files) > 3 {
		t.Errorf("%d files for one message, want at most 3", len(files))
	}
}

// TestNoSecretsInLogs plants a word in every text of a message and looks for it in
// logs and errors of every failure.
func TestNoSecretsInLogs(t *testing.T) {
	const secret = "hunter2"
	var logs bytes.Buffer
	cfg := Config{Dir: t.TempDir(), MaxMessage: 300, Logger: slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	j := open(t, cfg)
	p := message(0)
	p.Payload.Data, p.Headers = []byte(secret), []wire.Header{{Name: secret, Value: secret}}
	large := *p
	large.MessageID, large.Payload.Data = "2", bytes.Repeat([]byte(secret), 100)
	errs := park(t, j, p, p, &large)
	j.Close()
	flipByte(t, newestFile(t, cfg.Dir), -3)
	j = open(t, cfg)
	load(t, j)
	text, _ := json.Marshal(fmt.Sprint(errs, j.Stats()))
	if strings.Contains(logs.String()+string(text), secret) {
		t.Errorf("the secret is in the logs or errors: %s %s", &logs, text)
	}
	if logs.Len() == 0 || errs[1] == nil || errs[2] == nil {
		t.Error("the failures did not happen")
	}
}

func TestConcurrent(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SegmentBytes: 32 << 10}
	j := open(t, cfg)
	load(t, j)
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := map[string]bool{}
	for g := range 8 {
		for i := range 200 {
			n := g*1000 + i
			wg.Add(1)
			go func() {
				p := message(n)
				j.Put(p, func(err error) {
					defer wg.Done()
					if err != nil {
						t.Errorf("Put(%d): %v", n, err)
					}
					if n%3 == 0 {
						j.Delete(p.MessageID)
						return
					}
					mu.Lock()
					kept[p.MessageID] = true
					mu.Unlock()
				})
			}()
		}
	}
	waitFor(t, &wg)
	j.Close()
	got := load(t, open(t, cfg))
	if len(got) != len(kept) {
		t.Errorf("loaded %d, want %d", len(got), len(kept))
	}
	for _, p := range got {
		if !kept[p.MessageID] {
			t.Errorf("%s was loaded, want it gone", p.MessageID)
		}
	}
}
