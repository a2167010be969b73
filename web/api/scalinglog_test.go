package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"agentnet/app/scale"
)

// longLog is an engine whose log is as long as it is told, and breaks where it is
// told.
type longLog struct {
	Scaling
	entries, breaksAt uint64
}

func (l longLog) Log(_ context.Context, f scale.LogFilter) ([]scale.LogEntry, error) {
	if !f.Oldest {
		return nil, errors.New("an export reads the oldest first")
	}
	var out []scale.LogEntry
	for place := f.Before + 1; place <= l.entries && len(out) < f.Limit; place++ {
		if place == l.breaksAt {
			return nil, errors.New("the disk is gone")
		}
		out = append(out, scale.LogEntry{Place: place, Origin: "n1~0", Entry: scale.Entry{Seq: place, At: time.Unix(int64(place), 0).UTC(), Kind: scale.KindNote, Actor: "alice", Summary: fmt.Sprint("note ", place)}})
	}
	return out, nil
}

// TestLogExportIsWhole streams more than any page holds, in both forms, and tells
// where an export broke.
func TestLogExportIsWhole(t *testing.T) {
	const entries = 120_345
	l := longLog{entries: entries}
	n := newNode(t, func(c *Config, _ *node) { c.Scaling = &l })
	for format, head := range map[string]int{"json": 0, "csv": 1} {
		l.breaksAt = 0
		got := n.do("GET", "/v1/scaling/log/export?limit=10&format="+format, viewerToken, "")
		lines := strings.Split(strings.TrimSuffix(got.body, "\n"), "\n")
		if got.status != 200 || len(lines) != entries+head || !strings.Contains(lines[len(lines)-1], fmt.Sprint("note ", entries)) {
			t.Errorf("%s: got %d and %d lines that end with %.200q, want all of %d", format, got.status, len(lines), lines[len(lines)-1], entries)
		}
		l.breaksAt = 2_000
		got = n.do("GET", "/v1/scaling/log/export?format="+format, viewerToken, "")
		lines = strings.Split(strings.TrimSuffix(got.body, "\n"), "\n")
		if last := lines[len(lines)-1]; len(lines) != 1500+head+1 || !strings.HasPrefix(strings.TrimPrefix(last, `{"`), "error") {
			t.Errorf("%s: got %d lines that end with %.200q, want the whole pages before the fault and a line that tells of it", format, len(lines), last)
		}
	}
}
