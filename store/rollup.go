package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agentnet/app/scale"
)

const (
	// pruneRows bounds the old rows that one write takes away for one span, so that a
	// change of the retention never makes one write long.
	pruneRows = 200
	// maxRollups bounds the rows of one write.
	maxRollups = 8192
)

// PutRollups stores rows of the finest span, carries the promotions out in their
// order, and removes some of what is older than scale.Resolutions keep, all in one
// transaction. Where the database takes more than bytes (0: any), some of the
// oldest rows of single nodes go too.
//
// A row whose span is stored already is merged into it: a process that was
// restarted within a span adds to it. A promotion replaces what was there, so that
// it can be repeated: after a crash nothing is counted twice and nothing is lost
// but the rows that were never stored.
func (s *Store) PutRollups(ctx context.Context, rows []scale.NodeRollup, promote []scale.Promotion, now time.Time, bytes int64) error {
	if len(rows) > maxRollups || len(promote) > maxRollups {
		return fmt.Errorf("put rollups: %d rows and %d promotions, want at most %d", len(rows), len(promote), maxRollups)
	}
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		for i := range rows {
			r := &rows[i]
			id, err := sampleNode(tx, r.Node, r.Rollup.From)
			if err != nil {
				return err
			}
			data, err := mergedRollup(tx, id, &r.Rollup)
			if err != nil {
				return err
			}
			if err := putRollup(tx, id, r.Rollup.Span, r.Rollup.From, data); err != nil {
				return err
			}
		}
		for i := range promote {
			if err := promoteRollup(tx, &promote[i]); err != nil {
				return err
			}
		}
		return pruneRollups(tx, now, bytes)
	})
	if err != nil {
		return fmt.Errorf("put rollups: %w", err)
	}
	return nil
}

func putRollup(tx *sql.Tx, node int64, span time.Duration, from time.Time, data []byte) error {
	place, ok := rowPlace(span, node, from)
	if !ok {
		return fmt.Errorf("spans of %v are not stored", span)
	}
	_, err := tx.Exec(`INSERT INTO rollup (place, data) VALUES (?, ?) ON CONFLICT (place) DO UPDATE SET data = excluded.data`, place, data)
	return err
}

// finer is the span that a span is summed up from.
func finer(span time.Duration) (time.Duration, bool) {
	tiers := scale.Resolutions()
	for i := 1; i < len(tiers); i++ {
		if tiers[i].Span == span {
			return tiers[i-1].Span, true
		}
	}
	return 0, false
}

func promoteRollup(tx *sql.Tx, p *scale.Promotion) error {
	below, ok := finer(p.Span)
	if !ok {
		return fmt.Errorf("no span is summed up to %v", p.Span)
	}
	var node int64
	err := tx.QueryRow(`SELECT id FROM sample_node WHERE name = ?`, p.Node).Scan(&node)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // no row, nothing to sum up
	}
	if err != nil {
		return err
	}
	first, _ := rowPlace(below, node, p.From)
	end, _ := rowPlace(below, node, p.From.Add(p.Span))
	rows, err := tx.Query(`SELECT data FROM rollup WHERE place >= ? AND place < ?`, first, end)
	if err != nil {
		return err
	}
	defer rows.Close()
	sum, n := scale.Rollup{From: p.From, Span: p.Span}, 0
	var data sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&data); err != nil {
			return err
		}
		var part scale.Rollup
		if part.UnmarshalBinary(data) == nil { // a damaged row is a gap
			sum.Merge(&part)
			n++
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || n == 0 {
		return err
	}
	out, err := sum.AppendBinary(nil)
	if err != nil {
		return err
	}
	return putRollup(tx, node, p.Span, p.From, out)
}

// MissingRollups looks for spans of a node that have finer rows and no row of their
// own: whoever was killed before it summed them up left such, and so did programs
// that knew fewer resolutions. It looks at spans that begin from from and end until
// until, and returns up to limit of them, in order, and where to go on; the zero
// time when there are no more.
func (s *Store) MissingRollups(ctx context.Context, node string, span time.Duration, from, until time.Time, limit int) (out []scale.Promotion, next time.Time, err error) {
	below, ok := finer(span)
	if !ok {
		return nil, next, fmt.Errorf("no span is summed up to %v", span)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	var id int64
	err = s.read.QueryRowContext(ctx, `SELECT id FROM sample_node WHERE name = ?`, node).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, next, nil
	}
	if err != nil {
		return nil, next, fmt.Errorf("look for missing sums: %w", s.explain(err))
	}
	first, err := s.read.PrepareContext(ctx, `SELECT place & ?3, EXISTS (SELECT 1 FROM rollup WHERE place = ?4 + (r.place & ?3) - (r.place & ?3) % ?5) FROM rollup r
		WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT 1`)
	if err != nil {
		return nil, next, fmt.Errorf("look for missing sums: %w", s.explain(err))
	}
	defer first.Close()
	end, _ := rowPlace(below, id, until)
	own, _ := rowPlace(span, id, time.Unix(0, 0))
	seconds := int64(span / time.Second)
	for looked := 0; looked < 20*limit; looked++ {
		begin, _ := rowPlace(below, id, from)
		var at int64
		var there bool
		err := first.QueryRowContext(ctx, begin, end, int64(1)<<nodeShift-1, own, seconds).Scan(&at, &there)
		if errors.Is(err, sql.ErrNoRows) {
			return out, time.Time{}, nil
		}
		if err != nil {
			return nil, next, fmt.Errorf("look for missing sums: %w", s.explain(err))
		}
		slot := time.Unix(at-at%seconds, 0).UTC()
		if from = slot.Add(span); from.After(until) {
			return out, time.Time{}, nil
		}
		if there {
			continue
		}
		if out = append(out, scale.Promotion{Node: node, From: slot, Span: span}); len(out) == limit {
			break
		}
	}
	return out, from, nil
}

// Where the parts of a row's place lie; see the migration.
const (
	spanShift = 58
	nodeShift = 34
)

// rowPlace is where the row of a span of a node lies. ok is false for a span that
// is not stored.
func rowPlace(span time.Duration, node int64, from time.Time) (place int64, ok bool) {
	tier, ok := tierOf(span)
	at := min(max(from.Unix(), 0), 1<<nodeShift-1)
	return tier<<spanShift | node<<nodeShift | at, ok
}

func tierOf(span time.Duration) (int64, bool) {
	for i, t := range scale.Resolutions() {
		if t.Span == span {
			return int64(i), true
		}
	}
	return 0, false
}

// sampleNode gives a node its number.
func sampleNode(tx *sql.Tx, name string, at time.Time) (id int64, err error) {
	err = tx.QueryRow(`INSERT INTO sample_node (name, last_s) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET last_s = max(last_s, excluded.last_s) RETURNING id`, name, at.Unix()).Scan(&id)
	return id, err
}

// mergedRollup is the stored form of r, together with what is stored of its span.
func mergedRollup(tx *sql.Tx, node int64, r *scale.Rollup) ([]byte, error) {
	var old []byte
	place, _ := rowPlace(r.Span, node, r.From)
	err := tx.QueryRow(`SELECT data FROM rollup WHERE place = ?`, place).Scan(&old)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return r.AppendBinary(nil)
	case err != nil:
		return nil, err
	}
	both := scale.Rollup{From: r.From, Span: r.Span}
	if both.UnmarshalBinary(old) != nil {
		return r.AppendBinary(nil) // what cannot be read is worth less than what can
	}
	both.Merge(r)
	return both.AppendBinary(nil)
}

// pruneRollups removes the oldest rows of what is kept too long, a few at a time.
func pruneRollups(tx *sql.Tx, now time.Time, bytes int64) error {
	for _, t := range scale.Resolutions() {
		if _, err := deleteRollups(tx, t.Span, 0, now.Add(-t.Keep).Unix(), pruneRows); err != nil {
			return err
		}
	}
	// Of a node that was gone for so long there is no row any more.
	gone := now.Add(-scale.Resolutions()[len(scale.Resolutions())-1].Keep - 30*24*time.Hour)
	if _, err := tx.Exec(`DELETE FROM sample_node WHERE id <> 0 AND last_s < ?`, gone.Unix()); err != nil || bytes <= 0 {
		return err
	}
	var pages, free, size int64
	if err := tx.QueryRow(`SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_size FROM pragma_page_size)`).Scan(&pages, &free, &size); err != nil {
		return err
	}
	if (pages-free)*size <= bytes {
		return nil
	}
	// The file is too large: the oldest rows of single nodes go first, finest first;
	// those of the whole fleet stay to the end of their time.
	for _, t := range scale.Resolutions() {
		var nodes, oldest int64
		tier, _ := tierOf(t.Span)
		err := tx.QueryRow(`SELECT count(f), coalesce(min(f), 0) FROM (SELECT (SELECT place & ?2 FROM rollup
			WHERE place >= ((?1 << 58) | (n.id << 34)) AND place < ((?1 << 58) | ((n.id + 1) << 34)) ORDER BY place LIMIT 1) f
			FROM sample_node n WHERE n.id <> 0)`, tier, int64(1)<<nodeShift-1).Scan(&nodes, &oldest)
		if err != nil {
			return err
		}
		if nodes == 0 {
			continue
		}
		until := min(oldest+int64(t.Span/time.Second)*max(1, pruneRows/nodes), now.Add(-time.Hour).Unix())
		if n, err := deleteRollups(tx, t.Span, 1, until, 2*pruneRows); err != nil || n > 0 {
			return err
		}
	}
	return nil
}

// deleteRollups removes up to limit rows of nodes from the given number on that
// begin before a time. CROSS JOIN has SQLite go from node to node and look at the
// oldest rows of each, and not at all rows of the span.
func deleteRollups(tx *sql.Tx, span time.Duration, from, before, limit int64) (int64, error) {
	tier, _ := tierOf(span)
	out, err := tx.Exec(`DELETE FROM rollup WHERE place IN (
		SELECT r.place FROM sample_node n CROSS JOIN rollup r ON r.place >= ((?1 << 58) | (n.id << 34)) AND r.place < ((?1 << 58) | (n.id << 34) | ?2)
		WHERE n.id >= ?3 LIMIT ?4)`, tier, max(before, 0), from, limit)
	if err != nil {
		return 0, err
	}
	return out.RowsAffected()
}

// Rollups hands over what q chooses, by node and then by time. Signals that were
// not asked for are empty. What each returns ends the reading. It must not keep the
// rollup: the next row is read into it.
func (s *Store) Rollups(ctx context.Context, q scale.RollupQuery, each func(node string, r *scale.Rollup) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	nodes := q.Nodes
	if nodes == nil {
		all, err := s.SampleNodes(ctx)
		if err != nil {
			return err
		}
		nodes = append([]string{""}, all...)
	}
	for _, node := range nodes {
		if err := s.rollups(ctx, node, &q, each); err != nil {
			return fmt.Errorf("read rollups: %w", s.explain(err))
		}
	}
	return nil
}

func (s *Store) rollups(ctx context.Context, node string, q *scale.RollupQuery, each func(node string, r *scale.Rollup) error) error {
	var id int64
	err := s.read.QueryRowContext(ctx, `SELECT id FROM sample_node WHERE name = ?`, node).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	first, ok := rowPlace(q.Span, id, q.From)
	end, _ := rowPlace(q.Span, id, q.To)
	if !ok {
		return fmt.Errorf("spans of %v are not stored", q.Span)
	}
	rows, err := s.read.QueryContext(ctx, `SELECT place & ?3, data FROM rollup WHERE place >= ?1 AND place < ?2 ORDER BY place`, first, end, int64(1)<<nodeShift-1)
	if err != nil {
		return err
	}
	defer rows.Close()
	var from int64
	var data sql.RawBytes
	var r scale.Rollup // one for all rows: it is 2 KB
	for rows.Next() {
		if err := rows.Scan(&from, &data); err != nil {
			return err
		}
		r.From, r.Span = time.Unix(from, 0).UTC(), q.Span
		if err := r.ReadSignals(data, q.Signals); err != nil {
			return fmt.Errorf("node %.64q at %s: %w: %w", node, r.From.Format(time.RFC3339), ErrCorrupt, err)
		}
		if err := each(node, &r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// SampleNodes lists the nodes that have rollups, by name, without the fleet.
func (s *Store) SampleNodes(ctx context.Context) ([]string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, `SELECT name FROM sample_node WHERE id <> 0 ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list nodes with samples: %w", s.explain(err))
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list nodes with samples: %w", s.explain(err))
		}
		out = append(out, name)
	}
	return out, rows.Err()
}
