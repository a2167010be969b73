package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/scale"
)

// headFile notes the end of every chain outside of the database, so that a log
// whose tail was cut off is noticed.
const headFile = "scalelog.heads"

// A ScaleLog is the scaling log of one origin, the node that writes it. It is a
// scale.Log; entries of other nodes lie beside it in chains of their own.
type ScaleLog struct {
	s      *Store
	origin string
}

var _ scale.Log = (*ScaleLog)(nil)

// ScaleLog returns the log that the named node writes.
func (s *Store) ScaleLog(origin string) *ScaleLog { return &ScaleLog{s: s, origin: origin} }

// maxEntry bounds one entry, in bytes of its data.
const maxEntry = 4 << 20

// Append implements scale.Log: the entries are sealed behind the last one of this
// origin, in one transaction, and are on stable storage when it returns.
func (l *ScaleLog) Append(ctx context.Context, entries []scale.Entry) ([]scale.Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	sealed, err := write(ctx, l.s, func(tx *sql.Tx) ([]scale.LogEntry, error) { return appendEntries(tx, l.origin, entries) })
	if err != nil {
		return nil, fmt.Errorf("append to the scaling log: %w", err)
	}
	l.note(sealed[len(sealed)-1].Head())
	out := make([]scale.Entry, len(sealed))
	for i := range sealed {
		out[i] = sealed[i].Entry
	}
	return out, nil
}

// ErrChain says that entries do not continue a log.
var ErrChain = errors.New("these entries do not follow the log")

// logHead is the end of a chain, within a write: nobody appends meanwhile.
func logHead(tx *sql.Tx, origin string) (h scale.Head, err error) {
	// An anchor is the end where nothing behind it has come yet.
	err = tx.QueryRow(`SELECT seq, hash FROM (SELECT * FROM (SELECT seq, hash FROM scale_entry WHERE origin = ?1 ORDER BY seq DESC LIMIT 1)
		UNION ALL SELECT seq, hash FROM scale_anchor WHERE origin = ?1) ORDER BY seq DESC LIMIT 1`, origin).Scan(&h.Seq, &h.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return scale.Head{}, nil
	}
	return h, err
}

// insertEntries writes sealed entries and returns them with their places.
func insertEntries(tx *sql.Tx, origin string, entries []scale.Entry) ([]scale.LogEntry, error) {
	out := make([]scale.LogEntry, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		if len(e.Data) > maxEntry {
			return nil, fmt.Errorf("entry %d has %d bytes of data, want at most %d", e.Seq, len(e.Data), maxEntry)
		}
		done, err := tx.Exec(`INSERT INTO scale_entry (origin, seq, at_ns, kind, actor, region, summary, data, cause, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			origin, e.Seq, e.At.UnixNano(), e.Kind.String(), e.Actor, e.Region, e.Summary, string(e.Data), e.Cause, e.Prev, e.Hash)
		if err != nil {
			return nil, err
		}
		place, err := done.LastInsertId()
		if err != nil {
			return nil, err
		}
		out = append(out, scale.LogEntry{Place: uint64(place), Origin: origin, Entry: *e})
	}
	return out, nil
}

// Origin is the node that writes this log.
func (l *ScaleLog) Origin() string { return l.origin }

// Entries implements scale.Log, in stored order.
func (l *ScaleLog) Entries(ctx context.Context, after uint64, limit int) ([]scale.Entry, error) {
	rows, err := l.s.scaleEntries(ctx, `WHERE origin = ? AND place > coalesce((SELECT max(place) FROM scale_entry WHERE origin = ?1 AND seq <= ?2), 0)
		ORDER BY place LIMIT ?3`, l.origin, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read the scaling log: %w", err)
	}
	out := make([]scale.Entry, len(rows))
	for i := range rows {
		out[i] = rows[i].Entry
	}
	return out, nil
}

// ScaleLogPage returns one page; one that is shorter than the limit is the last.
func (s *Store) ScaleLogPage(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error) {
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 1 || f.Limit > 1000 || len(f.Kinds) > 32 {
		return nil, fmt.Errorf("scaling log: the limit must be 1 to 1000 and the kinds at most 32, not %d and %d", f.Limit, len(f.Kinds))
	}
	where, args := []string{`1`}, []any{}
	add := func(cond string, a ...any) { where, args = append(where, cond), append(args, a...) }
	if f.Origin != "" {
		add(`origin = ?`, f.Origin)
	}
	if n := len(f.Kinds); n > 0 {
		marks := strings.TrimSuffix(strings.Repeat(`?,`, n), `,`)
		kinds := make([]any, n)
		for i, k := range f.Kinds {
			kinds[i] = k.String()
		}
		add(`kind IN (`+marks+`)`, kinds...)
	}
	if f.Actor != "" {
		add(`actor = ?`, f.Actor)
	}
	if f.Match != "" {
		add(`summary LIKE ? ESCAPE '\'`, `%`+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Match)+`%`)
	}
	if !f.From.IsZero() {
		add(`at_ns >= ?`, f.From.UnixNano())
	}
	if !f.To.IsZero() {
		add(`at_ns < ?`, f.To.UnixNano())
	}
	order := ` ORDER BY place DESC LIMIT ?`
	switch {
	case f.Oldest:
		add(`place > ?`, f.Before)
		order = ` ORDER BY place LIMIT ?`
	case f.Before > 0:
		add(`place < ?`, f.Before)
	}
	rows, err := s.scaleEntries(ctx, `WHERE `+strings.Join(where, ` AND `)+order, append(args, f.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("read the scaling log: %w", err)
	}
	return rows, nil
}

// ScaleLogEntry returns one entry. ErrNotFound: there is none.
func (s *Store) ScaleLogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, error) {
	rows, err := s.scaleEntries(ctx, `WHERE origin = ? AND seq = ?`, origin, seq)
	if err == nil && len(rows) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return scale.LogEntry{}, fmt.Errorf("entry %d of %.64q: %w", seq, origin, err)
	}
	return rows[0], nil
}

// ScaleLogCaused returns the entries that name the given one as their cause.
func (s *Store) ScaleLogCaused(ctx context.Context, origin string, seq uint64) ([]scale.LogEntry, error) {
	rows, err := s.scaleEntries(ctx, `WHERE origin = ? AND seq > ? AND cause = ? ORDER BY place LIMIT 100`, origin, seq, seq)
	if err != nil {
		return nil, fmt.Errorf("what entry %d led to: %w", seq, err)
	}
	return rows, nil
}

func (s *Store) scaleEntries(ctx context.Context, where string, args ...any) ([]scale.LogEntry, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, `SELECT place, origin, seq, at_ns, kind, actor, region, summary, data, cause, prev, hash FROM scale_entry `+where, args...)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	var out []scale.LogEntry
	for rows.Next() {
		var e scale.LogEntry
		var at int64
		var kind, data string
		if err := rows.Scan(&e.Place, &e.Origin, &e.Seq, &at, &kind, &e.Actor, &e.Region, &e.Summary, &data, &e.Cause, &e.Prev, &e.Hash); err != nil {
			return nil, s.explain(err)
		}
		e.At = time.Unix(0, at).UTC()
		if e.Kind.UnmarshalText([]byte(kind)) != nil {
			e.Kind = scale.KindUnknown // it was edited, or written by a newer program
		}
		switch {
		case data == "":
		case json.Valid([]byte(data)):
			e.Data = json.RawMessage(data)
		default:
			e.Data, _ = json.Marshal(data) // it was edited: shown as text, and named by a verification
		}
		out = append(out, e)
	}
	return out, s.explain(rows.Err())
}

// ScaleLogOrigins lists whose logs are kept here.
func (s *Store) ScaleLogOrigins(ctx context.Context) ([]string, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, `SELECT origin FROM (`+originsQuery+`) ORDER BY origin`)
	if err != nil {
		return nil, fmt.Errorf("list the origins of the scaling log: %w", s.explain(err))
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("list the origins of the scaling log: %w", s.explain(err))
		}
		out = append(out, name)
	}
	return out, s.explain(rows.Err())
}

// settingOrigin holds the origin of this data directory's own scaling log. It is
// not the node's name alone: names are used again, a data directory is not.
const settingOrigin = "scaling.origin"

// AppendScaleLog seals entries behind the last one that this data directory has
// written. The first one gives its chain an origin, named after the node.
func (s *Store) AppendScaleLog(ctx context.Context, node string, entries []scale.Entry) ([]scale.LogEntry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	sealed, err := write(ctx, s, func(tx *sql.Tx) ([]scale.LogEntry, error) {
		origin, err := ownOrigin(tx, node)
		if err != nil {
			return nil, err
		}
		return appendEntries(tx, origin, entries)
	})
	if err != nil {
		return nil, fmt.Errorf("append to the scaling log: %w", err)
	}
	last := &sealed[len(sealed)-1]
	s.ScaleLog(last.Origin).note(last.Head())
	return sealed, nil
}

func ownOrigin(tx *sql.Tx, node string) (origin string, err error) {
	return originOf(tx, settingOrigin, node)
}

// originOf is the origin of this data directory's own chain of a log, which a
// setting holds; the first one who asks begins it.
func originOf(tx *sql.Tx, setting, node string) (origin string, err error) {
	err = tx.QueryRow(`SELECT value FROM setting WHERE name = ?`, setting).Scan(&origin)
	if errors.Is(err, sql.ErrNoRows) {
		return newOrigin(tx, setting, node)
	}
	return origin, err
}

// newOrigin begins a new chain for this data directory.
func newOrigin(tx *sql.Tx, setting, node string) (string, error) {
	var id [4]byte
	rand.Read(id[:]) // never fails, as crypto/rand promises
	node, _, _ = strings.Cut(node, "~")
	if node == "" {
		node = "node"
	}
	origin := node + "~" + hex.EncodeToString(id[:])
	_, err := tx.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_ms = excluded.changed_ms`, setting, origin, time.Now().UnixMilli())
	return origin, err
}

func appendEntries(tx *sql.Tx, origin string, entries []scale.Entry) ([]scale.LogEntry, error) {
	head, err := logHead(tx, origin)
	if err != nil {
		return nil, err
	}
	sealed, err := scale.SealAll(head, entries)
	if err != nil {
		return nil, err
	}
	return insertEntries(tx, origin, sealed)
}

// VerifyScaleLog reads the whole log of an origin, holds it against its hashes and
// against the end that was noted outside of the database, and names every row that
// is not as it was written.
func (s *Store) VerifyScaleLog(ctx context.Context, origin string) (scale.LogReport, error) {
	r := scale.LogReport{Origin: origin}
	heads, err := s.KnownHeads()
	if err != nil {
		r.Faults = append(r.Faults, scale.Fault{Kind: scale.FaultEdited, Text: "the note of the log's end cannot be read: " + err.Error()})
	}
	r.Known = heads[origin]
	begin, err := s.verifyAnchor(ctx, &r)
	if err != nil {
		return r, err
	}
	faults, rows, end, err := scale.VerifyFrom(ctx, s.ScaleLog(origin), begin, r.Known)
	if err != nil {
		return r, err
	}
	r.Faults, r.Rows, r.End = append(r.Faults, faults...), rows, end
	if r.Known.Seq > 0 && r.Known.Seq < end.Seq {
		// The log went on since the note: the row that it named must still be the same.
		e, err := s.ScaleLogEntry(ctx, origin, r.Known.Seq)
		if err == nil && e.Hash != r.Known.Hash {
			r.Faults = append(r.Faults, scale.Fault{Seq: e.Seq, Kind: scale.FaultReplaced, Text: fmt.Sprintf("entry %d is not the one that stood there before", e.Seq)})
		}
	}
	return r, nil
}

// verifyAnchor finds where the log begins, and holds that against what was signed.
func (s *Store) verifyAnchor(ctx context.Context, r *scale.LogReport) (begin scale.Head, err error) {
	all, err := s.ScaleLogAnchors(ctx)
	if err != nil {
		return begin, err
	}
	signed, found, err := s.signedAnchor(ctx, r.Origin)
	if err != nil {
		return begin, err
	}
	a, there := all[r.Origin]
	if there {
		r.Anchor, begin = &a, a.Head
	}
	switch {
	case there && (!found || signed != a):
		r.Faults = append(r.Faults, scale.Fault{Seq: a.Head.Seq, Kind: scale.FaultRemoved, Text: fmt.Sprintf(
			"the database says that entries up to %d have left it, but the newest entry that signs this names %d: entries were removed, or the anchor was edited", a.Gone.Seq, signed.Gone.Seq)})
	case !there && found:
		r.Faults = append(r.Faults, scale.Fault{Seq: signed.Head.Seq, Kind: scale.FaultEdited, Text: fmt.Sprintf("the log was signed to begin behind entry %d, and the database does not say so any more", signed.Head.Seq)})
	}
	return begin, nil
}
