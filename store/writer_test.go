package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// hold keeps the writer goroutine busy until the returned function is called.
func hold(t *testing.T, s *Store) (free func()) {
	t.Helper()
	started, gate, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- s.writer.apply(context.Background(), func(*sql.Tx) error {
			close(started)
			<-gate
			return nil
		})
	}()
	<-started
	return sync.OnceFunc(func() {
		close(gate)
		if err := <-done; err != nil {
			t.Errorf("holding write: %v", err)
		}
	})
}

func waiting(t *testing.T, s *Store, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(s.writer.jobs) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d writes wait, want %d", len(s.writer.jobs), n)
		}
		time.Sleep(time.Millisecond) // polls a length that nothing announces
	}
}

func TestWaitingWritesShareACommitButNotAFate(t *testing.T) {
	s := open(t, Config{})
	free := hold(t, s)
	var wg sync.WaitGroup
	errs := make([]error, 30)
	boom := errors.New("boom")
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.writer.apply(context.Background(), func(tx *sql.Tx) error {
				if _, err := tx.Exec(`INSERT INTO setting VALUES (?, 'x', 0)`, fmt.Sprint(i)); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return boom
				case 2:
					panic("secret value")
				}
				return nil
			})
		})
	}
	waiting(t, s, len(errs))
	before := walFrames(t, s)
	free()
	wg.Wait()
	for i, err := range errs {
		_, _, found := s.Setting(t.Context(), fmt.Sprint(i))
		switch {
		case i%3 == 0 && (err != nil || found != nil):
			t.Errorf("write %d: got %v, stored %v, want it stored", i, err, found)
		case i%3 == 1 && !errors.Is(err, boom), i%3 == 2 && (err == nil || errors.Is(err, boom)):
			t.Errorf("write %d: got %v", i, err)
		case i%3 != 0 && !errors.Is(found, ErrNotFound):
			t.Errorf("failed write %d: got %v, want its row undone", i, found)
		}
	}
	// One commit writes the few pages once; thirty would write thirty times as many.
	if grown := walFrames(t, s) - before; grown > 8 {
		t.Errorf("%d pages went to the log, want one commit", grown)
	}
}

func walFrames(t *testing.T, s *Store) int64 {
	t.Helper()
	_, bytes := s.Size()
	return bytes / 4096
}

func TestQueueIsBoundedAndCallersLeaveInTime(t *testing.T) {
	s := open(t, Config{QueueLength: 2})
	free := hold(t, s)
	defer free()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 2)
	for i := range 2 {
		go func() { left <- s.PutSetting(ctx, fmt.Sprint("left", i), "x", day0) }()
	}
	waiting(t, s, 2)
	if err := s.PutSetting(t.Context(), "third", "x", day0); !errors.Is(err, ErrQueueFull) {
		t.Errorf("third write: got %v, want ErrQueueFull", err)
	}
	cancel()
	for range 2 {
		if err := <-left; !errors.Is(err, ErrQueueFull) || !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that left: got %v, want ErrQueueFull and Canceled", err)
		}
	}
	free()
	if err := s.PutSetting(t.Context(), "after", "x", day0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"left0", "left1", "third"} {
		if _, _, err := s.Setting(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s was told that nothing was written, and is there: %v", name, err)
		}
	}
}

func TestACancelledCallerIsToldThatTheOutcomeIsUnknown(t *testing.T) {
	s := open(t, Config{})
	started, gate := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := write(ctx, s, func(tx *sql.Tx) (int, error) {
			close(started)
			<-gate
			_, err := tx.Exec(`INSERT INTO setting VALUES ('slow', 'x', 0)`)
			return 1, err
		})
		result <- err
	}()
	<-started
	cancel()
	if err := <-result; !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want ErrUnknown", err)
	}
	close(gate)
	if err := s.PutSetting(t.Context(), "later", "x", day0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Setting(t.Context(), "slow"); err != nil {
		t.Errorf("the transaction was cut: %v", err)
	}
}

func TestAnotherProcessThatKeepsTheLockIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, BusyWait: 50 * time.Millisecond})
	other := open(t, Config{Dir: dir})
	free := hold(t, other)
	defer free()
	if err := s.PutSetting(t.Context(), "a", "b", day0); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	free()
	if err := s.PutSetting(t.Context(), "a", "b", day0); err != nil {
		t.Errorf("after it was let go: %v", err)
	}
}
