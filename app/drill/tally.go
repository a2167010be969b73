package drill

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"agentnet/app/client"
)

// A tally holds what was sent against what came: each number once, none missing.
type tally struct {
	mu       sync.Mutex
	promised map[uint64]time.Time // by number, when the relay said yes
	came     map[uint64]int
	late     []time.Duration // from the sending to the coming
	sent     map[uint64]time.Time
	refused  int
	why      error // of the last refusal
}

func newTally() *tally {
	return &tally{promised: make(map[uint64]time.Time), came: make(map[uint64]int), sent: make(map[uint64]time.Time)}
}

// take is a handler of messages whose payload is a number, or a padded one.
func (t *tally) take(_ context.Context, m *client.Message) {
	first, _, _ := bytes.Cut(bytes.Trim(m.Payload.Data, `"`), []byte(" "))
	n, err := strconv.ParseUint(string(first), 10, 64)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.came[n]++
	if at, ok := t.sent[n]; ok && t.came[n] == 1 {
		t.late = append(t.late, time.Since(at))
	}
}

// try sends a number through f and notes the answer.
func (t *tally) try(n uint64, f func() error) error {
	t.mu.Lock()
	t.sent[n] = time.Now()
	t.mu.Unlock()
	err := f()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.refused, t.why = t.refused+1, err
		return err
	}
	t.promised[n] = time.Now()
	return nil
}

// count returns how many were promised, how many of these are missing, and how many
// came more than once.
func (t *tally) count() (promised, missing, twice int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range t.promised {
		if t.came[n] == 0 {
			missing++
		}
	}
	for _, times := range t.came {
		if times > 1 {
			twice++
		}
	}
	return len(t.promised), missing, twice
}

// refusals counts the messages that were refused; why is the reason of the last.
func (t *tally) refusals() (n int, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused, t.why
}

// refusals is their count in words, with the reason of the last.
func refusals(n int, why error) string {
	if n == 0 {
		return "none refused"
	}
	return fmt.Sprintf("%d refused, the last with %q", n, why)
}

// quantile is how late a share of the messages was at most.
func (t *tally) quantile(q float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.late) == 0 {
		return 0
	}
	sorted := slices.Clone(t.late)
	slices.Sort(sorted)
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Round(100 * time.Microsecond)
}

func number(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }

// padded is a number in a JSON string of about so many bytes.
func padded(n uint64, size int) []byte {
	out := append([]byte{'"'}, number(n)...)
	out = append(out, ' ')
	return append(append(out, bytes.Repeat([]byte{'.'}, size)...), '"')
}
