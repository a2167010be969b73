package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Token is one row of the token table: what a token is allowed and what became
// of it. Times are whole milliseconds; a zero time is "not". The fields are those
// of auth.Token, in the same order, so that one converts to the other.
type Token struct {
	ID        string // public, part of the token
	Name      string // what a person calls it
	Hash      [32]byte
	Agents    []string // globs
	Send      []string
	Subscribe []string
	Publish   []string
	Roles     []string
	Created   time.Time
	Expires   time.Time
	Revoked   time.Time
	Used      time.Time // coarse
	Rev       uint64    // number of the last change to the row, given by the store
}

// TokenState selects tokens of a list by what became of them.
type TokenState string

const (
	TokensAll     TokenState = ""
	TokensActive  TokenState = "active"
	TokensExpired TokenState = "expired" // and not revoked
	TokensRevoked TokenState = "revoked"
)

// A TokenFilter selects and pages a list of tokens.
type TokenFilter struct {
	State TokenState
	Match string    // part of the id, the name or an agent glob, any case; "" is all
	Now   time.Time // what Active and Expired compare with
	After string    // the id that the page before ended with; "" is the first page. ErrNotFound when it was deleted meanwhile.
	Limit int       // 1 to 1000; 0 is 100
}

const tokenColumns = `id, name, hash, agents, send, subscribe, publish, roles, created_ms, expires_ms, revoked_ms, last_used_ms, rev`

// CreateToken stores a new token and returns its change number; t.Rev is not
// looked at. ErrExists: the id is taken.
func (s *Store) CreateToken(ctx context.Context, t Token) (rev uint64, err error) {
	if t.ID == "" || t.Hash == ([32]byte{}) || t.Created.IsZero() {
		return 0, errors.New("create token: id, hash and creation time are needed")
	}
	lists, err := encodeLists(t.Agents, t.Send, t.Subscribe, t.Publish, t.Roles)
	if err != nil {
		return 0, fmt.Errorf("create token %s: %w", t.ID, err)
	}
	rev, err = write(ctx, s, func(tx *sql.Tx) (uint64, error) {
		rev, err := nextRev(tx)
		if err != nil {
			return 0, err
		}
		_, err = tx.Exec(`INSERT INTO token (`+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			t.ID, t.Name, t.Hash[:], lists[0], lists[1], lists[2], lists[3], lists[4],
			toMS(t.Created), toMS(t.Expires), toMS(t.Revoked), toMS(t.Used), rev)
		if isConstraint(err) {
			return 0, fmt.Errorf("%w (%v)", ErrExists, err)
		}
		if err != nil {
			return 0, err
		}
		return rev, s.recordToken(tx, t.ID)
	})
	if err != nil {
		return 0, fmt.Errorf("create token %s: %w", t.ID, err)
	}
	return rev, nil
}

// nextRev numbers one change of a token. Writers exclude each other, also those
// of other processes: numbers become visible in the order in which they are given.
func nextRev(tx *sql.Tx) (uint64, error) {
	var rev int64
	err := tx.QueryRow(`UPDATE counter SET value = value + 1 WHERE name = 'token_rev' RETURNING value`).Scan(&rev)
	return uint64(rev), err
}

// Token returns one token. ErrNotFound: there is none with that id.
func (s *Store) Token(ctx context.Context, id string) (Token, error) {
	list, err := s.tokens(ctx, `WHERE id = ?`, id)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Token{}, fmt.Errorf("token %.64q: %w", id, err)
	}
	return list[0], nil
}

// Tokens returns a page of tokens, the newest first. A page that is shorter than
// the limit is the last one.
func (s *Store) Tokens(ctx context.Context, f TokenFilter) ([]Token, error) {
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 1 || f.Limit > 1000 {
		return nil, fmt.Errorf("list tokens: the limit must be 1 to 1000, not %d", f.Limit)
	}
	where, args := []string{`1`}, []any{}
	add := func(cond string, a ...any) {
		where = append(where, cond)
		args = append(args, a...)
	}
	now := toMS(f.Now)
	switch f.State {
	case TokensAll:
	case TokensActive:
		add(`revoked_ms = 0 AND (expires_ms = 0 OR expires_ms > ?)`, now)
	case TokensExpired:
		add(`revoked_ms = 0 AND expires_ms <> 0 AND expires_ms <= ?`, now)
	case TokensRevoked:
		add(`revoked_ms <> 0`)
	default:
		return nil, fmt.Errorf("list tokens: the state must be active, expired or revoked, not %.64q", f.State)
	}
	if f.Match != "" {
		m := `%` + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Match) + `%`
		add(`(id LIKE ? ESCAPE '\' OR name LIKE ? ESCAPE '\' OR agents LIKE ? ESCAPE '\')`, m, m, m)
	}
	if f.After != "" {
		add(`(created_ms, id) < (SELECT created_ms, id FROM token WHERE id = ?)`, f.After)
	}
	args = append(args, f.Limit)
	list, err := s.tokens(ctx, `WHERE `+strings.Join(where, ` AND `)+` ORDER BY created_ms DESC, id DESC LIMIT ?`, args...)
	if err == nil && len(list) == 0 && f.After != "" {
		_, err = s.Token(ctx, f.After) // deleted meanwhile: an empty page would look like the end
	}
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return list, nil
}

// TokensSince returns up to limit tokens that changed after rev, in the order of
// their changes. The next call goes on from the Rev of the last one. A revoked
// token is among them, a deleted one is not: only what had ended can be deleted.
func (s *Store) TokensSince(ctx context.Context, rev uint64, limit int) ([]Token, error) {
	if limit < 1 || limit > 10_000 {
		return nil, fmt.Errorf("tokens since %d: the limit must be 1 to 10000, not %d", rev, limit)
	}
	list, err := s.tokens(ctx, `WHERE rev > ? ORDER BY rev LIMIT ?`, int64(rev), limit)
	if err != nil {
		return nil, fmt.Errorf("tokens since %d: %w", rev, err)
	}
	return list, nil
}

// RevokeToken ends a token for good. The first time of revocation stays when it
// is called again. ErrNotFound: there is none with that id.
func (s *Store) RevokeToken(ctx context.Context, id string, at time.Time) error {
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		var revoked int64
		err := tx.QueryRow(`SELECT revoked_ms FROM token WHERE id = ?`, id).Scan(&revoked)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || revoked != 0 {
			return err
		}
		rev, err := nextRev(tx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE token SET revoked_ms = ?, rev = ? WHERE id = ?`, toMS(at), rev, id); err != nil {
			return err
		}
		return s.recordToken(tx, id)
	})
	if err != nil {
		return fmt.Errorf("revoke token %.64q: %w", id, err)
	}
	return nil
}

// DeleteEndedTokens removes tokens that were revoked or had expired before the
// given time, on all nodes, and returns how many.
func (s *Store) DeleteEndedTokens(ctx context.Context, before time.Time) (int, error) {
	n, err := write(ctx, s, func(tx *sql.Tx) (int, error) {
		ids, err := endedTokens(tx, before)
		if err != nil {
			return 0, err
		}
		for _, id := range ids {
			if _, err := tx.Exec(`DELETE FROM token WHERE id = ?`, id); err != nil {
				return 0, err
			}
			if err := s.recordChange(tx, tokenKind, id, nil, true); err != nil {
				return 0, err
			}
		}
		return len(ids), nil
	})
	if err != nil {
		return 0, fmt.Errorf("delete ended tokens: %w", err)
	}
	return n, nil
}

// TokensUsed notes when tokens were used last. It is not a change in the sense of
// Rev, never goes back, and passes over ids that are gone. Callers round the
// times (to the hour): it is for finding tokens that nobody uses.
func (s *Store) TokensUsed(ctx context.Context, used map[string]time.Time) error {
	if len(used) == 0 {
		return nil
	}
	type use struct {
		id string
		ms int64
	}
	uses := make([]use, 0, len(used)) // a copy: the write may outlast the call
	for id, at := range used {
		uses = append(uses, use{id, toMS(at)})
	}
	err := s.writer.apply(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.Prepare(`UPDATE token SET last_used_ms = ?1 WHERE id = ?2 AND last_used_ms < ?1`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, u := range uses {
			if _, err := stmt.Exec(u.ms, u.id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note use of tokens: %w", err)
	}
	return nil
}

func (s *Store) tokens(ctx context.Context, clause string, args ...any) ([]Token, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.read.QueryContext(ctx, `SELECT `+tokenColumns+` FROM token `+clause, args...)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	var list []Token
	for rows.Next() {
		t, err := scanToken(rows)
		if err != nil {
			return nil, s.explain(err)
		}
		list = append(list, t)
	}
	return list, s.explain(rows.Err())
}

func scanToken(rows *sql.Rows) (t Token, err error) {
	var hash []byte
	var lists [5]string
	var created, expires, revoked, used int64
	if err := rows.Scan(&t.ID, &t.Name, &hash, &lists[0], &lists[1], &lists[2], &lists[3], &lists[4],
		&created, &expires, &revoked, &used, &t.Rev); err != nil {
		return Token{}, err
	}
	if copy(t.Hash[:], hash) != len(t.Hash) {
		return Token{}, fmt.Errorf("%w: the hash of token %.64q has %d bytes, not %d", ErrCorrupt, t.ID, len(hash), len(t.Hash))
	}
	for i, into := range []*[]string{&t.Agents, &t.Send, &t.Subscribe, &t.Publish, &t.Roles} {
		if err := json.Unmarshal([]byte(lists[i]), into); err != nil {
			return Token{}, fmt.Errorf("%w: a list of token %.64q: %v", ErrCorrupt, t.ID, err)
		}
	}
	t.Created, t.Expires, t.Revoked, t.Used = fromMS(created), fromMS(expires), fromMS(revoked), fromMS(used)
	return t, nil
}

func encodeLists(lists ...[]string) ([]string, error) {
	out := make([]string, len(lists))
	for i, l := range lists {
		b, err := json.Marshal(append([]string{}, l...)) // [] for nil
		if err != nil {
			return nil, err
		}
		out[i] = string(b)
	}
	return out, nil
}
