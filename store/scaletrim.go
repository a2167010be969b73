package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"agentnet/app/scale"
)

const (
	// archiveEntries bounds the entries of one archive, and of one origin in one call.
	archiveEntries = 20_000
	// trimRows bounds the entries that one write deletes.
	trimRows = 500
	// entryOverhead is what an entry takes beside its texts: hashes, numbers, indexes.
	entryOverhead = 400
)

// A LogTrim says what of the scaling log may leave the database.
type LogTrim struct {
	Before  time.Time // entries before this; zero: of any age stay
	Bytes   int64     // the rest, the oldest first, where the log takes more; 0: any size
	Archive bool      // write what leaves to an archive beside the database first
	Node    string    // who signs
}

// A LogTrimmed says what TrimScaleLog did.
type LogTrimmed struct {
	Entries uint64            // that left the database
	Anchors []scale.LogAnchor // that moved
	Faults  map[string]error  // origins that keep all, and why
	More    bool              // there is more to do
}

// TrimScaleLog takes the oldest entries out of the database, of each origin up to a
// bounded number. The newest entry of each origin always stays. In this order, so
// that kill -9 at any moment loses nothing:
//
//  1. what leaves is verified and written to an archive, durable under its name;
//  2. one transaction moves the anchors and appends an entry to this data
//     directory's own log that names all of them;
//  3. the entries behind the anchors are deleted, a few at a time, which the next
//     call goes on with.
//
// A log that is not as it was written keeps all of its entries.
func (s *Store) TrimScaleLog(ctx context.Context, t LogTrim) (LogTrimmed, error) {
	s.trimming.Lock()
	defer s.trimming.Unlock()
	out := LogTrimmed{Faults: map[string]error{}}
	s.dropUnfinished()
	anchors, err := s.ScaleLogAnchors(ctx)
	if err != nil {
		return out, err
	}
	origins, err := s.ScaleLogOrigins(ctx)
	if err != nil {
		return out, err
	}
	place, err := s.overfull(ctx, t.Bytes)
	if err != nil {
		return out, fmt.Errorf("trim the scaling log: %w", s.explain(err))
	}
	for _, origin := range origins {
		a, moved, more, err := s.archive(ctx, t, anchors[origin], origin, place)
		switch {
		case ctx.Err() != nil:
			return out, fmt.Errorf("trim the scaling log: %w", ctx.Err())
		case err != nil:
			out.Faults[origin] = err
		case moved:
			out.Anchors, out.More = append(out.Anchors, a), out.More || more
		}
	}
	if len(out.Anchors) > 0 {
		if err := s.sign(ctx, t.Node, out.Anchors); err != nil {
			return out, fmt.Errorf("trim the scaling log: %w", err)
		}
	}
	for _, origin := range origins {
		n, err := s.deleteArchived(ctx, origin)
		if out.Entries += n; err != nil {
			return out, fmt.Errorf("trim the scaling log: %w", err)
		}
	}
	return out, nil
}

// dropUnfinished removes archives that a killed process began.
func (s *Store) dropUnfinished() {
	left, _ := filepath.Glob(filepath.Join(s.dir, logArchiveDir, unfinished+"*")) // the pattern is right
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			s.log.Warn("an unfinished archive of the scaling log stays", "path", path, "error", err)
		}
	}
}

// overfull is the place up to which entries must go for the log to fit into bytes.
func (s *Store) overfull(ctx context.Context, bytes int64) (place int64, err error) {
	if bytes <= 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = s.read.QueryRowContext(ctx, `WITH sized AS (SELECT place, octet_length(data) + octet_length(summary) + ?2 AS size FROM scale_entry),
		kept AS (SELECT place, sum(size) OVER (ORDER BY place DESC) AS size FROM sized)
		SELECT coalesce(max(place), 0) FROM kept WHERE size > ?1`, bytes, entryOverhead).Scan(&place)
	return place, err
}

// archive writes what may leave of one origin to a file and returns where its chain
// begins afterwards. Nothing in the database is changed.
func (s *Store) archive(ctx context.Context, t LogTrim, a scale.LogAnchor, origin string, place int64) (_ scale.LogAnchor, moved, more bool, err error) {
	a.Origin = origin
	until, err := s.leavesUntil(ctx, t, &a, place)
	if err != nil || until <= a.Gone.Seq {
		return a, false, false, err
	}
	if most := a.Gone.Seq + archiveEntries; until > most {
		until, more = most, true
	}
	var w *archiveWriter
	check := scale.NewVerifier(a.Gone)
	if t.Archive {
		if w, err = newArchive(s.dir, origin, a.Gone); err != nil {
			return a, false, false, fmt.Errorf("archive: %w", err)
		}
	}
	add := func(e *scale.Entry) error {
		if w != nil {
			return w.add(e)
		}
		check.Add(e)
		return nil
	}
	for after := a.Gone.Seq; after < until && err == nil; {
		var page []scale.LogEntry
		page, err = s.scaleEntries(ctx, `WHERE origin = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT 500`, origin, after, until)
		for i := range page {
			if err = add(&page[i].Entry); err != nil {
				break
			}
			after = page[i].Seq
		}
		if len(page) == 0 {
			break
		}
	}
	if err != nil {
		if w != nil {
			err = errors.Join(err, w.drop())
		}
		return a, false, false, fmt.Errorf("archive: %w", err)
	}
	var end scale.Head
	var rows uint64
	if w != nil {
		a.File, a.Digest, end, rows, err = w.finish()
	} else {
		var faults []scale.Fault
		if faults, rows, end = check.Finish(scale.Head{}); len(faults) > 0 {
			err = fmt.Errorf("%w: %s (agentnet log verify names all); nothing of it leaves while it is so", ErrChain, faults[0].Text)
		}
		a.File, a.Digest = "", ""
	}
	if err != nil || rows == 0 {
		return a, false, false, err
	}
	a.Gone, a.Entries = end, a.Entries+rows
	if end.Seq > a.Head.Seq {
		a.Head = end
	}
	return a, true, more, nil
}

// leavesUntil is the number of the last entry of an origin that may leave.
func (s *Store) leavesUntil(ctx context.Context, t LogTrim, a *scale.LogAnchor, place int64) (until uint64, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var head, old, full int64
	// The prefix that is old: a clock that stepped back takes nothing newer along.
	err = s.read.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0), coalesce(max(CASE WHEN place <= ?2 THEN seq END), 0) FROM scale_entry WHERE origin = ?1`, a.Origin, place).Scan(&head, &full)
	if err == nil && !t.Before.IsZero() {
		err = s.read.QueryRowContext(ctx, `SELECT seq - 1 FROM scale_entry WHERE origin = ? AND seq > ? AND at_ns >= ? ORDER BY seq LIMIT 1`, a.Origin, a.Gone.Seq, t.Before.UnixNano()).Scan(&old)
		if errors.Is(err, sql.ErrNoRows) {
			old, err = head, nil
		}
	}
	if err != nil {
		return 0, s.explain(err)
	}
	until = uint64(max(0, min(max(old, full), head-1)))
	if a.Gone.Seq < a.Head.Seq {
		// Entries from before a gap: they leave on their own, with the chain that they are of.
		err = s.read.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM scale_entry WHERE origin = ? AND seq <= ?`, a.Origin, a.Head.Seq).Scan(&old)
		if err != nil {
			return 0, s.explain(err)
		}
		if uint64(old) > a.Gone.Seq {
			return uint64(old), nil
		}
		a.Gone = a.Head
	}
	return until, nil
}

// anchors is the data of the entry by which a data directory signs where the chains
// that it keeps begin.
type anchors struct {
	Anchors []scale.LogAnchor `json:"anchors"`
}

// sign moves anchors and appends the entry that names all that hold now.
func (s *Store) sign(ctx context.Context, node string, moved []scale.LogAnchor) error {
	sealed, err := write(ctx, s, func(tx *sql.Tx) ([]scale.LogEntry, error) {
		for i := range moved {
			if err := putAnchor(tx, &moved[i]); err != nil {
				return nil, err
			}
		}
		var entries uint64
		for i := range moved {
			entries += moved[i].Entries
		}
		return signAnchors(tx, node, fmt.Sprintf("%s archived the oldest entries of %d logs: %d have left them so far", node, len(moved), entries))
	})
	if err != nil {
		return err
	}
	last := &sealed[len(sealed)-1]
	s.ScaleLog(last.Origin).note(last.Head())
	return nil
}

func putAnchor(tx *sql.Tx, a *scale.LogAnchor) error {
	_, err := tx.Exec(`INSERT INTO scale_anchor (origin, seq, hash, gone_seq, gone_hash, entries, file, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (origin) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, gone_seq = excluded.gone_seq, gone_hash = excluded.gone_hash,
		entries = excluded.entries, file = excluded.file, digest = excluded.digest`,
		a.Origin, a.Head.Seq, a.Head.Hash, a.Gone.Seq, a.Gone.Hash, a.Entries, a.File, a.Digest)
	return err
}

// signAnchors appends the entry that names all anchors to this data directory's own
// log.
func signAnchors(tx *sql.Tx, node, summary string) ([]scale.LogEntry, error) {
	own, err := ownOrigin(tx, node)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(anchorQuery + ` ORDER BY origin`)
	if err != nil {
		return nil, err
	}
	all, err := readAnchors(rows)
	if err != nil {
		return nil, err
	}
	e, err := scale.NewEntry(scale.KindConfig, time.Now(), node, "", summary, anchors{all})
	if err != nil {
		return nil, err
	}
	return appendEntries(tx, own, []scale.Entry{e})
}

const anchorQuery = `SELECT origin, seq, hash, gone_seq, gone_hash, entries, file, digest FROM scale_anchor`

func readAnchors(rows *sql.Rows) (out []scale.LogAnchor, err error) {
	defer rows.Close()
	for rows.Next() {
		var a scale.LogAnchor
		if err := rows.Scan(&a.Origin, &a.Head.Seq, &a.Head.Hash, &a.Gone.Seq, &a.Gone.Hash, &a.Entries, &a.File, &a.Digest); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, errors.Join(rows.Err(), rows.Close())
}

// ScaleLogAnchors says where the chains begin whose oldest entries are not here.
func (s *Store) ScaleLogAnchors(ctx context.Context) (map[string]scale.LogAnchor, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, anchorQuery)
	if err != nil {
		return nil, fmt.Errorf("anchors of the scaling log: %w", s.explain(err))
	}
	all, err := readAnchors(rows)
	if err != nil {
		return nil, fmt.Errorf("anchors of the scaling log: %w", s.explain(err))
	}
	out := make(map[string]scale.LogAnchor, len(all))
	for _, a := range all {
		out[a.Origin] = a
	}
	return out, nil
}

// deleteArchived removes what lies behind the anchor of an origin.
func (s *Store) deleteArchived(ctx context.Context, origin string) (deleted uint64, err error) {
	for {
		n, err := write(ctx, s, func(tx *sql.Tx) (int64, error) {
			done, err := tx.Exec(`DELETE FROM scale_entry WHERE place IN (SELECT place FROM scale_entry WHERE origin = ?1
				AND seq <= (SELECT gone_seq FROM scale_anchor WHERE origin = ?1) ORDER BY seq LIMIT ?2)`, origin, trimRows)
			if err != nil {
				return 0, err
			}
			return done.RowsAffected()
		})
		if deleted += uint64(n); err != nil || n < trimRows {
			return deleted, err
		}
	}
}

// signedAnchor is the anchor of an origin as the newest signing entry of a log that
// is kept here has it. found is false where no entry names one.
func (s *Store) signedAnchor(ctx context.Context, origin string) (a scale.LogAnchor, found bool, err error) {
	own, _, err := s.Setting(ctx, settingOrigin)
	if errors.Is(err, ErrNotFound) {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	rows, err := s.scaleEntries(ctx, `WHERE origin = ? AND kind = ? AND data LIKE '{"anchors":%' ORDER BY seq DESC LIMIT 1`, own, scale.KindConfig.String())
	if err != nil || len(rows) == 0 {
		return a, false, err
	}
	var all anchors
	if json.Unmarshal(rows[0].Data, &all) != nil {
		return a, false, nil
	}
	for _, a := range all.Anchors {
		if a.Origin == origin {
			return a, true, nil
		}
	}
	return a, false, nil
}
