package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// childVar makes the test binary play a process that is to be killed, or one
// that works beside another on the same data directory.
const childVar = "AGENTNET_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childVar); role != "" {
		os.Exit(child(role, os.Args[len(os.Args)-1]))
	}
	goleak.VerifyTestMain(m)
}

var day0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// figure reports one line, to the test log and to the record of a long run.
func figure(t testing.TB, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("E2E_FIGURES")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "- %s\n", line); err != nil {
		t.Fatal(err)
	}
}

func token(n int) Token {
	return Token{
		ID: fmt.Sprintf("id%06d", n), Name: fmt.Sprintf("token %d", n), Hash: sha256.Sum256(fmt.Append(nil, n)),
		Agents: []string{fmt.Sprintf("user%d/*", n)}, Send: []string{"**"}, Subscribe: []string{}, Publish: []string{"a/b", "c/**"},
		Roles: []string{"viewer"}, Created: day0.Add(time.Duration(n) * time.Second),
	}
}

func mustCreate(t testing.TB, s *Store, toks ...Token) {
	t.Helper()
	for _, tok := range toks {
		if _, err := s.CreateToken(context.Background(), tok); err != nil {
			t.Fatalf("CreateToken(%s): %v", tok.ID, err)
		}
	}
}

func dbPath(dir string) string { return filepath.Join(dir, FileName) }
