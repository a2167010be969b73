package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"
	"agentnet/embedded"
	"agentnet/embedded/journal"
	"agentnet/store"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// A server is what of a node writes to a data directory.
type server struct {
	t       *testing.T
	dir     string
	lock    *store.DirLock
	db      *store.Store
	journal *journal.Journal
	redis   *embedded.Server
}

func start(t *testing.T, dir string) *server {
	t.Helper()
	s := &server{t: t, dir: dir}
	var err error
	if s.lock, err = store.Lock(dir); err != nil {
		t.Fatal(err)
	}
	if s.db, err = store.Open(t.Context(), store.Config{Dir: dir, Lock: s.lock}); err != nil {
		t.Fatal(err)
	}
	// Small segments, so that files come and go during a backup.
	if s.journal, err = journal.Open(journal.Config{Dir: filepath.Join(dir, "journal"), SegmentBytes: 16 << 10}); err != nil {
		t.Fatal(err)
	}
	if err := s.journal.Load(func(*relay.Parked) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if s.redis, err = embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(dir, "embedded")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	if s.lock == nil {
		return
	}
	for _, err := range []error{s.redis.Close(context.Background()), s.journal.Close(), s.db.Close(), s.lock.Unlock()} {
		if err != nil {
			s.t.Error(err)
		}
	}
	s.lock = nil
}

func (s *server) token(id string) {
	s.t.Helper()
	if _, err := s.db.CreateToken(s.t.Context(), store.Token{ID: id, Hash: sha256.Sum256([]byte(id)), Name: id, Agents: []string{"a"}, Created: monday}); err != nil {
		s.t.Fatal(err)
	}
}

// park stores a message and returns when it is durable.
func (s *server) park(id string) {
	done := make(chan error, 1)
	s.journal.Put(&relay.Parked{MessageID: id, From: "a", To: "b", TimeMS: 1, ExpiresMS: 1 << 50, Payload: wire.Payload{Data: bytes.Repeat([]byte("x"), 700)}}, func(err error) { done <- err })
	if err := <-done; err != nil {
		s.t.Error(err)
	}
}

func parked(t *testing.T, dir string) (ids []string) {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Load(func(p *relay.Parked) error { ids = append(ids, p.MessageID); return nil }); err != nil {
		t.Fatal(err)
	}
	if d := j.Stats().Damaged; len(d) > 0 {
		t.Errorf("the restored journal is damaged: %v", d)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return ids
}

func tokens(t *testing.T, dir string) (ids []string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Dir: dir, Check: store.CheckFull})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	list, err := db.TokensSince(t.Context(), 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range list {
		ids = append(ids, tok.ID)
	}
	return ids
}

func TestBackupBesideABusyServerHoldsAllThatWasAnsweredBefore(t *testing.T) {
	s := start(t, t.TempDir())
	for i := range 20 {
		s.token(fmt.Sprintf("t%03d", i))
		s.park(fmt.Sprintf("m%03d", i))
	}
	if err := s.redis.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "acme"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "acme", "account"), []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(s.dir, "link")); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() { // parks and delivers, so that segments are made, compacted and removed
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			s.park(fmt.Sprintf("w%06d", i))
			if i >= 5 {
				s.journal.Delete(fmt.Sprintf("w%06d", i-5))
			}
		}
	})
	for i := range 12 {
		to := filepath.Join(t.TempDir(), "b.tar.gz")
		res, err := Make(t.Context(), Options{Data: s.dir, To: to, Version: "v1", Node: "n1"})
		if err != nil {
			t.Fatalf("backup %d: %v", i, err)
		}
		if res.Manifest.Parked < 20 || res.Manifest.Embedded == nil || !slices.Equal(res.Skipped, []string{"link"}) {
			t.Fatalf("got %d parked, embedded %v, skipped %v", res.Manifest.Parked, res.Manifest.Embedded, res.Skipped)
		}
		into := filepath.Join(t.TempDir(), "data")
		if _, err := Restore(t.Context(), RestoreOptions{File: to, Data: into}); err != nil {
			t.Fatal(err)
		}
		got := parked(t, into)
		for n := range 20 {
			if !slices.Contains(got, fmt.Sprintf("m%03d", n)) {
				t.Fatalf("backup %d: message m%03d is not in it", i, n)
			}
		}
		if got := tokens(t, into); len(got) != 20 {
			t.Errorf("got %d tokens, want 20", len(got))
		}
		if text, err := os.ReadFile(filepath.Join(into, "acme", "account")); err != nil || string(text) != "key" {
			t.Errorf("got %q, %v, want the file that nobody knows", text, err)
		}
		if _, err := os.Stat(filepath.Join(into, "embedded", embedded.RunningFile)); err != nil {
			t.Errorf("the embedded Redis would go on as if nothing had been lost: %v", err)
		}
		if _, err := os.Stat(filepath.Join(into, halfName)); err == nil {
			t.Error("the mark of an unfinished restore is left")
		}
	}
	close(stop)
	busy.Wait()
}

func TestRestoreRefuses(t *testing.T) {
	s := start(t, t.TempDir())
	s.token("one")
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if _, err := Make(t.Context(), Options{Data: s.dir, To: file}); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(t.Context(), Options{Data: s.dir, To: file}); !errors.Is(err, os.ErrExist) {
		t.Errorf("over an old backup: got %v, want os.ErrExist", err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: s.dir, Force: true}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a running server's directory: got %v, want ErrLocked", err)
	}
	s.stop()
	_, err := Restore(t.Context(), RestoreOptions{File: file, Data: s.dir})
	if !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "agentnet.db") {
		t.Errorf("a directory with data: got %v, want ErrNotEmpty that says what is there", err)
	}
	s2 := start(t, s.dir) // nothing was changed
	s2.token("two")
	s2.stop()
	res, err := Restore(t.Context(), RestoreOptions{File: file, Data: s.dir, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := tokens(t, s.dir); !slices.Equal(got, []string{"one"}) {
		t.Errorf("got tokens %v, want those of the backup", got)
	}
	if got := tokens(t, res.Aside); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("got tokens %v aside, want the old ones", got)
	}
}

func TestRestoreOfANewerDatabaseChangesNothing(t *testing.T) {
	s := start(t, t.TempDir())
	s.stop()
	db, err := sql.Open("sqlite3", filepath.Join(s.dir, store.FileName))
	if err != nil {
		t.Fatal(err)
	}
	in, err := store.Inspect(t.Context(), filepath.Join(s.dir, store.FileName), store.CheckFull, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, in.Knows+1)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Make(t.Context(), Options{Data: s.dir, To: filepath.Join(t.TempDir(), "b")})
	if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), fmt.Sprintf("schema %d, this program knows %d", in.Knows+1, in.Knows)) {
		t.Errorf("got %v, want ErrNewerSchema with both versions", err)
	}
}

func TestDamageIsFoundBeforeAnythingIsTouched(t *testing.T) {
	s := start(t, t.TempDir())
	for i := range 30 {
		s.token(fmt.Sprintf("t%d", i))
		s.park(fmt.Sprintf("m%d", i))
	}
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	if _, err := Make(t.Context(), Options{Data: s.dir, To: file}); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	step := max(1, len(whole)/60)
	for at := 12; at < len(whole); at += step {
		for name, bad := range map[string][]byte{
			"cut":     whole[:at],
			"flipped": append(append(slices.Clone(whole[:at]), whole[at]^0x40), whole[at+1:]...),
		} {
			broken := filepath.Join(t.TempDir(), "broken.tar.gz")
			if err := os.WriteFile(broken, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			data := filepath.Join(t.TempDir(), "data")
			_, err := Restore(t.Context(), RestoreOptions{File: broken, Data: data})
			if err == nil {
				// Deflate says many things in two ways: another distance to the same
				// bytes, or the bits after the last block. Then nothing is damaged.
				if !bytes.Equal(inflated(t, bad), inflated(t, whole)) {
					t.Fatalf("%s at %d: got no error", name, at)
				}
				continue
			}
			if left, _ := present(data); len(left) > 0 {
				t.Fatalf("%s at %d: the data directory holds %v", name, at, left)
			}
		}
	}
}

// inflated is what a gzip file holds, its checksum verified.
func inflated(t *testing.T, file []byte) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAnInterruptedRestoreIsNotServed(t *testing.T) {
	s := start(t, t.TempDir())
	s.token("one")
	file := filepath.Join(t.TempDir(), "b")
	if _, err := Make(t.Context(), Options{Data: s.dir, To: file}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if err := os.WriteFile(filepath.Join(s.dir, halfName), []byte("/somewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Incomplete(s.dir); !errors.Is(err, ErrHalf) || !strings.Contains(err.Error(), "/somewhere") {
		t.Errorf("got %v, want ErrHalf that says where the old data is", err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: s.dir}); !errors.Is(err, ErrHalf) {
		t.Errorf("got %v, want ErrHalf", err)
	}
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: s.dir, Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := Incomplete(s.dir); err != nil {
		t.Error(err)
	}
}

func TestKeepRemovesTheOldest(t *testing.T) {
	s, dir := start(t, t.TempDir()), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "agentnet-mine.tar.gz"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		now := monday.Add(time.Duration(i) * time.Hour)
		if _, err := Make(t.Context(), Options{Data: s.dir, To: dir, Keep: 2, Now: func() time.Time { return now }}); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"agentnet-20261123T140000Z.tar.gz", "agentnet-20261123T150000Z.tar.gz", "agentnet-mine.tar.gz"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func FuzzManifest(f *testing.F) {
	good, err := json.Marshal(Manifest{Format: 1, Program: "agentnet", Files: []File{{Path: "a/b", Bytes: 3}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"program":"agentnet","files":[{"path":"../../etc/passwd"}]}`))
	f.Add([]byte(`{"format":1,"program":"agentnet","files":[{"path":"/etc/passwd"},{"path":"a\\b"},{"path":"a/./b"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(filepath.FromSlash(file.Path)) {
				t.Fatalf("the path %q leads out", file.Path)
			}
		}
		if m.Bytes() < 0 || m.Bytes() > maxBytes {
			t.Fatalf("got %d bytes", m.Bytes())
		}
	})
}

// FuzzUnpack: whatever a file holds, nothing is written outside, and no more than
// a manifest announced.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, plain []byte) {
		dir := t.TempDir()
		name := filepath.Join(dir, "x")
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := io.Copy(w, bytes.NewReader(plain)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, zipped.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _ = unpack(t.Context(), name, filepath.Join(dir, "out"))
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 2 {
			t.Fatalf("got %v, %v", entries, err)
		}
	})
}
