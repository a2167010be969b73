package app

import (
	"log/slog"
	"strings"
	"testing"
	"time"

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
