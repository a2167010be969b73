package app

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"agentnet/app/relay/overload"
	"agentnet/app/scale"
	"agentnet/store"
)

func TestTokensThatEndedLongAgoAreForgotten(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i, tok := range []store.Token{{ID: "lives"}, {ID: "just-expired", Expires: now.Add(-29 * 24 * time.Hour)}, {ID: "long-expired", Expires: now.Add(-31 * 24 * time.Hour)}} {
		tok.Hash, tok.Created = [32]byte{byte(i + 1)}, now.Add(-90*24*time.Hour)
		if _, err := db.CreateToken(t.Context(), tok); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	a := &App{store: db, log: slog.New(slog.NewTextHandler(&text, nil))}
	a.forgetTokens(t.Context(), now)
	a.compact(t.Context())
	left, err := db.TokensSince(t.Context(), 0, 10)
	if err != nil || len(left) != 2 || left[0].ID != "lives" || left[1].ID != "just-expired" {
		t.Errorf("got %v, %v, want the living and the one that ended lately", left, err)
	}
	if !strings.Contains(text.String(), "tokens=1") || strings.Contains(text.String(), "WARN") {
		t.Errorf("got the log %s", text.String())
	}
}

// TestOldEntriesLeaveTheScalingLog trims by the configuration, and keeps all without
// a bound.
func TestOldEntriesLeaveTheScalingLog(t *testing.T) {
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for day := range 20 {
		e, err := scale.NewEntry(scale.KindNote, now.AddDate(0, 0, day-20), "alice", "", "a note", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.AppendScaleLog(t.Context(), "n1", []scale.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, nil))
	a := &App{store: db, log: log, cfg: DefaultConfig()}
	a.acting.gate = NewGate(func() overload.Level { return overload.Normal }, log)
	for _, tt := range []struct{ days, want int }{{0, 20}, {1100, 20}, {10, 11}} {
		a.cfg.Scaling.LogDays = tt.days
		a.trimLog(t.Context(), now)
		page, err := db.ScaleLogPage(t.Context(), scale.LogFilter{})
		if err != nil || len(page) != tt.want {
			t.Errorf("%d days: got %d entries, %v, want %d", tt.days, len(page), err, tt.want)
		}
	}
	if got := text.String(); !strings.Contains(got, "up_to=10 archive=scalelog/") || strings.Contains(got, "level=WARN") || strings.Contains(got, "level=ERROR") {
		t.Errorf("got the log %s", got)
	}
	if s := a.acting.gate.Stats()[WorkArchive]; s.Passed != 3 {
		t.Errorf("the gate was asked %d times, want 3", s.Passed)
	}
}

func TestARecordTellsNoSecretAndIsAdopted(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Redis, cfg.Metrics.Token, cfg.Node, cfg.BasePath = "redis://me:hunter2@10.0.0.1:6379/2", "hunter2", "n9", "/r"
	settings := cfg.settings()
	for key, text := range settings {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: got %s, which tells the secret", key, text)
		}
	}
	if settings["redis"] != "redis://me:***@10.0.0.1:6379/2" || settings["node"] != "n9" || settings["listen"] != "" {
		t.Errorf("got %v", settings)
	}
	other := DefaultConfig()
	other.BasePath = "/mine"
	other.Adopt(Record{Settings: settings})
	if other.Node != "n9" || other.BasePath != "/mine" || !other.HiddenRedis() {
		t.Errorf("got %q, %q, %q", other.Node, other.BasePath, other.Redis)
	}
	for addr, want := range map[string]string{"[::]:80": "http://127.0.0.1:80/r", "127.0.0.1:1": "http://127.0.0.1:1/r", "10.0.0.1:1": "http://10.0.0.1:1/r"} {
		if got := cfg.LocalURL(addr); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
}
