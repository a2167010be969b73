package journal

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/relay"
)

// runChild is the other process of TestKill: it parks and deletes as fast as it
// can and says on stdout what was acked ("+n") and what it is about to delete
// ("-n"), each in one write, until it is killed.
func runChild(dir string) {
	j, err := Open(Config{Dir: dir, SegmentBytes: 64 << 10})
	if err != nil {
		fmt.Println("!", err)
		os.Exit(1)
	}
	if err := j.Load(func(*relay.Parked) error { return nil }); err != nil {
		fmt.Println("!", err)
		os.Exit(1)
	}
	first, _ := strconv.Atoi(os.Getenv("JOURNAL_FIRST"))
	var mu sync.Mutex
	slots := make(chan struct{}, 64)
	for n := first; ; n++ {
		slots <- struct{}{}
		p := message(n)
		j.Put(p, func(err error) {
			mu.Lock()
			if err != nil {
				fmt.Println("!", err)
			} else {
				fmt.Println("+" + strconv.Itoa(n))
			}
			if n%5 != 0 {
				fmt.Println("-" + strconv.Itoa(n))
				j.Delete(p.MessageID)
			}
			mu.Unlock()
			<-slots
		})
	}
}

// TestKill kills a process that parks under load, at random moments, again and
// again on the same folder: whatever was acked and not deleted is loaded by the
// next one, undamaged, in order.
func TestKill(t *testing.T) {
	const rounds = 60
	dir, exe := t.TempDir(), os.Args[0]
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	must, may := map[int]bool{}, map[int]bool{}
	first, acks := 0, 0
	for round := range rounds {
		events := runAndKill(t, exe, dir, first, time.Duration(r.IntN(120_000))*time.Microsecond)
		last := first
		for _, e := range events {
			n, err := strconv.Atoi(e[1:])
			if err != nil {
				t.Fatalf("round %d: the child said %q", round, e)
			}
			last = max(last, n+1)
			switch e[0] {
			case '+':
				must[n] = true
				acks++
			case '-':
				delete(must, n)
				may[n] = true
			}
		}
		first = last + 64 // what the child had begun and not told may be there as well
		checkAfterKill(t, dir, round, must)
		if round%6 == 5 {
			emptyFolder(t, dir) // so that the checking stays quick
			clear(must)
		}
	}
	if acks < 10*rounds {
		t.Errorf("only %d acks in %d rounds: the children hardly ran", acks, rounds)
	}
	t.Logf("%d rounds, %d acks, %d deletes, %d left", rounds, acks, len(may), len(must))
}

func runAndKill(t *testing.T, exe, dir string, first int, after time.Duration) []string {
	t.Helper()
	cmd := exec.Command(exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), "JOURNAL_CHILD="+dir, "JOURNAL_FIRST="+strconv.Itoa(first))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var events []string
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil { // the clock runs from the first ack, so that slow starts do not matter
			timer = time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		if s := lines.Text(); s != "" {
			events = append(events, s)
		}
	}
	cmd.Wait()
	if timer == nil {
		t.Fatal("the child ended without one ack")
	}
	timer.Stop()
	return events
}

func checkAfterKill(t *testing.T, dir string, round int, must map[int]bool) {
	t.Helper()
	j, err := Open(Config{Dir: dir, SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatalf("round %d: Open: %v", round, err)
	}
	defer j.Close()
	if st := j.Stats(); len(st.Damaged) != 0 {
		t.Fatalf("round %d: damaged %v, want none", round, st.Damaged)
	}
	found := map[int]bool{}
	for _, p := range load(t, j) {
		n, err := strconv.Atoi(strings.TrimLeft(strings.TrimPrefix(p.MessageID, "01J"), "0"))
		if p.MessageID == message(0).MessageID {
			n, err = 0, nil
		}
		if err != nil || !reflect.DeepEqual(p, message(n)) {
			t.Fatalf("round %d: message %s differs from what was put", round, p.MessageID)
		}
		found[n] = true
	}
	for n := range must {
		if !found[n] {
			t.Fatalf("round %d: message %d was acked and is lost", round, n)
		}
	}
}

// emptyFolder deletes all, and shows that after a clean stop they stay deleted.
func emptyFolder(t *testing.T, dir string) {
	t.Helper()
	j := open(t, Config{Dir: dir, SegmentBytes: 64 << 10})
	for _, p := range load(t, j) {
		j.Delete(p.MessageID)
	}
	j.Close()
	j = open(t, Config{Dir: dir, SegmentBytes: 64 << 10})
	wantMessages(t, load(t, j))
	j.Close()
}
