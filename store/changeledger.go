package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"agentnet/app/replica"
)

// Changes is the log of control data, to be kept equal on all nodes. What it says
// of another node's changes is written like this node's own: who watches the
// database sees it.
func (s *Store) Changes() replica.Ledger { return changes{s} }

type changes struct{ s *Store }

// changeText is how a change travels within an entry.
type changeText struct {
	Stamp uint64          `json:"stamp"`
	Life  uint64          `json:"life,omitempty"`
	Rank  Rank            `json:"rank,omitempty"`
	Kind  string          `json:"kind"`
	Key   string          `json:"key"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// Position reads which changes this data directory has.
func (l changes) Position(ctx context.Context) (replica.Position, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	pos := replica.Position{Heads: map[string]uint64{}}
	rows, err := l.s.read.QueryContext(ctx, `SELECT origin, head, own FROM change_origin`)
	if err != nil {
		return pos, fmt.Errorf("heads of changes: %w", l.s.explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var origin string
		var head int64
		var own bool
		if err := rows.Scan(&origin, &head, &own); err != nil {
			return pos, fmt.Errorf("heads of changes: %w", l.s.explain(err))
		}
		pos.Heads[origin] = uint64(head)
		if own {
			pos.Own = origin
		}
	}
	if err := rows.Err(); err != nil {
		return pos, fmt.Errorf("heads of changes: %w", l.s.explain(err))
	}
	return pos, nil
}

// Since reads changes of one origin.
func (l changes) Since(ctx context.Context, origin string, after uint64, bytes int) (replica.Batch, error) {
	b, err := l.since(ctx, origin, after, bytes)
	if err != nil {
		return b, fmt.Errorf("changes of %.64q since %d: %w", origin, after, l.s.explain(err))
	}
	return b, nil
}

func (l changes) since(ctx context.Context, origin string, after uint64, bytes int) (replica.Batch, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	b := replica.Batch{Origin: origin, After: after, UpTo: after}
	if after >= maxNumber {
		return b, nil
	}
	// One snapshot for the head and the rows: what is written meanwhile is of the
	// next batch.
	tx, err := l.s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return b, err
	}
	defer tx.Rollback()
	var head int64
	if err := tx.QueryRow(`SELECT coalesce(max(head), 0) FROM change_origin WHERE origin = ?`, origin).Scan(&head); err != nil {
		return b, err
	}
	rows, err := tx.Query(`SELECT `+changeColumns+` FROM change WHERE origin = ? AND number > ? ORDER BY number LIMIT 1000`, origin, int64(after))
	if err != nil {
		return b, err
	}
	defer rows.Close()
	whole := true
	for used := 0; rows.Next(); {
		c, err := scanChange(rows)
		if err != nil {
			return b, err
		}
		if used >= bytes && len(b.Entries) > 0 || len(b.Entries) == 999 {
			whole = false
			break
		}
		text, err := json.Marshal(changeText{c.Stamp, c.Life, c.Rank, c.Kind, c.Key, c.Body})
		if err != nil {
			return b, fmt.Errorf("%w: change %d of %s: %v", ErrCorrupt, c.Number, origin, err)
		}
		used += len(text)
		b.Entries = append(b.Entries, replica.Entry{Number: c.Number, Body: text})
		b.UpTo = c.Number
	}
	if err := rows.Err(); err != nil {
		return b, err
	}
	if whole {
		b.UpTo = max(b.UpTo, uint64(head)) // the last ones may have been overwritten
	}
	return b, nil
}

// Apply takes changes of another node in.
func (l changes) Apply(ctx context.Context, b replica.Batch) error {
	if b.Origin == "" || len(b.Origin) > 64 || b.UpTo >= maxNumber {
		return fmt.Errorf("apply changes: %w: origin %.64q up to %d", ErrBadChange, b.Origin, b.UpTo)
	}
	err := l.s.writer.apply(ctx, func(tx *sql.Tx) error { return l.s.applyBatch(tx, &b) })
	if err != nil {
		return fmt.Errorf("apply changes of %s: %w", b.Origin, err)
	}
	return nil
}

func (s *Store) applyBatch(tx *sql.Tx, b *replica.Batch) error {
	var head int64
	var own bool
	err := tx.QueryRow(`SELECT coalesce(max(head), 0), coalesce(max(own), 0) FROM change_origin WHERE origin = ?`, b.Origin).Scan(&head, &own)
	switch {
	case err != nil:
		return err
	case uint64(head) >= b.UpTo:
		return nil
	case b.After > uint64(head):
		return fmt.Errorf("%w: %d to %d", replica.ErrGap, head+1, b.After)
	case own:
		return fmt.Errorf("%w: they are this node's own, which it does not have", replica.ErrGap)
	}
	var highest uint64
	for i := range b.Entries {
		if b.Entries[i].Number <= uint64(head) {
			continue
		}
		stamp, err := s.applyEntry(tx, b.Origin, &b.Entries[i])
		if err != nil {
			return err
		}
		highest = max(highest, stamp)
	}
	if err := s.followClock(tx, b.Origin, highest); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO change_origin (origin, head, own) VALUES (?1, ?2, 0) ON CONFLICT (origin) DO UPDATE SET head = ?2`, b.Origin, int64(b.UpTo))
	return err
}

// applyEntry stores one change, and changes its row if it has won.
func (s *Store) applyEntry(tx *sql.Tx, origin string, e *replica.Entry) (stamp uint64, err error) {
	var text changeText
	if err := json.Unmarshal(e.Body, &text); err != nil || text.Kind == "" || text.Key == "" || len(text.Kind)+len(text.Key) > 1024 ||
		text.Stamp > maxNumber || text.Life > maxNumber || text.Rank < Updated || text.Rank > Deleted || len(text.Body) > maxChangeBody {
		// It can be given to nobody either. All nodes get the same text and pass over it.
		s.log.Error("a change of another node makes no sense, it is left out", "origin", origin, "number", e.Number)
		return 0, nil
	}
	c := &Change{Origin: origin, Number: e.Number, Stamp: text.Stamp, Life: text.Life, Rank: text.Rank, Kind: text.Kind, Key: text.Key, Body: text.Body}
	before, err := currentChange(tx, c.Kind, c.Key)
	if err != nil {
		return 0, err
	}
	applied := true
	if before == nil || c.beats(before) {
		if applied, err = s.bring(tx, c); err != nil {
			return 0, err
		}
		if c.Kind == originKind { // renewing has written a change of its own
			if before, err = currentChange(tx, c.Kind, c.Key); err != nil {
				return 0, err
			}
		}
	}
	return c.Stamp, insertChange(tx, c, before, applied)
}

// followClock makes later changes of this node later than what it has seen. A clock
// that is far ahead is not followed: its changes keep their stamps, because all
// nodes must order them alike, but do not drag all others along.
func (s *Store) followClock(tx *sql.Tx, origin string, stamp uint64) error {
	if limit := stampOf(s.now().Add(maxAhead)); stamp > limit {
		s.log.Error("another node's clock is ahead by more than 5 minutes: set it right", "origin", origin, "clock", stampTime(stamp).Format(time.RFC3339))
		stamp = limit
	}
	_, err := tx.Exec(`UPDATE counter SET value = max(value, ?) WHERE name = 'change_stamp'`, int64(stamp))
	return err
}

// Renew gives this data directory a new origin, under which what it wrote as the
// old one goes on with the same numbers and times. Of the old one nothing is left, so
// that all of it is got from the others, who are told.
func (l changes) Renew(ctx context.Context) error {
	err := l.s.writer.apply(ctx, l.s.renewOrigin)
	if err != nil {
		return fmt.Errorf("take a new origin: %w", err)
	}
	return nil
}

func (s *Store) renewOrigin(tx *sql.Tx) error {
	var old, fresh string
	if err := tx.QueryRow(`SELECT origin, lower(hex(randomblob(10))) FROM change_origin WHERE own = 1`).Scan(&old, &fresh); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM change WHERE origin = ? AND current = 0`, old); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE change SET origin = ? WHERE origin = ?`, fresh, old); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE change_origin SET origin = ? WHERE own = 1`, fresh); err != nil {
		return err
	}
	return s.recordFinal(tx, originKind, old, struct{}{})
}

// originKind is the kind of change that tells which origin is used no more.
const originKind = "origin"

// applyOrigin renews this data directory too if it uses an origin that another one
// has abandoned: one of them is a copy of the other, and both have given the same
// numbers to different changes.
func (s *Store) applyOrigin(tx *sql.Tx, c *Change) error {
	var own string
	if err := tx.QueryRow(`SELECT origin FROM change_origin WHERE own = 1`).Scan(&own); err != nil || own != c.Key {
		return err
	}
	s.log.Warn("another node has a copy of this data directory: this one takes a new origin", "old", own)
	return s.renewOrigin(tx)
}

// Prune drops what was overwritten, and forgets deletions that are very old.
func (l changes) Prune(ctx context.Context) error {
	old := stampOf(l.s.now().Add(-keepDeleted))
	err := l.s.writer.apply(ctx, func(tx *sql.Tx) error {
		if err := dropOverwritten(tx, 0); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM change WHERE rank = ? AND stamp < ?`, Deleted, int64(old))
		return err
	})
	if err != nil {
		return fmt.Errorf("prune changes: %w", err)
	}
	return nil
}
