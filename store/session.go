package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"agentnet/app/account"
)

const sessionColumns = `s.hash, s.id, s.account, s.stage, s.how, s.address, s.browser, s.created_ms, s.seen_ms, s.expires_ms`

func sessionFields(t *account.Session, hash *[]byte, ms *[3]int64) []any {
	return []any{hash, &t.ID, &t.Account, &t.Stage, &t.How, &t.Address, &t.Browser, &ms[0], &ms[1], &ms[2]}
}

// finish takes the fields over that have another form in the database.
func finishSession(t *account.Session, hash []byte, ms [3]int64) error {
	if copy(t.Hash[:], hash) != len(t.Hash) {
		return fmt.Errorf("%w: the hash of a session has %d bytes, not %d", ErrCorrupt, len(hash), len(t.Hash))
	}
	t.Created, t.Seen, t.Expires = fromMS(ms[0]), fromMS(ms[1]), fromMS(ms[2])
	return nil
}

func scanSession(row scanner) (t account.Session, err error) {
	var hash []byte
	var ms [3]int64
	if err := row.Scan(sessionFields(&t, &hash, &ms)...); err != nil {
		return account.Session{}, err
	}
	return t, finishSession(&t, hash, ms)
}

// maxSessions bounds the sessions of one account; the one used longest ago makes
// room.
const maxSessions = 50

// CreateSession implements account.Rows.
func (s *Store) CreateSession(ctx context.Context, t account.Session) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		if err := putSession(tx, &t); err != nil {
			return err
		}
		if err := s.recordChange(tx, sessionKind, hex.EncodeToString(t.Hash[:]), sessionTextOf(&t), false); err != nil {
			return err
		}
		_, err := s.endSessions(tx, `account = ?1 AND hash <> ?2 AND hash NOT IN (
			SELECT hash FROM session WHERE account = ?1 ORDER BY seen_ms DESC LIMIT ?3)`, t.Account, t.Hash[:], maxSessions)
		return err
	})
	if err != nil {
		return fmt.Errorf("create session: %w", err)
	}
	return nil
}

// putSession writes a whole row; the last use never goes back.
func putSession(tx *sql.Tx, t *account.Session) error {
	_, err := tx.Exec(`INSERT INTO session (hash, id, account, stage, how, address, browser, created_ms, seen_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (hash) DO UPDATE SET seen_ms = max(seen_ms, excluded.seen_ms)`,
		t.Hash[:], t.ID, t.Account, t.Stage, t.How, t.Address, t.Browser, toMS(t.Created), toMS(t.Seen), toMS(t.Expires))
	return err
}

// endSessions removes the sessions that a condition chooses, on all nodes.
func (s *Store) endSessions(tx *sql.Tx, where string, args ...any) (int, error) {
	rows, err := tx.Query(`DELETE FROM session WHERE `+where+` RETURNING hash`, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var hash []byte
		if err := rows.Scan(&hash); err != nil {
			return 0, err
		}
		keys = append(keys, hex.EncodeToString(hash))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := s.recordChange(tx, sessionKind, key, nil, true); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// Session implements account.Rows.
func (s *Store) Session(ctx context.Context, hash [32]byte) (t account.Session, a account.Account, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	row := s.read.QueryRowContext(ctx, `SELECT `+sessionColumns+`, `+accountColumns+` FROM session s JOIN account a ON a.name = s.account
		LEFT JOIN account_use u ON u.name = a.name WHERE s.hash = ?`, hash[:])
	var raw []byte
	var ms [3]int64
	var since, created, seen int64
	fields := append(sessionFields(&t, &raw, &ms), &a.Name, &a.Role, &a.Disabled, &a.Password, &a.Second, &a.Outside, &since, &created, &seen)
	if err := row.Scan(fields...); err != nil {
		return account.Session{}, account.Account{}, s.asAccountError(err)
	}
	a.Since, a.Created, a.LastSeen = fromMS(since), fromMS(created), fromMS(seen)
	return t, a, finishSession(&t, raw, ms)
}

// TouchSession implements account.Rows.
func (s *Store) TouchSession(ctx context.Context, hash [32]byte, seen time.Time, share bool) error {
	return s.writer.apply(ctx, func(tx *sql.Tx) error {
		t, err := scanSession(tx.QueryRow(`SELECT `+sessionColumns+` FROM session s WHERE s.hash = ?`, hash[:]))
		if errors.Is(err, sql.ErrNoRows) || err == nil && !t.Seen.Before(seen) {
			return nil
		}
		if err != nil {
			return err
		}
		t.Seen = seen
		if err := putSession(tx, &t); err != nil {
			return err
		}
		if !share {
			return nil
		}
		return s.recordChange(tx, sessionKind, hex.EncodeToString(hash[:]), sessionTextOf(&t), false)
	})
}

// EndSession implements account.Rows.
func (s *Store) EndSession(ctx context.Context, hash [32]byte) error {
	return s.writer.apply(ctx, func(tx *sql.Tx) error {
		_, err := s.endSessions(tx, `hash = ?`, hash[:])
		return err
	})
}

// sessionWhere is the condition of a filter.
func sessionWhere(f account.SessionFilter) (string, []any) {
	where, args := []string{`1`}, []any{}
	if f.ID != "" {
		where, args = append(where, `id = ?`), append(args, f.ID)
	}
	if f.Account != "" {
		where, args = append(where, `account = ?`), append(args, f.Account)
	}
	if f.Except != ([32]byte{}) {
		where, args = append(where, `hash <> ?`), append(args, f.Except[:])
	}
	return strings.Join(where, ` AND `), args
}

// EndSessions implements account.Rows.
func (s *Store) EndSessions(ctx context.Context, f account.SessionFilter) (int, error) {
	where, args := sessionWhere(f)
	n, err := write(ctx, s, func(tx *sql.Tx) (int, error) { return s.endSessions(tx, where, args...) })
	if err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return n, nil
}

// Sessions implements account.Rows.
func (s *Store) Sessions(ctx context.Context, f account.SessionFilter) ([]account.Session, error) {
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 1000
	}
	where, args := sessionWhere(f)
	list, err := many(ctx, s, scanSession, `SELECT `+sessionColumns+` FROM session s WHERE s.stage = '' AND `+where+` ORDER BY s.seen_ms DESC, s.id LIMIT ?`, append(args, f.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

// PutLink implements account.Rows.
func (s *Store) PutLink(ctx context.Context, l account.Link) error {
	return s.writer.apply(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM link WHERE kind = ? AND account = ?`, l.Kind, l.Account); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO link (hash, kind, account, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?)`, l.Hash[:], l.Kind, l.Account, toMS(l.Created), toMS(l.Expires))
		return err
	})
}

// Link implements account.Rows.
func (s *Store) Link(ctx context.Context, hash [32]byte) (account.Link, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	l := account.Link{Hash: hash}
	var created, expires int64
	err := s.read.QueryRowContext(ctx, `SELECT kind, account, created_ms, expires_ms FROM link WHERE hash = ?`, hash[:]).Scan(&l.Kind, &l.Account, &created, &expires)
	if err != nil {
		return account.Link{}, fmt.Errorf("link: %w", s.asAccountError(err))
	}
	l.Created, l.Expires = fromMS(created), fromMS(expires)
	return l, nil
}

// TakeLink implements account.Rows.
func (s *Store) TakeLink(ctx context.Context, hash [32]byte) error {
	return s.writer.apply(ctx, func(tx *sql.Tx) error {
		res, err := tx.Exec(`DELETE FROM link WHERE hash = ?`, hash[:])
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return orNotFound(err)
		}
		return nil
	})
}

func orNotFound(err error) error {
	if err != nil {
		return err
	}
	return account.ErrNotFound
}

// Sweep implements account.Rows.
func (s *Store) Sweep(ctx context.Context, now, idleBefore time.Time) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		if _, err := s.endSessions(tx, `expires_ms <= ? OR seen_ms <= ?`, toMS(now), toMS(idleBefore)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM link WHERE expires_ms <= ?`, toMS(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove what is over: %w", err)
	}
	return nil
}
