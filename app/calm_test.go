package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/relay/overload"
)

// TestCommandsWaitForCalm has a command beside a node wait: for the calm, for its
// deadline, and not at all for a node that is calm, stopped or was killed.
func TestCommandsWaitForCalm(t *testing.T) {
	for _, c := range []struct {
		name  string
		level overload.Level
		most  time.Duration
		calm  time.Duration // after so long; 0: never
		want  time.Duration
		why   string
		force bool
	}{
		{name: "calm", level: overload.Normal, most: time.Hour},
		{name: "not asked to wait", level: overload.Critical, most: 0},
		{name: "calm comes", level: overload.Degraded, most: 4 * time.Hour, calm: 90 * time.Minute, want: 90 * time.Minute, why: "degraded load"},
		{name: "deadline comes", level: overload.Elevated, most: 4 * time.Hour, want: 4 * time.Hour, why: "elevated load", force: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				var level atomic.Uint32
				level.Store(uint32(c.level))
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					noteStrain(ctx, dir, func() overload.Level { return overload.Level(level.Load()) }, func(err error) { t.Error(err) })
				}()
				time.Sleep(2*pressureLook + pressureLook/2)
				if c.calm > 0 {
					time.AfterFunc(c.calm, func() { level.Store(uint32(overload.Normal)) })
				}
				told := 0
				got, err := AwaitCalm(t.Context(), dir, c.most, func(Strain) { told++ })
				if err != nil || got.Why != c.why || got.Forced != c.force || (got.For-c.want).Abs() > 2*pressureLook {
					t.Errorf("got %+v, %v, want about %v, %q, forced %v", got, err, c.want, c.why, c.force)
				}
				if want := min(1, len(c.why)); told != want {
					t.Errorf("told %d times, want %d", told, want)
				}
				stop()
				<-ended
				if _, err := os.Stat(filepath.Join(dir, pressureFile)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the node stopped: got %v, want no file", err)
				}
			})
		})
	}
}

// TestStrainOfADeadNodeIsNotWaitedFor leaves the file of a node that was killed.
func TestStrainOfADeadNodeIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, pressureFile)
		if err := touchStrain(path, &Strain{}, "critical load", time.Now()); err != nil {
			t.Fatal(err)
		}
		if s, ok, err := ReadStrain(dir, time.Now()); !ok || err != nil || s.Why != "critical load" {
			t.Errorf("at once: got %+v, %v, %v", s, ok, err)
		}
		got, err := AwaitCalm(t.Context(), dir, time.Hour, nil)
		if err != nil || got.Forced || got.For > pressureFresh+2*pressureLook || got.For < pressureFresh {
			t.Errorf("got %+v, %v, want an end after %v", got, err, pressureFresh)
		}
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		if err := touchStrain(path, &Strain{}, "critical load", time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := AwaitCalm(ctx, dir, time.Hour, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended while waiting: got %v", err)
		}
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Chtimes(path, time.Now(), time.Now())
		if _, err := AwaitCalm(t.Context(), dir, time.Hour, nil); err == nil {
			t.Error("a broken note: got no error")
		}
	})
}
