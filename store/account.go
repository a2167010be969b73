package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agentnet/app/account"
)

var _ account.Rows = (*Store)(nil)

const accountColumns = `a.name, a.role, a.disabled, a.password, a.second, a.outside, a.since_ms, a.created_ms, coalesce(u.seen_ms, 0)`

const accountTables = ` FROM account a LEFT JOIN account_use u ON u.name = a.name `

// scanner is a row of database/sql.
type scanner interface{ Scan(into ...any) error }

func scanAccount(row scanner) (a account.Account, err error) {
	var since, created, seen int64
	if err := row.Scan(&a.Name, &a.Role, &a.Disabled, &a.Password, &a.Second, &a.Outside, &since, &created, &seen); err != nil {
		return account.Account{}, err
	}
	a.Since, a.Created, a.LastSeen = fromMS(since), fromMS(created), fromMS(seen)
	return a, nil
}

// asAccountError turns an empty answer into the error that package account knows.
func (s *Store) asAccountError(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return account.ErrNotFound
	}
	return s.explain(err)
}

// CreateAccount implements account.Rows.
func (s *Store) CreateAccount(ctx context.Context, a account.Account, first bool) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		if first {
			if n, err := countAdmins(tx); err != nil || n > 0 {
				return errors.Join(err, onlyIf(n > 0, account.ErrNotFirst))
			}
		}
		var taken int
		if err := tx.QueryRow(`SELECT count(*) FROM account WHERE name = ?`, a.Name).Scan(&taken); err != nil {
			return err
		}
		if taken > 0 {
			return account.ErrExists
		}
		if err := putAccount(tx, &a); err != nil {
			return err
		}
		return s.recordChange(tx, accountKind, a.Name, textOf(&a), false)
	})
	if err != nil {
		return fmt.Errorf("create account %.64q: %w", a.Name, err)
	}
	return nil
}

func onlyIf(cond bool, err error) error {
	if cond {
		return err
	}
	return nil
}

// putAccount writes a whole row.
func putAccount(tx *sql.Tx, a *account.Account) error {
	_, err := tx.Exec(`INSERT INTO account (name, role, disabled, password, second, outside, since_ms, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET role = excluded.role, disabled = excluded.disabled, password = excluded.password, second = excluded.second,
			outside = excluded.outside, since_ms = excluded.since_ms, created_ms = excluded.created_ms`,
		a.Name, string(a.Role), a.Disabled, a.Password, a.Second, a.Outside, toMS(a.Since), toMS(a.Created))
	return err
}

// countAdmins counts the admins that may sign in.
func countAdmins(tx *sql.Tx) (n int, err error) {
	err = tx.QueryRow(`SELECT count(*) FROM account WHERE role = 'admin' AND disabled = 0`).Scan(&n)
	return n, err
}

// ChangeAccount implements account.Rows.
func (s *Store) ChangeAccount(ctx context.Context, name string, change func(*account.Account) error) (account.Account, error) {
	a, err := write(ctx, s, func(tx *sql.Tx) (account.Account, error) {
		a, err := scanAccount(tx.QueryRow(`SELECT `+accountColumns+accountTables+`WHERE a.name = ?`, name))
		if err != nil {
			return a, s.asAccountError(err)
		}
		before := a
		if err := change(&a); err != nil {
			return a, err
		}
		a.Name, a.Created, a.LastSeen = before.Name, before.Created, before.LastSeen
		if a == before {
			return a, nil
		}
		if err := putAccount(tx, &a); err != nil {
			return a, err
		}
		if err := s.recordChange(tx, accountKind, a.Name, textOf(&a), false); err != nil {
			return a, err
		}
		return a, keepsAnAdmin(tx, &before)
	})
	if err != nil {
		return account.Account{}, fmt.Errorf("change account %.64q: %w", name, err)
	}
	return a, nil
}

// keepsAnAdmin fails when the change of before took the last admin away.
func keepsAnAdmin(tx *sql.Tx, before *account.Account) error {
	if before.Role != account.Admin || before.Disabled {
		return nil
	}
	n, err := countAdmins(tx)
	if err == nil && n == 0 {
		err = account.ErrLastAdmin
	}
	return err
}

// DeleteAccount implements account.Rows.
func (s *Store) DeleteAccount(ctx context.Context, name string) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		before, err := scanAccount(tx.QueryRow(`SELECT `+accountColumns+accountTables+`WHERE a.name = ?`, name))
		if err != nil {
			return s.asAccountError(err)
		}
		if _, err := s.endSessions(tx, `account = ?`, name); err != nil {
			return err
		}
		if err := s.putRecovery(tx, name, nil); err != nil {
			return err
		}
		if err := removeAccount(tx, name); err != nil {
			return err
		}
		if err := s.recordChange(tx, accountKind, name, nil, true); err != nil {
			return err
		}
		return keepsAnAdmin(tx, &before)
	})
	if err != nil {
		return fmt.Errorf("delete account %.64q: %w", name, err)
	}
	return nil
}

// removeAccount removes an account with all that belongs to it.
func removeAccount(tx *sql.Tx, name string) error {
	for _, text := range []string{`DELETE FROM session WHERE account = ?`, `DELETE FROM link WHERE account = ?`, `DELETE FROM recovery WHERE account = ?`,
		`DELETE FROM account_use WHERE name = ?`, `DELETE FROM account WHERE name = ?`} {
		if _, err := tx.Exec(text, name); err != nil {
			return err
		}
	}
	return nil
}

// Account implements account.Rows.
func (s *Store) Account(ctx context.Context, name string) (account.Account, error) {
	return s.oneAccount(ctx, `WHERE a.name = ?`, name)
}

// AccountOutside implements account.Rows.
func (s *Store) AccountOutside(ctx context.Context, outside string) (account.Account, error) {
	return s.oneAccount(ctx, `WHERE a.outside = ? AND a.outside <> '' ORDER BY a.name LIMIT 1`, outside)
}

func (s *Store) oneAccount(ctx context.Context, clause, arg string) (account.Account, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	a, err := scanAccount(s.read.QueryRowContext(ctx, `SELECT `+accountColumns+accountTables+clause, arg))
	if err != nil {
		return account.Account{}, fmt.Errorf("account: %w", s.asAccountError(err))
	}
	return a, nil
}

// Accounts implements account.Rows.
func (s *Store) Accounts(ctx context.Context, after string, limit int) ([]account.Account, error) {
	if limit < 1 || limit > 1000 {
		return nil, fmt.Errorf("list accounts: the limit must be 1 to 1000, not %d", limit)
	}
	list, err := many(ctx, s, scanAccount, `SELECT `+accountColumns+accountTables+`WHERE a.name > ? ORDER BY a.name LIMIT ?`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list, nil
}

// many reads rows of one kind.
func many[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string, args ...any) (list []T, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, s.explain(err)
		}
		list = append(list, v)
	}
	return list, s.explain(rows.Err())
}

// Admins implements account.Rows.
func (s *Store) Admins(ctx context.Context) (n int, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM account WHERE role = 'admin' AND disabled = 0`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count admins: %w", s.explain(err))
	}
	return n, nil
}

// SignedIn implements account.Rows.
func (s *Store) SignedIn(ctx context.Context, name string, at time.Time) error {
	return s.writer.apply(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO account_use (name, seen_ms) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seen_ms = excluded.seen_ms`, name, toMS(at))
		return err
	})
}

// UseStep implements account.Rows.
func (s *Store) UseStep(ctx context.Context, name string, step int64) (bool, error) {
	fresh, err := write(ctx, s, func(tx *sql.Tx) (bool, error) {
		res, err := tx.Exec(`INSERT INTO account_use (name, step) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET step = excluded.step WHERE step < excluded.step`, name, step)
		if err != nil {
			return false, err
		}
		n, err := res.RowsAffected()
		return n > 0, err
	})
	if err != nil {
		return false, fmt.Errorf("use a code: %w", err)
	}
	return fresh, nil
}

// PutRecovery implements account.Rows.
func (s *Store) PutRecovery(ctx context.Context, name string, hashes [][32]byte) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error { return s.putRecovery(tx, name, hashes) })
	if err != nil {
		return fmt.Errorf("store recovery codes: %w", err)
	}
	return nil
}

func (s *Store) putRecovery(tx *sql.Tx, name string, hashes [][32]byte) error {
	old, err := recoveryHashes(tx, name)
	if err != nil {
		return err
	}
	for _, h := range old {
		if _, err := s.dropRecovery(tx, name, h); err != nil {
			return err
		}
	}
	for _, h := range hashes {
		if _, err := tx.Exec(`INSERT INTO recovery (account, hash) VALUES (?, ?)`, name, h[:]); err != nil {
			return err
		}
		if err := s.recordChange(tx, recoveryKind, recoveryKey(h), recoveryText{Account: name}, false); err != nil {
			return err
		}
	}
	return nil
}

func recoveryHashes(tx *sql.Tx, name string) (list [][32]byte, err error) {
	rows, err := tx.Query(`SELECT hash FROM recovery WHERE account = ?`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		if len(raw) == 32 {
			list = append(list, [32]byte(raw))
		}
	}
	return list, rows.Err()
}

// dropRecovery removes a code here and, by its record, on all nodes: a code that was
// used on one of them is of no use on any other.
func (s *Store) dropRecovery(tx *sql.Tx, name string, hash [32]byte) (bool, error) {
	res, err := tx.Exec(`DELETE FROM recovery WHERE account = ? AND hash = ?`, name, hash[:])
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	return true, s.recordChange(tx, recoveryKind, recoveryKey(hash), nil, true)
}

// UseRecovery implements account.Rows.
func (s *Store) UseRecovery(ctx context.Context, name string, hash [32]byte) (bool, error) {
	used, err := write(ctx, s, func(tx *sql.Tx) (bool, error) { return s.dropRecovery(tx, name, hash) })
	if err != nil {
		return false, fmt.Errorf("use a recovery code: %w", err)
	}
	return used, nil
}

// RecoveryLeft implements account.Rows.
func (s *Store) RecoveryLeft(ctx context.Context, name string) (n int, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.read.QueryRowContext(ctx, `SELECT count(*) FROM recovery WHERE account = ?`, name).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count recovery codes: %w", s.explain(err))
	}
	return n, nil
}
