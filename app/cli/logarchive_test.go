package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/store"
)

// TestVerifyArchives trims a log twice and checks it with its archives, in any
// order, one alone, edited, and of another log.
func TestVerifyArchives(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fill := func(dir string) (files []string) {
		db, err := store.Open(t.Context(), store.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for day := range 30 {
			e, err := scale.NewEntry(scale.KindNote, begin.AddDate(0, 0, day), "alice", "", "a note", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.AppendScaleLog(t.Context(), "n1", []scale.Entry{e}); err != nil {
				t.Fatal(err)
			}
		}
		for _, day := range []int{10, 20} {
			got, err := db.TrimScaleLog(t.Context(), store.LogTrim{Before: begin.AddDate(0, 0, day), Archive: true, Node: "n1"})
			if err != nil || len(got.Anchors) != 1 {
				t.Fatalf("trim: got %+v, %v", got, err)
			}
			files = append(files, filepath.Join(dir, got.Anchors[0].File))
		}
		return files
	}
	files, theirs := fill(dir), fill(other)
	broken := filepath.Join(t.TempDir(), "broken.gz")
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, raw[:len(raw)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		archives []string
		code     int
		want     string
	}{
		{"none", nil, 0, ": whole, 12 entries behind entry 20 (20 have left, the last ones for scalelog"},
		{"both", []string{files[1], files[0]}, 0, ": whole, entries 11 to 20 of n1~"},
		{"the last", files[1:], 0, "; the log goes on with entry 21"},
		{"the first", files[:1], 0, "; entries 11 to 20 are in later archives"},
		{"another log's", theirs[1:], 0, "; there is no log of this origin here"},
		{"cut off", []string{broken}, 1, "broken.gz: "},
		{"no file", []string{dir + "/nothing"}, 2, "no such file"},
		{"no archive", []string{filepath.Join(dir, store.FileName)}, 1, "no archive"},
	} {
		args := []string{"log", "verify", "--data", dir}
		for _, a := range tt.archives {
			args = append(args, "--archive", a)
		}
		var out bytes.Buffer
		code := Run(t.Context(), Env{Args: args, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
		if code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: got code %d and\n%swant code %d and %q", tt.name, code, out.String(), tt.code, tt.want)
		}
	}
}
