package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"agentnet/app/relay/overload"
)

// pressureFile is there while a node puts work off that nobody waits for, so that
// commands beside it, such as a nightly backup, put theirs off too. They may run
// without a network, and need no token for it.
const pressureFile = "pressure.json"

const (
	// pressureLook is how often the level is looked at for the file, and how often
	// who waits looks at the file.
	pressureLook = time.Second
	// pressureFresh is the age from which the file speaks of a node that was killed.
	// A node that lives touches it each pressureLook.
	pressureFresh = 15 * time.Second
)

// A Strain says why and since when a node puts work off.
type Strain struct {
	Why   string    `json:"why"` // such as "degraded load"
	Since time.Time `json:"since"`
}

// ReadStrain reads whether the node on dir puts work off now. It does not when
// none runs there.
func ReadStrain(dir string, now time.Time) (s Strain, ok bool, err error) {
	path := filepath.Join(dir, pressureFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if age := now.Sub(info.ModTime()); age > pressureFresh || age < -pressureFresh {
		return s, false, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil // calm meanwhile
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, false, fmt.Errorf("%s: %w", path, err)
	}
	return s, true, nil
}

// A Waited says what came of AwaitCalm.
type Waited struct {
	For    time.Duration // 0: the node was calm, or none runs
	Why    string        // what it waited for
	Forced bool          // the deadline came before the calm
}

// String says it for people; "" where nothing was waited for.
func (w Waited) String() string {
	switch {
	case w.For == 0:
		return ""
	case w.Forced:
		return fmt.Sprintf("waited %v for the node to be calm, its longest, and went on under %s", w.For.Round(time.Second), w.Why)
	}
	return fmt.Sprintf("waited %v for the node to be calm: %s", w.For.Round(time.Second), w.Why)
}

// AwaitCalm returns when the node on dir is calm, or none runs there, and after
// most at the latest. told is called once, when it begins to wait; it may be nil.
// An error means that ctx ended, or that the node's note cannot be read.
func AwaitCalm(ctx context.Context, dir string, most time.Duration, told func(Strain)) (w Waited, err error) {
	if most <= 0 {
		return w, nil
	}
	began := time.Now()
	look := time.NewTicker(pressureLook)
	defer look.Stop()
	for {
		now := time.Now()
		s, strained, err := ReadStrain(dir, now)
		w.For = now.Sub(began)
		if err != nil {
			return w, fmt.Errorf("wait for calm: %w", err)
		}
		if !strained {
			return w, nil
		}
		if w.Why == "" && told != nil {
			told(s)
		}
		if w.Why = s.Why; w.For >= most {
			w.Forced = true
			return w, nil
		}
		select {
		case <-ctx.Done():
			return w, fmt.Errorf("wait for calm: %w", ctx.Err())
		case <-look.C:
		}
	}
}

// noteStrain keeps the file in dir until ctx ends, and takes it away then. level
// is read each pressureLook.
func noteStrain(ctx context.Context, dir string, level func() overload.Level, fault func(error)) {
	path := filepath.Join(dir, pressureFile)
	var noted Strain
	remove := func() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			fault(err)
		}
		noted = Strain{}
	}
	remove() // of a node that was killed
	defer remove()
	look := time.NewTicker(pressureLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			l := level()
			if !l.DefersBackground() {
				if noted.Why != "" {
					remove()
				}
				continue
			}
			if err := touchStrain(path, &noted, l.String()+" load", now); err != nil {
				fault(err)
			}
		}
	}
}

// touchStrain writes the file where what it says has changed, and else says only
// that it still holds.
func touchStrain(path string, noted *Strain, why string, now time.Time) error {
	if noted.Why == why {
		return os.Chtimes(path, now, now)
	}
	next := Strain{Why: why, Since: noted.Since}
	if next.Since.IsZero() {
		next.Since = now.UTC().Truncate(time.Millisecond)
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(path+".tmp", now, now); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	*noted = next
	return nil
}

// runStrain has commands beside this node know when it puts work off.
func (a *App) runStrain(ctx context.Context) error {
	told := false
	noteStrain(ctx, a.dataDir(), a.hub.Level, func(err error) {
		if !told {
			told = true
			a.log.Warn("commands beside this node do not know that it puts work off", "error", err)
		}
	})
	return nil
}
