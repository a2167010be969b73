//go:build unix

package backup

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The environment by which TestKilledRestore runs itself as the process that it kills.
const (
	killFile = "AGENTNET_TEST_RESTORE_FILE"
	killData = "AGENTNET_TEST_RESTORE_DATA"
	killStep = "AGENTNET_TEST_RESTORE_STEP"
)

// restoreAndDie restores, or settles where no file is named, and is killed, as by
// kill -9, before the step of that number.
func restoreAndDie(t *testing.T) {
	left, err := strconv.Atoi(os.Getenv(killStep))
	if err != nil {
		t.Fatal(err)
	}
	step := func() {
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it comes
		}
	}
	data := os.Getenv(killData)
	if file := os.Getenv(killFile); file != "" {
		_, err = Restore(t.Context(), RestoreOptions{File: file, Data: data, Force: true, step: step})
	} else {
		_, err = settle(data, step)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// child runs restoreAndDie in a process of its own and says whether it was killed.
func child(t *testing.T, file, data string, step int) (killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledRestore$", "-test.count=1")
	cmd.Env = append(os.Environ(), killFile+"="+file, killData+"="+data, killStep+"="+strconv.Itoa(step))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("step %d: %v\n%s", step, err, out)
	return false
}

// fingerprint is all that a restore would replace, with its content.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		top, _, _ := strings.Cut(name, string(filepath.Separator))
		if top == "lock" || top == "." || strings.HasPrefix(top, asidePrefix) || strings.HasPrefix(top, stagePrefix) || top == halfName {
			return nil
		}
		if d.IsDir() {
			out[name] = "folder"
			return nil
		}
		raw, err := os.ReadFile(path)
		out[name] = fmt.Sprintf("%x", sha256.Sum256(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestKilledRestore kills a restore before each of its steps, and what settles it
// before each of its own: what is served then is either all of the old data or all of
// the new, never a mixture, and the old is still there in the folder aside.
func TestKilledRestore(t *testing.T) {
	if os.Getenv(killData) != "" {
		restoreAndDie(t)
		return
	}
	made := start(t, t.TempDir())
	made.token("new")
	file := filepath.Join(t.TempDir(), "b")
	if _, err := Make(t.Context(), Options{Data: made.dir, To: file}); err != nil {
		t.Fatal(err)
	}
	made.stop()
	source := start(t, t.TempDir())
	source.token("old")
	source.stop()
	if err := os.WriteFile(filepath.Join(source.dir, "of-the-old-alone"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := fingerprint(t, source.dir)
	fresh := t.TempDir()
	if _, err := Restore(t.Context(), RestoreOptions{File: file, Data: fresh}); err != nil {
		t.Fatal(err)
	}
	whole := fingerprint(t, fresh)
	if maps.Equal(old, whole) || len(whole) == 0 {
		t.Fatal("the old and the new data are the same: nothing could be told apart")
	}
	kept, replaced := 0, 0
	for step := 1; ; step++ {
		data := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(data, os.DirFS(source.dir)); err != nil {
			t.Fatal(err)
		}
		killed := child(t, file, data, step)
		for again := 1; killed && again <= 3; again++ { // what settles is killed too
			if Incomplete(data) != nil && !child(t, "", data, again) {
				break
			}
		}
		if _, err := Settle(data); err != nil {
			t.Fatalf("killed before step %d: %v", step, err)
		}
		got := fingerprint(t, data)
		switch {
		case maps.Equal(got, old):
			kept++
		case maps.Equal(got, whole):
			replaced++
			aside, _ := filepath.Glob(filepath.Join(data, asidePrefix+"*"))
			if len(aside) != 1 || !maps.Equal(fingerprint(t, aside[0]), old) {
				t.Errorf("killed before step %d: got %v aside, want all of the old data", step, aside)
			}
		default:
			t.Errorf("killed before step %d: got neither the old nor the new data: %v", step, got)
		}
		if left, _ := filepath.Glob(filepath.Join(data, stagePrefix+"*")); len(left) > 0 || Incomplete(data) != nil {
			t.Errorf("killed before step %d: got %v left and %v", step, left, Incomplete(data))
		}
		if !killed {
			break
		}
	}
	if kept < 2 || replaced < 5 {
		t.Errorf("got %d kills that kept the old data and %d that brought the new: the steps are not the whole way", kept, replaced)
	}
	t.Logf("%d kills left the old data, %d the new", kept, replaced)
}
