package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agentnet/app/replica"
	"agentnet/app/scale"
)

// ScaleLedger is the scaling logs of all origins, to be kept equal on all nodes.
// node names the origin of this data directory, if it has none yet.
func (s *Store) ScaleLedger(node string) replica.Ledger { return scaleLedger{s, node} }

type scaleLedger struct {
	s    *Store
	node string
}

// origins and the end of each, by steps through the index and not through all rows.
const originsQuery = `WITH RECURSIVE o(origin) AS (SELECT min(origin) FROM scale_entry
	UNION ALL SELECT (SELECT min(origin) FROM scale_entry e WHERE e.origin > o.origin) FROM o WHERE o.origin IS NOT NULL)
	SELECT origin, (SELECT max(seq) FROM scale_entry e WHERE e.origin = o.origin) FROM o WHERE origin IS NOT NULL`

// Position reads which entries this data directory has.
func (l scaleLedger) Position(ctx context.Context) (replica.Position, error) {
	pos := replica.Position{Heads: map[string]uint64{}}
	own, _, err := l.s.Setting(ctx, settingOrigin)
	if errors.Is(err, ErrNotFound) {
		own, err = write(ctx, l.s, func(tx *sql.Tx) (string, error) { return ownOrigin(tx, l.node) })
	}
	if err != nil {
		return pos, fmt.Errorf("heads of the scaling log: %w", err)
	}
	pos.Own = own
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := l.s.read.QueryContext(ctx, originsQuery)
	if err != nil {
		return pos, fmt.Errorf("heads of the scaling log: %w", l.s.explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var origin string
		var head int64
		if err := rows.Scan(&origin, &head); err != nil {
			return pos, fmt.Errorf("heads of the scaling log: %w", l.s.explain(err))
		}
		pos.Heads[origin] = uint64(head)
	}
	return pos, l.s.explain(rows.Err())
}

// Since reads entries of one origin.
func (l scaleLedger) Since(ctx context.Context, origin string, after uint64, bytes int) (replica.Batch, error) {
	b := replica.Batch{Origin: origin, After: after, UpTo: after}
	if after >= maxNumber {
		return b, nil
	}
	all, err := l.s.ScaleLogAnchors(ctx)
	if err != nil {
		return b, err
	}
	used := 0
	if a := all[origin]; after < a.Head.Seq {
		// What lies before has left this database: whoever lacks it begins here too.
		text, err := json.Marshal(begins{&a.Head})
		if err != nil {
			return b, err
		}
		b.Entries, b.UpTo = append(b.Entries, replica.Entry{Number: a.Head.Seq, Body: text}), a.Head.Seq
	}
	rows, err := l.s.scaleEntries(ctx, `WHERE origin = ? AND seq > ? ORDER BY seq LIMIT 100`, origin, int64(b.UpTo))
	if err != nil {
		return b, fmt.Errorf("entries of %.64q since %d: %w", origin, after, err)
	}
	for i := range rows {
		e := &rows[i].Entry
		if e.Seq != b.UpTo+1 || used > 0 && used >= bytes {
			break // behind a row that was removed nothing can be taken over
		}
		text, err := json.Marshal(e)
		if err != nil {
			return b, fmt.Errorf("entry %d of %s: %w", e.Seq, origin, err)
		}
		used += len(text)
		b.Entries = append(b.Entries, replica.Entry{Number: e.Seq, Body: text})
		b.UpTo = e.Seq
	}
	return b, nil
}

// abandons is the data of the entry by which a data directory that takes a new
// origin tells so.
type abandons struct {
	Origin string `json:"abandons"`
}

// begins stands in a batch for all entries up to one: the sender has archived them.
type begins struct {
	Behind *scale.Head `json:"begins_behind"`
}

// takeAnchor has the copy of another origin's log begin where the sender's does,
// and signs that. What this node has of it from before stays until it is archived.
func (l scaleLedger) takeAnchor(tx *sql.Tx, origin string, have, begin scale.Head) ([]scale.LogEntry, error) {
	a := scale.LogAnchor{Origin: origin, Head: begin, Gone: begin}
	rows, err := tx.Query(anchorQuery+` WHERE origin = ?`, origin)
	if err != nil {
		return nil, err
	}
	old, err := readAnchors(rows)
	if err != nil {
		return nil, err
	}
	if len(old) > 0 {
		a = old[0]
		a.Head = begin
	} else if have.Seq > 0 {
		a.Gone = scale.Head{}
	}
	if err := putAnchor(tx, &a); err != nil {
		return nil, err
	}
	return signAnchors(tx, l.node, fmt.Sprintf("the log of %s begins behind entry %d here: the others have archived what lies before", origin, begin.Seq))
}

// Apply takes entries of another node in. Entries that do not follow the hash of
// the last one are not taken; that is logged, and does not hold up other origins.
func (l scaleLedger) Apply(ctx context.Context, b replica.Batch) error {
	if b.Origin == "" || len(b.Origin) > 128 || b.UpTo >= maxNumber {
		return fmt.Errorf("take over entries of the scaling log: %w: origin %.64q up to %d", ErrChain, b.Origin, b.UpTo)
	}
	renew, signed := false, []scale.LogEntry(nil)
	head, err := write(ctx, l.s, func(tx *sql.Tx) (scale.Head, error) {
		renew, signed = false, nil
		own, err := ownOrigin(tx, l.node)
		if err != nil {
			return scale.Head{}, err
		}
		head, err := logHead(tx, b.Origin)
		switch {
		case err != nil || head.Seq >= b.UpTo:
			return head, err
		case b.After > head.Seq:
			return head, fmt.Errorf("%w: %d to %d", replica.ErrGap, head.Seq+1, b.After)
		case own == b.Origin:
			return head, fmt.Errorf("%w: they are this node's own, which it does not have", replica.ErrGap)
		}
		var fresh []scale.Entry
		for _, raw := range b.Entries {
			var e scale.Entry
			if raw.Number <= head.Seq {
				continue
			}
			var begin begins
			if len(fresh) == 0 && json.Unmarshal(raw.Body, &begin) == nil && begin.Behind != nil && begin.Behind.Seq == raw.Number {
				if signed, err = l.takeAnchor(tx, b.Origin, head, *begin.Behind); err != nil {
					return head, err
				}
				head = *begin.Behind
				continue
			}
			if err := json.Unmarshal(raw.Body, &e); err != nil {
				return head, fmt.Errorf("%w: entry %d of %.64q: %w", ErrChain, raw.Number, b.Origin, err)
			}
			sealed, err := scale.Seal(head, e)
			if err != nil || sealed.Seq != e.Seq || sealed.Prev != e.Prev || sealed.Hash != e.Hash {
				return head, fmt.Errorf("%w: entry %d of %.64q does not follow entry %d", ErrChain, e.Seq, b.Origin, head.Seq)
			}
			var a abandons
			if e.Kind == scale.KindNode && json.Unmarshal(e.Data, &a) == nil && a.Origin == own {
				renew = true
			}
			fresh, head = append(fresh, e), e.Head()
		}
		_, err = insertEntries(tx, b.Origin, fresh)
		return head, err
	})
	if errors.Is(err, ErrChain) {
		l.s.log.Error("entries of another node's scaling log do not continue what is kept here; agentnet log verify tells which side was changed", "origin", b.Origin, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("take over entries of the scaling log: %w", err)
	}
	l.s.ScaleLog(b.Origin).note(head)
	if len(signed) > 0 {
		last := &signed[len(signed)-1]
		l.s.ScaleLog(last.Origin).note(last.Head())
	}
	if renew {
		return l.Renew(ctx)
	}
	return nil
}

// Renew makes this data directory write a chain of its own from now on.
func (l scaleLedger) Renew(ctx context.Context) error {
	sealed, err := write(ctx, l.s, func(tx *sql.Tx) ([]scale.LogEntry, error) {
		old, err := ownOrigin(tx, l.node)
		if err != nil {
			return nil, err
		}
		origin, err := newOrigin(tx, settingOrigin, old)
		if err != nil {
			return nil, err
		}
		e, err := scale.NewEntry(scale.KindNode, time.Now(), l.node, "", fmt.Sprintf("%s goes on as %s: its data directory was put back or copied", old, origin), abandons{old})
		if err != nil {
			return nil, err
		}
		return appendEntries(tx, origin, []scale.Entry{e})
	})
	if err != nil {
		return fmt.Errorf("take a new origin: %w", err)
	}
	l.s.ScaleLog(sealed[0].Origin).note(sealed[0].Head())
	return nil
}

// Prune drops nothing: no entry overwrites another.
func (l scaleLedger) Prune(context.Context) error { return nil }
