package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSQLiteIsNewEnough(t *testing.T) {
	// Before 3.51.3 two connections could damage a database through the WAL.
	var v [3]int
	if _, err := fmt.Sscanf(SQLiteVersion(), "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		t.Fatal(err)
	}
	if v[0]*1_000_000+v[1]*1000+v[2] < 3_051_003 {
		t.Errorf("got SQLite %s, want at least 3.51.3", SQLiteVersion())
	}
}

func TestFilesAreClosedToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, Config{Dir: dir})
	mustCreate(t, s, token(1))
	for path, want := range map[string]fs.FileMode{dir: 0o700, s.Path(): 0o600, s.Path() + "-wal": 0o600, s.Path() + "-shm": 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := s.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(copied); info.Mode().Perm() != 0o600 {
		t.Errorf("backup: got mode %v, want 0600", info.Mode().Perm())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Path(), 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: dir})
	if info, _ := os.Stat(s.Path()); info.Mode().Perm() != 0o600 {
		t.Errorf("a wide database: got mode %v after Open, want 0600", info.Mode().Perm())
	}
}

func TestPragmasOfEachPool(t *testing.T) {
	s := open(t, Config{})
	type pragmas map[string]string
	common := pragmas{"journal_mode": "wal", "busy_timeout": "5000", "foreign_keys": "1", "journal_size_limit": strconv.Itoa(walLimit), "trusted_schema": "0"}
	for _, c := range []struct {
		name string
		db   *sql.DB
		more pragmas
	}{
		{"writer", s.write, pragmas{"query_only": "0", "synchronous": "2", "auto_vacuum": "2"}},
		{"reader", s.read, pragmas{"query_only": "1"}},
		{"watcher", s.watcher, pragmas{"query_only": "1"}},
	} {
		for _, set := range []pragmas{common, c.more} {
			for name, want := range set {
				var got string
				if err := c.db.QueryRow("PRAGMA " + name).Scan(&got); err != nil || got != want {
					t.Errorf("%s %s: got %q, %v, want %q", c.name, name, got, err, want)
				}
			}
		}
	}
	if _, err := s.read.Exec(`DELETE FROM token`); err == nil {
		t.Error("a reader connection could write")
	}
}

func TestDirectoriesWithOddNames(t *testing.T) {
	for _, name := range []string{"with space", "q?mode=ro", "100%25", "ha#sh", "ünï", "semi;colon&x=1"} {
		dir := filepath.Join(t.TempDir(), name)
		s := open(t, Config{Dir: dir})
		mustCreate(t, s, token(1))
		if _, err := os.Stat(dbPath(dir)); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if db, _ := s.Size(); db == 0 {
			t.Errorf("%q: the database has no bytes", name)
		}
	}
}

func TestCloseFoldsTheLogIn(t *testing.T) {
	s := open(t, Config{})
	mustCreate(t, s, token(1))
	if _, wal := s.Size(); wal == 0 {
		t.Fatal("nothing went through the write-ahead log")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, wal := s.Size(); wal != 0 {
		t.Errorf("the log has %d bytes after Close, want 0", wal)
	}
	if _, err := s.CreateToken(t.Context(), token(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("write after Close: got %v, want ErrClosed", err)
	}
	if _, err := s.Token(t.Context(), "id000001"); err == nil {
		t.Error("read after Close: got no error")
	}
}

func TestManyOpenAFreshDirectoryAtOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), Config{Dir: dir})
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			if _, err := s.CreateToken(t.Context(), token(i)); err != nil {
				t.Errorf("CreateToken: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	wg.Wait()
	s := open(t, Config{Dir: dir, Check: CheckFull})
	if list, err := s.Tokens(t.Context(), TokenFilter{}); len(list) != 8 || err != nil {
		t.Errorf("got %d tokens, %v, want 8", len(list), err)
	}
}

func TestOnlyOneServerHoldsADirectory(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("second lock: got %v, want ErrLocked with the process id", err)
	}
	beside := open(t, Config{Dir: dir}) // a command beside the server
	mustCreate(t, beside, token(1))
	for range 2 {
		if err := first.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	again.Unlock()
}

func TestMigrationNamesCount(t *testing.T) {
	for i, m := range migrations() {
		if want := regexp.MustCompile(fmt.Sprintf(`^%04d_[a-z_]+\.sql$`, i+1)); !want.MatchString(m.name) {
			t.Errorf("migration %d is named %s, want %s", i+1, m.name, want)
		}
	}
}

// upgraded is the schema of a later version, for tests.
func upgraded() []migration {
	return append(migrations(),
		migration{"9998_a.sql", `ALTER TABLE token ADD COLUMN note TEXT NOT NULL DEFAULT ''; CREATE TABLE extra (x INTEGER) STRICT`},
		migration{"9999_b.sql", `INSERT INTO extra SELECT count(*) FROM token`})
}

func TestUpgradeCopiesFirstAndOldProgramsRefuse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	mustCreate(t, s, token(1))
	s.Close()

	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSteps(t.Context(), Config{Dir: dir}, upgraded()); !errors.Is(err, ErrLocked) {
		t.Fatalf("upgrade beside a server: got %v, want ErrLocked", err)
	}
	newer, err := openSteps(t.Context(), Config{Dir: dir, Lock: lock}, upgraded())
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := newer.read.QueryRow(`SELECT x FROM extra`).Scan(&n); n != 1 || err != nil {
		t.Errorf("migrated data: got %d, %v, want 1", n, err)
	}
	newer.Close()
	lock.Unlock()

	_, err = Open(t.Context(), Config{Dir: dir})
	if !errors.Is(err, ErrNewerSchema) || !strings.Contains(err.Error(), fmt.Sprintf("schema %d", len(upgraded()))) ||
		!strings.Contains(err.Error(), fmt.Sprintf("knows %d", len(migrations()))) {
		t.Errorf("old program: got %v, want ErrNewerSchema with both numbers", err)
	}
	copies, _ := filepath.Glob(filepath.Join(dir, backupDir, fmt.Sprintf("before-schema-%04d-*.db", len(migrations())+1)))
	if len(copies) != 1 {
		t.Fatalf("got %d copies, want 1", len(copies))
	}
	back := t.TempDir()
	if err := os.Rename(copies[0], dbPath(back)); err != nil {
		t.Fatal(err)
	}
	old := open(t, Config{Dir: back, Check: CheckFull})
	if _, err := old.Token(t.Context(), "id000001"); err != nil {
		t.Errorf("the copy lacks the token: %v", err)
	}
}

func TestAFailedMigrationLeavesTheSchemaAsItWas(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	mustCreate(t, s, token(1))
	s.Close()
	broken := append(migrations(), migration{"9998_broken.sql", `CREATE TABLE half (x INTEGER); INSERT INTO nowhere VALUES (1)`})
	for range keepBackups + 2 {
		if _, err := openSteps(t.Context(), Config{Dir: dir}, broken); err == nil || !strings.Contains(err.Error(), "9998_broken.sql") {
			t.Fatalf("got %v, want an error that names the migration", err)
		}
	}
	s = open(t, Config{Dir: dir, Check: CheckFull})
	var tables int
	if err := s.read.QueryRow(`SELECT count(*) FROM sqlite_schema WHERE name = 'half'`).Scan(&tables); tables != 0 || err != nil {
		t.Errorf("half a migration is left: %d, %v", tables, err)
	}
	if copies, _ := os.ReadDir(filepath.Join(dir, backupDir)); len(copies) != keepBackups {
		t.Errorf("got %d copies, want the newest %d", len(copies), keepBackups)
	}
}

func TestWatchSeesWhatAnotherProcessWrites(t *testing.T) {
	dir := t.TempDir()
	server := open(t, Config{Dir: dir})
	changed := make(chan struct{}, 100)
	done := make(chan error, 1)
	ctx, cancel := contextWithDeadline(t, 30*time.Second)
	go func() { done <- server.Watch(ctx, func() { changed <- struct{}{} }) }()
	<-changed // the first look
	best := time.Hour
	for range 3 { // a loaded machine may be late once
		runChild(t, "create", dir)
		start := time.Now()
		select {
		case <-changed:
			best = min(best, time.Since(start))
		case <-time.After(10 * time.Second):
			t.Fatal("a token of another process was not seen")
		}
		if best < 500*time.Millisecond {
			break
		}
	}
	if best > 500*time.Millisecond {
		t.Errorf("seen after %v, want half a second at most", best)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
}
