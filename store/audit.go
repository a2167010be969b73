package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
)

const auditColumns = `seq, at_ms, node, actor, role, via, address, action, target, outcome, detail, prev, hash`

// auditBase names the setting that holds the end of what was removed from the
// beginning of the audit log.
const auditBase = "audit_base"

func scanAudit(row scanner) (e account.Entry, err error) {
	var at int64
	err = row.Scan(&e.Seq, &at, &e.Node, &e.Actor, &e.Role, &e.Via, &e.Address, &e.Action, &e.Target, &e.Outcome, &e.Detail, &e.Prev, &e.Hash)
	e.At = fromMS(at)
	return e, err
}

// AppendAudit implements account.Rows. Writers exclude each other, also those of
// other processes, so that the chain has one end.
func (s *Store) AppendAudit(ctx context.Context, e account.Entry) (account.Entry, error) {
	e, err := write(ctx, s, func(tx *sql.Tx) (account.Entry, error) {
		var head chain.Head
		err := tx.QueryRow(`SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1`).Scan(&head.Seq, &head.Hash)
		if errors.Is(err, sql.ErrNoRows) {
			head, err = baseOf(tx.QueryRow(`SELECT value FROM setting WHERE name = ?`, auditBase))
		}
		if err != nil {
			return e, err
		}
		sealed, err := account.Seal(head, e)
		if err != nil {
			return e, err
		}
		_, err = tx.Exec(`INSERT INTO audit (`+auditColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			int64(sealed.Seq), toMS(sealed.At), sealed.Node, sealed.Actor, string(sealed.Role), sealed.Via, sealed.Address, sealed.Action, sealed.Target,
			sealed.Outcome, sealed.Detail, sealed.Prev, sealed.Hash)
		return sealed, err
	})
	if err != nil {
		return account.Entry{}, fmt.Errorf("append to the audit log: %w", err)
	}
	return e, nil
}

// baseOf reads the setting audit_base; without it the chain begins at nothing.
func baseOf(row *sql.Row) (head chain.Head, err error) {
	var text string
	err = row.Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return chain.Head{}, nil
	}
	if err != nil {
		return chain.Head{}, err
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil {
		return chain.Head{}, fmt.Errorf("%w: setting %s: %v", ErrCorrupt, auditBase, err)
	}
	return head, nil
}

// Audit returns entries of the audit log, the newest first.
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
		add(`seq < ?`, int64(f.Before))
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
	return s.auditRows(ctx, `WHERE `+strings.Join(where, ` AND `)+` ORDER BY seq DESC LIMIT ?`, append(args, f.Limit)...)
}

func (s *Store) auditRows(ctx context.Context, clause string, args ...any) ([]account.Entry, error) {
	list, err := many(ctx, s, scanAudit, `SELECT `+auditColumns+` FROM audit `+clause, args...)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return list, nil
}

// VerifyAudit reads the whole audit log and names every row that is not as it was
// written. known is its end as somebody noted it earlier elsewhere; the zero Head
// asks nothing.
func (s *Store) VerifyAudit(ctx context.Context, known chain.Head) (faults []chain.Fault, rows uint64, end chain.Head, err error) {
	base, err := baseOf(s.read.QueryRowContext(ctx, `SELECT value FROM setting WHERE name = ?`, auditBase))
	if err != nil {
		return nil, 0, chain.Head{}, fmt.Errorf("verify the audit log: %w", s.explain(err))
	}
	v := chain.NewVerifier(base)
	if err := s.EachAudit(ctx, func(e account.Entry) error { v.Add(e.Row()); return nil }); err != nil {
		return nil, v.Rows(), chain.Head{}, fmt.Errorf("verify: %w", err)
	}
	faults, rows, end = v.Finish(known)
	return faults, rows, end, nil
}

// EachAudit calls do for every entry of the audit log, the oldest first, until it
// fails.
func (s *Store) EachAudit(ctx context.Context, do func(account.Entry) error) error {
	for after := uint64(0); ; {
		page, err := s.auditRows(ctx, `WHERE seq > ? ORDER BY seq LIMIT 500`, int64(after))
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			if err := do(e); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Seq
	}
}

// PruneAudit removes the oldest entries of the audit log: those before a time, and
// those beyond the newest keep. Their end is kept, so that the rest still proves
// to be whole. It returns how many are gone.
func (s *Store) PruneAudit(ctx context.Context, before time.Time, keep int) (int, error) {
	n, err := write(ctx, s, func(tx *sql.Tx) (int64, error) {
		var last chain.Head
		err := tx.QueryRow(`SELECT seq, hash FROM audit WHERE seq <= max(
			coalesce((SELECT max(seq) FROM audit WHERE at_ms < ?), 0), (SELECT coalesce(max(seq), 0) FROM audit) - ?) ORDER BY seq DESC LIMIT 1`,
			toMS(before), keep).Scan(&last.Seq, &last.Hash)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		text, err := json.Marshal(last)
		if err != nil {
			return 0, err
		}
		if _, err := tx.Exec(`INSERT INTO setting (name, value, changed_ms) VALUES (?1, ?2, ?3)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value, changed_ms = excluded.changed_ms`, auditBase, string(text), toMS(before)); err != nil {
			return 0, err
		}
		res, err := tx.Exec(`DELETE FROM audit WHERE seq <= ?`, int64(last.Seq))
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	})
	if err != nil {
		return 0, fmt.Errorf("shorten the audit log: %w", err)
	}
	return int(n), nil
}
