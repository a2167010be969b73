package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// restoreStage begins the names of folders with a backup that is being put back, and
// contentName is the folder in it that holds what was verified.
const (
	restoreStage = stagePrefix + "restore-"
	contentName  = "content"
)

// A mark says, while a restore moves files, what it moves. It is written when the whole
// backup has been verified, and everything that it names lies in the same directory: a
// restore that is killed after that can always be brought to its end, and one that is
// killed before has changed nothing.
type mark struct {
	Stage string   `json:"stage"`           // folder with the new data
	Aside string   `json:"aside,omitempty"` // folder for what was there; "" when there was nothing
	Old   []string `json:"old,omitempty"`   // what was there

	// step is called before each change of the directory, for tests that end the
	// process there. Nil: nobody counts.
	step func()
}

func (m *mark) before() {
	if m.step != nil {
		m.step()
	}
}

// Incomplete returns ErrHalf when a restore into dir did not come to its end yet. Such
// a directory is neither the old one nor the new one, and nobody may read it before
// Settle.
func Incomplete(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, halfName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var m mark
	if json.Unmarshal(raw, &m) == nil && m.valid() {
		return fmt.Errorf("%w in %s: start the server or run the restore again, either brings it to its end; what was there before is in %s", ErrHalf, dir, filepath.Join(dir, m.Aside))
	}
	return fmt.Errorf("%w in %s: run it again with --force; what was there before is in %s", ErrHalf, dir, strings.TrimSpace(string(raw)))
}

// valid says whether the mark names nothing outside of its directory.
func (m *mark) valid() bool {
	plain := func(name string) bool {
		return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00")
	}
	for _, name := range m.Old {
		if !plain(name) {
			return false
		}
	}
	return plain(m.Stage) && strings.HasPrefix(m.Stage, restoreStage) &&
		(m.Aside == "" && len(m.Old) == 0 || plain(m.Aside) && strings.HasPrefix(m.Aside, asidePrefix))
}

// Settle brings a restore that was cut off in dir to its end, and says whether there
// was one. The caller holds the lock of the directory. What an attempt left that had
// changed nothing is removed. ErrHalf is one that cannot be settled.
func Settle(dir string) (bool, error) { return settle(dir, nil) }

func settle(dir string, step func()) (bool, error) {
	raw, err := os.ReadFile(filepath.Join(dir, halfName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, dropStages(dir)
	}
	if err != nil {
		return false, err
	}
	var m mark
	if json.Unmarshal(raw, &m) != nil || !m.valid() {
		return false, Incomplete(dir)
	}
	m.step = step
	if err := m.move(dir); err != nil {
		return false, fmt.Errorf("%w in %s and cannot be brought to its end: %w", ErrHalf, dir, err)
	}
	return true, nil
}

// dropStages removes what restores left that were killed before they changed anything.
func dropStages(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, restoreStage+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// swap puts the content of the stage into the place of what was there.
func (m *mark) swap(dir string) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	// A mark that is half written would be none: it appears as a whole.
	draft := filepath.Join(dir, m.Stage, halfName)
	m.before()
	if err := os.WriteFile(draft, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(dir, m.Stage)); err != nil {
		return err
	}
	m.before()
	if err := os.Rename(draft, filepath.Join(dir, halfName)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return m.move(dir)
}

// move does what the mark says, from wherever an earlier attempt was cut off: first
// all that is old goes aside, then all that is new comes in. What lies in the folder
// aside was old; so while one old name is missing there, nothing new is in place yet.
func (m *mark) move(dir string) error {
	if m.Aside != "" {
		aside := filepath.Join(dir, m.Aside)
		m.before()
		if err := os.Mkdir(aside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, name := range m.Old {
			to := filepath.Join(aside, name)
			if _, err := os.Lstat(to); err == nil {
				continue
			}
			m.before()
			if err := os.Rename(filepath.Join(dir, name), to); err != nil {
				return err
			}
		}
		if err := syncDir(aside); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	content := filepath.Join(dir, m.Stage, contentName)
	entries, err := os.ReadDir(content)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		m.before()
		if err := os.Rename(filepath.Join(content, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	m.before()
	if err := os.Remove(filepath.Join(dir, halfName)); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	m.before()
	return os.RemoveAll(filepath.Join(dir, m.Stage))
}
