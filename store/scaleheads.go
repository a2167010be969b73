package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"agentnet/app/scale"
)

// Head is the end of the log as the database has it.
func (l *ScaleLog) Head(ctx context.Context) (h scale.Head, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = l.s.read.QueryRowContext(ctx, `SELECT seq, hash FROM scale_entry WHERE origin = ? ORDER BY seq DESC LIMIT 1`, l.origin).Scan(&h.Seq, &h.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return scale.Head{}, nil
	}
	if err != nil {
		return h, fmt.Errorf("end of the scaling log: %w", l.s.explain(err))
	}
	return h, nil
}

// note writes the end of the chain down beside the database. A note that cannot
// be written is told and changes nothing: the entries are stored.
func (l *ScaleLog) note(h scale.Head) {
	l.s.heads.Lock()
	defer l.s.heads.Unlock()
	all, err := readHeads(l.s.dir)
	if err == nil && all[l.origin].Seq >= h.Seq {
		return
	}
	if all == nil || err != nil {
		all = make(map[string]scale.Head)
	}
	all[l.origin] = h
	if err := writeHeads(l.s.dir, all); err != nil {
		l.s.log.Warn("the end of the scaling log could not be noted beside the database", "path", filepath.Join(l.s.dir, headFile), "error", err)
	}
}

// KnownHeads are the ends of all logs as they were noted outside of the database,
// for scale.Verify. A missing note is none.
func (s *Store) KnownHeads() (map[string]scale.Head, error) {
	s.heads.Lock()
	defer s.heads.Unlock()
	all, err := readHeads(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]scale.Head{}, nil
	}
	return all, err
}

func readHeads(dir string) (map[string]scale.Head, error) {
	raw, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return nil, err
	}
	var all map[string]scale.Head
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, headFile), err)
	}
	return all, nil
}

// writeHeads replaces the file as a whole; a crash leaves the old or the new one.
func writeHeads(dir string, all map[string]scale.Head) (err error) {
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, headFile+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(append(raw, '\n')); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, headFile))
}
