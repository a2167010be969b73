package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	// maxChangeBody bounds the JSON of one change.
	maxChangeBody = 128 << 10
	// maxAhead is how far a clock follows the stamps of others.
	maxAhead = 5 * time.Minute
	// maxOverwritten bounds the changes that are kept although another one has
	// overwritten them.
	maxOverwritten = 50_000
	// keepDeleted is how long it is remembered that something was deleted. A node
	// that was away for longer might bring it back.
	keepDeleted = 400 * 24 * time.Hour
)

// A Rank is what of two changes of one life of a key wins whatever their times are.
type Rank int

const (
	Updated Rank = iota // also created
	Final               // the last update, such as a revocation: only a deletion follows
	Deleted
)

// A Change is one write of control data, on this node or another.
//
// Of two changes of one key wins the one with the higher life, then rank, then
// stamp, then origin, then number. All nodes hold the same changes in the end and
// choose by the same rule, so that they hold the same rows. What is deleted or
// revoked stays so whatever others wrote at the same time or later without having
// seen it; only what was made again after the deletion lives on, as the next life.
type Change struct {
	Origin string // the data directory that wrote it
	Number uint64 // its how-manieth change
	Stamp  uint64 // when: ms since 1970 << 16 + counter
	Life   uint64 // how often the key was made again after a deletion
	Rank   Rank
	Kind   string // of what: "token"
	Key    string // which one
	Body   []byte // JSON: the whole row as it is after the change; empty for a deletion
}

// beats says that c wins over other, which has the same kind and key.
func (c *Change) beats(other *Change) bool {
	switch {
	case c.Life != other.Life:
		return c.Life > other.Life
	case c.Rank != other.Rank:
		return c.Rank > other.Rank
	case c.Stamp != other.Stamp:
		return c.Stamp > other.Stamp
	case c.Origin != other.Origin:
		return c.Origin > other.Origin
	default:
		return c.Number > other.Number
	}
}

// ErrBadChange says that a change of another node cannot be understood.
var ErrBadChange = errors.New("the change cannot be understood")

// An applier brings a row to what a change says, whatever it was before; c has won
// over all others of its key. ErrBadChange: the body makes no sense to this
// program; the change is kept and tried again by the next program. Constraints that
// it breaks count as that too. Other errors stop the replication until they go away.
type applier func(tx *sql.Tx, c *Change) error

// newAppliers is what changes there are. Each concern enters its own.
func (s *Store) newAppliers() map[string]applier {
	return map[string]applier{
		originKind: s.applyOrigin,
		tokenKind:  applyToken,

		accountKind:  applyAccount,
		sessionKind:  applySession,
		recoveryKind: applyRecovery,
	}
}

// recordChange notes a change of control data in the transaction that makes it.
// body is encoded as JSON and must hold all that the applier of that kind needs to
// write the whole row; it is nil for a deletion.
func (s *Store) recordChange(tx *sql.Tx, kind, key string, body any, deleted bool) error {
	if deleted {
		return s.record(tx, Deleted, kind, key, nil)
	}
	return s.record(tx, Updated, kind, key, body)
}

// recordFinal is recordChange for what only a deletion may follow, on any node: a
// revocation. A Final row may be recorded again.
func (s *Store) recordFinal(tx *sql.Tx, kind, key string, body any) error {
	return s.record(tx, Final, kind, key, body)
}

func (s *Store) record(tx *sql.Tx, rank Rank, kind, key string, body any) error {
	c := Change{Rank: rank, Kind: kind, Key: key}
	if s.appliers[kind] == nil || key == "" || len(key) > 512 {
		return fmt.Errorf("record change of %q %.64q: there must be an applier and a key of 1 to 512 bytes", kind, key)
	}
	if rank != Deleted {
		var err error
		if c.Body, err = json.Marshal(body); err != nil {
			return fmt.Errorf("record change of %s %.64q: %w", kind, key, err)
		}
		if len(c.Body) > maxChangeBody {
			return fmt.Errorf("record change of %s %.64q: %d bytes, at most %d are kept", kind, key, len(c.Body), maxChangeBody)
		}
	}
	before, err := currentChange(tx, kind, key)
	if err != nil {
		return err
	}
	if before != nil {
		c.Life = before.Life
		if before.Rank == Deleted && rank != Deleted {
			c.Life++
		}
		if c.Life == before.Life && before.Rank > rank {
			return fmt.Errorf("record change of %s %.64q: %w: it was ended for good", kind, key, ErrExists)
		}
	}
	if c.Stamp, err = s.nextStamp(tx, before); err != nil {
		return err
	}
	var number int64
	err = tx.QueryRow(`UPDATE change_origin SET head = head + 1 WHERE own = 1 RETURNING origin, head`).Scan(&c.Origin, &number)
	if err != nil {
		return err
	}
	c.Number = uint64(number)
	if err := insertChange(tx, &c, before, true); err != nil {
		return err
	}
	if c.Number%1024 == 0 {
		return dropOverwritten(tx, maxOverwritten)
	}
	return nil
}

// nextStamp gives a stamp above all that were given or seen here, and above that of
// the change which it follows.
func (s *Store) nextStamp(tx *sql.Tx, before *Change) (uint64, error) {
	var last int64
	if err := tx.QueryRow(`SELECT value FROM counter WHERE name = 'change_stamp'`).Scan(&last); err != nil {
		return 0, err
	}
	stamp := max(stampOf(s.now()), uint64(last)+1)
	// A clock far ahead may have given this key a stamp that ours does not follow.
	// Who changes the key after it has seen that must win all the same.
	given := stamp
	if before != nil {
		given = max(stamp, before.Stamp+1)
	}
	_, err := tx.Exec(`UPDATE counter SET value = ? WHERE name = 'change_stamp'`, int64(stamp))
	return given, err
}

func stampOf(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) << 16 }

// stampTime is the wall clock of a stamp.
func stampTime(stamp uint64) time.Time { return time.UnixMilli(int64(stamp >> 16)).UTC() }

const changeColumns = `origin, number, stamp, life, rank, kind, key, body`

// currentChange returns the change that has won so far; nil: there is none.
func currentChange(tx *sql.Tx, kind, key string) (*Change, error) {
	c, err := scanChange(tx.QueryRow(`SELECT `+changeColumns+` FROM change WHERE kind = ? AND key = ? AND current = 1`, kind, key))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return c, err
}

func scanChange(row interface{ Scan(...any) error }) (*Change, error) {
	var c Change
	var number, stamp, life int64
	err := row.Scan(&c.Origin, &number, &stamp, &life, &c.Rank, &c.Kind, &c.Key, &c.Body)
	c.Number, c.Stamp, c.Life = uint64(number), uint64(stamp), uint64(life)
	return &c, err
}

// insertChange stores c, as the current one if it beats before.
func insertChange(tx *sql.Tx, c, before *Change, applied bool) error {
	current := before == nil || c.beats(before)
	if current && before != nil {
		if _, err := tx.Exec(`UPDATE change SET current = 0, applied = 1 WHERE origin = ? AND number = ?`, before.Origin, int64(before.Number)); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`INSERT INTO change (`+changeColumns+`, current, applied) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		c.Origin, int64(c.Number), int64(c.Stamp), int64(c.Life), c.Rank, c.Kind, c.Key, string(c.Body), current, applied || !current)
	return err
}

// dropOverwritten removes the oldest changes that others have overwritten, all but
// keep of them.
func dropOverwritten(tx *sql.Tx, keep int) error {
	_, err := tx.Exec(`DELETE FROM change WHERE current = 0 AND (origin, number) IN
		(SELECT origin, number FROM change WHERE current = 0 ORDER BY stamp DESC LIMIT -1 OFFSET ?)`, keep)
	return err
}

// applyPending applies what an older program has kept without understanding it.
func (s *Store) applyPending(ctx context.Context) error {
	var pending int
	if err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM change WHERE current = 1 AND applied = 0`).Scan(&pending); err != nil || pending == 0 {
		return err
	}
	return s.writer.apply(ctx, func(tx *sql.Tx) error {
		rows, err := tx.Query(`SELECT ` + changeColumns + ` FROM change WHERE current = 1 AND applied = 0`)
		if err != nil {
			return err
		}
		defer rows.Close()
		var list []*Change
		for rows.Next() {
			c, err := scanChange(rows)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, c := range list {
			applied, err := s.bring(tx, c)
			if err != nil {
				return err
			}
			if applied {
				if _, err := tx.Exec(`UPDATE change SET applied = 1 WHERE origin = ? AND number = ?`, c.Origin, int64(c.Number)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// bring has the row of c changed. False: this program cannot.
func (s *Store) bring(tx *sql.Tx, c *Change) (bool, error) {
	apply := s.appliers[c.Kind]
	if apply == nil {
		return false, nil
	}
	if _, err := tx.Exec(`SAVEPOINT change`); err != nil {
		return false, err
	}
	err := apply(tx, c)
	end := `RELEASE change`
	if err != nil {
		end = `ROLLBACK TO change; RELEASE change`
	}
	if _, e := tx.Exec(end); e != nil {
		return false, errors.Join(err, e)
	}
	if errors.Is(err, ErrBadChange) || isConstraint(err) {
		s.log.Error("a change of another node cannot be applied", "kind", c.Kind, "key", c.Key, "origin", c.Origin, "number", c.Number, "error", err)
		return false, nil
	}
	return err == nil, err
}

// maxNumber keeps numbers of others within what SQLite counts with.
const maxNumber = math.MaxInt64 / 2
