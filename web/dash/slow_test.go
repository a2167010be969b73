package dash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/doctor"
)

func TestSlowWorkIsDoneOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newWorkshop(slog.New(slog.DiscardHandler))
		defer shop.close()
		s := newSlow[int](shop, time.Minute, 10*time.Second)
		var made atomic.Int64
		work := func(ctx context.Context) int {
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
			}
			return int(made.Add(1))
		}
		began := time.Now()
		if p, err := s.get("a", 700*time.Millisecond, work); p != nil || err != nil || time.Since(began) != 700*time.Millisecond {
			t.Errorf("got %v, %v after %v, want nothing after 700ms", p, err, time.Since(began))
		}
		if p, err := s.get("a", 700*time.Millisecond, nil); p != nil || err != nil || time.Since(began) != 700*time.Millisecond {
			t.Errorf("got %v, %v after %v, want nothing at once for the stream", p, err, time.Since(began))
		}
		if p, err := s.get("a", 5*time.Second, work); p == nil || err != nil || p.outcome != 1 || time.Since(began) != 3*time.Second {
			t.Fatalf("got %v, %v after %v, want 1 after 3s", p, err, time.Since(began))
		}
		if p, _ := s.get("a", 0, work); p == nil || p.outcome != 1 {
			t.Errorf("got %v, want what is kept", p)
		}
		if _, err := s.get("b", 0, nil); !errors.Is(err, errGone) {
			t.Errorf("got %v for what nobody had made, want %v", err, errGone)
		}
		time.Sleep(time.Minute)
		if p, err := s.get("a", 0, nil); p == nil || err != nil {
			t.Errorf("got %v, %v, want the old outcome for a page that shows it", p, err)
		}
		if p, err := s.get("a", 4*time.Second, work); err != nil || p == nil || p.outcome != 2 {
			t.Errorf("got %v, %v, want it made anew after its time", p, err)
		}
	})
}

func TestSlowWorkIsBoundedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newWorkshop(slog.New(slog.DiscardHandler))
		s := newSlow[string](shop, time.Minute, time.Hour)
		var at, most atomic.Int64
		stuck := func(ctx context.Context) string {
			most.Store(max(most.Load(), at.Add(1)))
			defer at.Add(-1)
			<-ctx.Done()
			return "ended"
		}
		for i := range maxPieces {
			if _, err := s.get(fmt.Sprint(i), 0, stuck); err != nil {
				t.Fatalf("piece %d: %v", i, err)
			}
		}
		if _, err := s.get("more", 0, stuck); !errors.Is(err, errBusy) {
			t.Errorf("got %v beyond %d pieces, want %v", err, maxPieces, errBusy)
		}
		synctest.Wait()
		if most.Load() != 1 {
			t.Errorf("got %d pieces at work at one time, want 1", most.Load())
		}
		shop.close() // waits for all of them
		if p, err := s.get("0", 0, nil); err != nil || p == nil || p.outcome != "ended" {
			t.Errorf("got %v, %v, want the work ended", p, err)
		}
		if _, err := s.get("late", 0, stuck); !errors.Is(err, errBusy) {
			t.Errorf("got %v after the end, want %v", err, errBusy)
		}
	})
}

func TestSlowWorkThatBreaksIsNoOutcome(t *testing.T) {
	shop := newWorkshop(slog.New(slog.DiscardHandler))
	defer shop.close()
	s := newSlow[int](shop, time.Minute, time.Minute)
	if _, err := s.get("a", 10*time.Second, func(context.Context) int { panic("no") }); err == nil || !strings.Contains(err.Error(), "broke") {
		t.Errorf("got %v, want an error", err)
	}
	for i := range 3 * maxPieces { // outcomes give way to newer ones
		if p, err := s.get(fmt.Sprint(i), 10*time.Second, func(context.Context) int { return i }); err != nil || p == nil || p.outcome != i {
			t.Fatalf("piece %d: got %v, %v", i, p, err)
		}
	}
	if len(s.pieces) > maxPieces {
		t.Errorf("got %d pieces kept, want at most %d", len(s.pieces), maxPieces)
	}
}

// fakeSettings is examined only when it is let.
type fakeSettings struct {
	let   chan struct{}
	times atomic.Int64
}

func (f *fakeSettings) Entries() []Setting { return nil }
func (f *fakeSettings) Footer() []string   { return nil }
func (f *fakeSettings) Kept() []Keeping    { return nil }

func (f *fakeSettings) Examine(ctx context.Context, found func(int, doctor.Finding)) {
	f.times.Add(1)
	found(0, doctor.Finding{Title: "File descriptors", Result: doctor.OK, Evidence: "1,048,576 may be open"})
	select {
	case <-f.let:
		found(1, doctor.Finding{Title: "Kernel network settings", Result: doctor.Warn, Evidence: "a short queue", Fix: "make it longer"})
	case <-ctx.Done():
	}
}

func TestPageOfTheDoctorDoesNotWaitForIt(t *testing.T) {
	settings := &fakeSettings{let: make(chan struct{})}
	b, url := newBoard(t, &fakeRelay{}, Admin, func(c *BoardConfig) { c.Sources.Config = settings })
	_, page := read(t, url+"/settings?examine=1") // comes although nobody lets the doctor end
	for _, want := range []string{"At work", "1,048,576 may be open", "Kernel network settings", `sse-connect="/live?`, `<noscript><meta http-equiv="refresh" content="2"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	resp, err := http.Get(url + "/live?page=/settings&query=examine%3D1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	b.stream.round()
	if got := events(t, r, "tick")["doctor"]; !strings.Contains(got, "At work") || strings.Contains(got, "make it longer") {
		t.Errorf("got %q, want the doctor at work", got)
	}
	close(settings.let)
	again := func(context.Context) struct{} { t.Error("it was begun anew"); return struct{}{} }
	if p, err := b.examinations.get("", 10*time.Second, again); p == nil || err != nil {
		t.Fatalf("got %v, %v, want the findings", p, err)
	}
	b.stream.round()
	if got := events(t, r, "tick")["doctor"]; !strings.Contains(got, "make it longer") || !strings.Contains(got, "examined ") {
		t.Errorf("got %q, want all findings", got)
	}
	if _, page = read(t, url+"/settings?examine=1"); strings.Contains(page, "sse-connect") || !strings.Contains(page, "make it longer") {
		t.Error("the page lives on although all is found")
	}
	if n := settings.times.Load(); n != 1 {
		t.Errorf("got %d examinations, want 1", n)
	}
}
