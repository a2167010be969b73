package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func contextWithDeadline(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx, cancel
}

// child is the other process: "create" stores one token, "insert" stores tokens
// until it is killed and prints the number of each that was acknowledged.
func child(role, dir string) int {
	s, err := Open(context.Background(), Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if role == "log" {
		return logChild(s)
	}
	if role == "trim" {
		return trimChild(s)
	}
	if role == "create" {
		if _, err := s.CreateToken(context.Background(), token(os.Getpid())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	next := make(chan int)
	for range 8 { // so that commits are shared
		go func() {
			for n := range next {
				if _, err := s.CreateToken(context.Background(), token(n)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Printf("%d\n", n) // one write, unbuffered
			}
		}()
	}
	start := os.Getpid() * 1000
	for n := start; n < start+1_000_000; n++ {
		next <- n
	}
	return 0
}

func childCommand(role, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childVar+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

func runChild(t testing.TB, role, dir string) {
	t.Helper()
	if err := childCommand(role, dir).Run(); err != nil {
		t.Fatalf("child %s: %v", role, err)
	}
}

func TestKilledProcessLosesNothingThatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acked := map[int]bool{}
	for round := range 8 {
		cmd := childCommand("insert", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		watchdog := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		lines, kill := bufio.NewScanner(out), 20+rand.IntN(300)
		for seen := 0; lines.Scan(); seen++ {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			acked[n] = true
			if seen == kill {
				cmd.Process.Signal(syscall.SIGKILL) // what it acknowledged meanwhile is still read
			}
		}
		watchdog.Stop()
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d: child ended with %v, want killed", round, err)
		}
		start := time.Now()
		s, err := Open(t.Context(), Config{Dir: dir, Check: CheckFull})
		if err != nil {
			t.Fatalf("round %d: reopen: %v", round, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("round %d: reopening took %v", round, took)
		}
		for n := range acked {
			if _, err := s.Token(t.Context(), token(n).ID); err != nil {
				t.Fatalf("round %d: acknowledged token %d: %v", round, n, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged tokens over 8 kills", len(acked))
}

// smallDisk makes s run out of space: on a file system of 1 MiB where the test
// may mount one, else by a bound on the pages of the database.
func smallDisk(t *testing.T) (*Store, func()) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
		s := open(t, Config{Dir: dir})
		return s, func() {
			if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
				t.Fatal(err)
			}
		}
	}
	s := open(t, Config{Dir: dir})
	if _, err := s.write.Exec(`PRAGMA max_page_count = 60`); err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if _, err := s.write.Exec(`PRAGMA max_page_count = 100000`); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	s, moreSpace := smallDisk(t)
	var acked []int
	for n := range 100_000 {
		_, err := s.CreateToken(t.Context(), token(n))
		if err != nil {
			if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), s.Dir()) {
				t.Fatalf("got %v, want ErrFull with the directory", err)
			}
			break
		}
		acked = append(acked, n)
	}
	if len(acked) < 10 || len(acked) == 100_000 {
		t.Fatalf("%d writes were acknowledged", len(acked))
	}
	for _, n := range acked {
		if _, err := s.Token(t.Context(), token(n).ID); err != nil {
			t.Fatalf("token %d of %d: %v", n, len(acked), err)
		}
	}
	if err := s.Check(t.Context(), CheckFull); err != nil {
		t.Errorf("after the disk was full: %v", err)
	}
	moreSpace()
	mustCreate(t, s, token(200_000))
}

func TestDamagedFilesGiveAClearError(t *testing.T) {
	whole := t.TempDir()
	s := open(t, Config{Dir: whole})
	for n := range 300 {
		mustCreate(t, s, token(n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(dbPath(whole))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	cases := map[string][]byte{
		"text":       []byte(strings.Repeat("this is no database\n", 300)),
		"zeros":      make([]byte, len(good)),
		"half":       good[:len(good)/2],
		"header":     good[:100],
		"odd length": good[:len(good)-17],
	}
	for i := range 120 {
		b := append([]byte(nil), good...)
		at := rnd.IntN(len(b))
		if i < 20 {
			at = i * 5 // the header
		}
		b[at] ^= byte(1 + rnd.IntN(255))
		cases[fmt.Sprintf("byte %d", at)] = b
	}
	refused := 0
	for name, b := range cases {
		dir := t.TempDir()
		if err := os.WriteFile(dbPath(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		err := useAll(t, dir)
		clear := err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrForeign) || errors.Is(err, ErrNewerSchema)
		if !clear || (err != nil && !strings.Contains(err.Error(), dir) && !strings.Contains(err.Error(), "token")) {
			t.Errorf("%s: got %v, want one of our errors that names the file", name, err)
		}
		if err != nil {
			refused++
		} else if !strings.HasPrefix(name, "byte") {
			t.Errorf("%s: was taken for a whole database", name)
		}
	}
	t.Logf("%d of %d damaged files were refused, the others had their damage in bytes without meaning or in plain values", refused, len(cases))
}

func TestDamagedLogLosesTheEndOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	const n = 40
	for i := range n {
		mustCreate(t, s, token(i))
	}
	main, err := os.ReadFile(dbPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(dbPath(dir) + "-wal")
	if err != nil || len(wal) < 100_000 {
		t.Fatalf("the log has %d bytes, %v", len(wal), err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		damaged := append([]byte(nil), wal...)
		if i%2 == 0 {
			damaged = damaged[:rnd.IntN(len(wal))]
		} else {
			damaged[rnd.IntN(len(wal))] ^= byte(1 + rnd.IntN(255))
		}
		copied := t.TempDir()
		for name, b := range map[string][]byte{"": main, "-wal": damaged} {
			if err := os.WriteFile(dbPath(copied)+name, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(t.Context(), Config{Dir: copied, Check: CheckFull})
		if err != nil {
			t.Errorf("damage %d: %v", i, err)
			continue
		}
		list, err := s.Tokens(t.Context(), TokenFilter{Limit: 1000})
		for k, tok := range list { // newest first: what is left is a beginning, without holes
			if tok.ID != token(len(list)-1-k).ID {
				t.Fatalf("damage %d: token %s at place %d of %d", i, tok.ID, k, len(list))
			}
		}
		if err != nil {
			t.Errorf("damage %d: %v", i, err)
		}
		s.Close()
	}
}

// useAll opens dir and does everything once.
func useAll(t *testing.T, dir string) error {
	s, err := Open(t.Context(), Config{Dir: dir, Check: CheckFull})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Tokens(t.Context(), TokenFilter{Limit: 1000}); err != nil {
		return err
	}
	if _, err := s.TokensSince(t.Context(), 0, 1000); err != nil {
		return err
	}
	_, err = s.CreateToken(t.Context(), token(100_000))
	return err
}

func TestCheckReportsWhatItFinds(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	mustCreate(t, s, token(1))
	for _, level := range []CheckLevel{CheckNone, CheckQuick, CheckFull} {
		if err := s.Check(t.Context(), level); err != nil {
			t.Errorf("level %d on a whole database: %v", level, err)
		}
	}
	if _, err := s.write.Exec(`PRAGMA ignore_check_constraints = ON; UPDATE token SET agents = 'no list'`); err != nil {
		t.Fatal(err)
	}
	for _, level := range []CheckLevel{CheckQuick, CheckFull} {
		if err := s.Check(t.Context(), level); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "token") {
			t.Errorf("level %d: got %v, want ErrCorrupt that names the table", level, err)
		}
		if err := useAll(t, dir); !errors.Is(err, ErrCorrupt) {
			t.Errorf("level %d: opening with a check: got %v, want ErrCorrupt", level, err)
		}
	}
	if _, err := s.Token(t.Context(), "id000001"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("reading the row: got %v, want ErrCorrupt", err)
	}
}

func TestForeignDatabaseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := prepareFiles(dir, dbPath(dir), nil); err != nil {
		t.Fatal(err)
	}
	db := pool(dbPath(dir), writing, time.Second, 1)
	if _, err := db.Exec(`CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, _ := os.ReadFile(dbPath(dir))
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
	if after, _ := os.ReadFile(dbPath(dir)); string(after) != string(before) {
		t.Error("the file was changed")
	}
}
