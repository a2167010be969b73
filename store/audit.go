package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
)

const auditColumns = `place, origin, seq, at_ms, node, actor, role, via, address, action, target, outcome, detail, prev, hash`

// settingAuditOrigin holds the origin of this data directory's own audit log. It is
// not the node's name alone: names are used again, a data directory is not.
const settingAuditOrigin = "audit.origin"

func scanAudit(row scanner) (e account.Entry, err error) {
	var at int64
	err = row.Scan(&e.Place, &e.Origin, &e.Seq, &at, &e.Node, &e.Actor, &e.Role, &e.Via, &e.Address, &e.Action, &e.Target, &e.Outcome, &e.Detail, &e.Prev, &e.Hash)
	e.At = fromMS(at)
	return e, err
}

// AppendAudit implements account.Rows. Writers exclude each other, also those of
// other processes, so that the chain has one end. The first entry gives the chain
// its origin, named after the entry's node.
func (s *Store) AppendAudit(ctx context.Context, e account.Entry) (account.Entry, error) {
	e, err := write(ctx, s, func(tx *sql.Tx) (account.Entry, error) {
		origin, err := originOf(tx, settingAuditOrigin, e.Node)
		if err != nil {
			return e, err
		}
		return appendAudit(tx, origin, e)
	})
	if err != nil {
		return account.Entry{}, fmt.Errorf("append to the audit log: %w", err)
	}
	return e, nil
}

func appendAudit(tx *sql.Tx, origin string, e account.Entry) (account.Entry, error) {
	head, err := auditHead(tx, origin)
	if err != nil {
		return e, err
	}
	sealed, err := account.Seal(head, e)
	if err != nil {
		return e, err
	}
	sealed.Origin = origin
	return insertAudit(tx, sealed)
}

// insertAudit writes a sealed entry and returns it with its place.
func insertAudit(tx *sql.Tx, e account.Entry) (account.Entry, error) {
	done, err := tx.Exec(`INSERT INTO audit (origin, seq, at_ms, node, actor, role, via, address, action, target, outcome, detail, prev, hash)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, e.Origin, int64(e.Seq), toMS(e.At), e.Node, e.Actor, string(e.Role), e.Via, e.Address, e.Action, e.Target,
		e.Outcome, e.Detail, e.Prev, e.Hash)
	if err != nil {
		return e, err
	}
	place, err := done.LastInsertId()
	e.Place = uint64(place)
	return e, err
}

// auditHead is the end of an origin's chain, within a write: nobody appends
// meanwhile. What was removed from the chain still counts.
func auditHead(tx *sql.Tx, origin string) (h chain.Head, err error) {
	err = tx.QueryRow(`SELECT seq, hash FROM audit WHERE origin = ?1 UNION ALL SELECT seq, hash FROM audit_base WHERE origin = ?1 ORDER BY seq DESC LIMIT 1`, origin).
		Scan(&h.Seq, &h.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return chain.Head{}, nil
	}
	return h, err
}

// Audit returns entries of the audit log of all origins, those first that came here
// last.
func (s *Store) Audit(ctx context.Context, f account.AuditFilter) ([]account.Entry, error) {
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 1 || f.Limit > 1000 {
		return nil, fmt.Errorf("read the audit log: the limit must be 1 to 1000, not %d", f.Limit)
	}
	where, args := []string{`1`}, []any{}
	add := func(cond string, a ...any) { where, args = append(where, cond), append(args, a...) }
	if f.Before > 0 {
		add(`place < ?`, int64(f.Before))
	}
	if f.Origin != "" {
		add(`origin = ?`, f.Origin)
	}
	if f.Actor != "" {
		add(`actor = ?`, f.Actor)
	}
	if prefix, ok := strings.CutSuffix(f.Action, "."); ok {
		add(`substr(action, 1, ?) = ?`, len(prefix)+1, f.Action)
	} else if f.Action != "" {
		add(`action = ?`, f.Action)
	}
	if f.Outcome != "" {
		add(`outcome = ?`, f.Outcome)
	}
	if !f.From.IsZero() {
		add(`at_ms >= ?`, toMS(f.From))
	}
	if !f.To.IsZero() {
		add(`at_ms < ?`, toMS(f.To))
	}
	if f.Match != "" {
		m := `%` + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Match) + `%`
		const has = ` LIKE ? ESCAPE '\'`
		add(`(actor`+has+` OR action`+has+` OR target`+has+` OR address`+has+` OR detail`+has+`)`, m, m, m, m, m)
	}
	return s.auditRows(ctx, `WHERE `+strings.Join(where, ` AND `)+` ORDER BY place DESC LIMIT ?`, append(args, f.Limit)...)
}

func (s *Store) auditRows(ctx context.Context, clause string, args ...any) ([]account.Entry, error) {
	list, err := many(ctx, s, scanAudit, `SELECT `+auditColumns+` FROM audit `+clause, args...)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return list, nil
}

// EachAudit calls do for every entry of the audit log, in the order in which they
// came here, until it fails.
func (s *Store) EachAudit(ctx context.Context, do func(account.Entry) error) error {
	for after := uint64(0); ; {
		page, err := s.auditRows(ctx, `WHERE place > ? ORDER BY place LIMIT 500`, int64(after))
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			if err := do(e); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Place
	}
}

// PruneAudit removes the oldest entries of the audit log: those before a time, and
// those beyond the newest keep of all origins. The end of what is removed of an
// origin is kept, so that the rest still proves to be whole. It returns how many
// are gone.
func (s *Store) PruneAudit(ctx context.Context, before time.Time, keep int) (int, error) {
	origins, err := s.auditOrigins(ctx)
	if err != nil {
		return 0, fmt.Errorf("shorten the audit log: %w", err)
	}
	n, err := write(ctx, s, func(tx *sql.Tx) (n int64, err error) {
		var beyond int64
		err = tx.QueryRow(`SELECT place FROM audit ORDER BY place DESC LIMIT 1 OFFSET ?`, keep).Scan(&beyond)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, err
		}
		for _, origin := range origins {
			gone, err := pruneAudit(tx, origin, before, beyond)
			if err != nil {
				return 0, err
			}
			n += gone
		}
		return n, nil
	})
	if err != nil {
		return 0, fmt.Errorf("shorten the audit log: %w", err)
	}
	return int(n), nil
}

// pruneAudit removes what of one origin is older than a time, or came here at the
// place beyond or before.
func pruneAudit(tx *sql.Tx, origin string, before time.Time, beyond int64) (int64, error) {
	var last chain.Head
	err := tx.QueryRow(`SELECT seq, hash FROM audit WHERE origin = ?1 AND seq <= (SELECT max(seq) FROM audit WHERE origin = ?1 AND (at_ms < ?2 OR place <= ?3)) ORDER BY seq DESC LIMIT 1`,
		origin, toMS(before), beyond).Scan(&last.Seq, &last.Hash)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if _, err := tx.Exec(`DELETE FROM audit_base WHERE origin = ? AND seq <= ?`, origin, int64(last.Seq)); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(`INSERT INTO audit_base (origin, seq, hash) VALUES (?, ?, ?)`, origin, int64(last.Seq), last.Hash); err != nil {
		return 0, err
	}
	res, err := tx.Exec(`DELETE FROM audit WHERE origin = ? AND seq <= ?`, origin, int64(last.Seq))
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
