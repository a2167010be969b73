package store

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// tokenKind is the kind of change of tokens. A token is created once and revoked at
// most once; a revocation is final on all nodes, whatever else they wrote.
const tokenKind = "token"

// tokenText is a token as a change carries it. The number of the row and its last
// use are of each node alone.
type tokenText struct {
	Name      string          `json:"name"`
	Hash      string          `json:"hash"` // hex
	Agents    json.RawMessage `json:"agents"`
	Send      json.RawMessage `json:"send"`
	Subscribe json.RawMessage `json:"subscribe"`
	Publish   json.RawMessage `json:"publish"`
	Roles     json.RawMessage `json:"roles"`
	Created   int64           `json:"created_ms"`
	Expires   int64           `json:"expires_ms"`
	Revoked   int64           `json:"revoked_ms"`
}

// recordToken notes the row of a token as it is now.
func (s *Store) recordToken(tx *sql.Tx, id string) error {
	var t tokenText
	var hash []byte
	var lists [5]string
	err := tx.QueryRow(`SELECT name, hash, agents, send, subscribe, publish, roles, created_ms, expires_ms, revoked_ms FROM token WHERE id = ?`, id).
		Scan(&t.Name, &hash, &lists[0], &lists[1], &lists[2], &lists[3], &lists[4], &t.Created, &t.Expires, &t.Revoked)
	if err != nil {
		return err
	}
	t.Hash = hex.EncodeToString(hash)
	for i, into := range []*json.RawMessage{&t.Agents, &t.Send, &t.Subscribe, &t.Publish, &t.Roles} {
		*into = json.RawMessage(lists[i])
	}
	if t.Revoked != 0 {
		return s.recordFinal(tx, tokenKind, id, t)
	}
	return s.recordChange(tx, tokenKind, id, t, false)
}

// applyToken writes a token of another node. Its new number makes whoever holds
// tokens in memory see it.
func applyToken(tx *sql.Tx, c *Change) error {
	if c.Rank == Deleted {
		return endToken(tx, c)
	}
	var t tokenText
	if err := json.Unmarshal(c.Body, &t); err != nil {
		return fmt.Errorf("%w: token %.64q: %v", ErrBadChange, c.Key, err)
	}
	hash, err := hex.DecodeString(t.Hash)
	if err != nil || len(hash) != 32 || (c.Rank == Final) != (t.Revoked != 0) {
		return fmt.Errorf("%w: token %.64q has no hash of 32 bytes, or is revoked and is not", ErrBadChange, c.Key)
	}
	lists := []json.RawMessage{t.Agents, t.Send, t.Subscribe, t.Publish, t.Roles}
	for _, l := range lists {
		var globs []string
		if err := json.Unmarshal(l, &globs); err != nil {
			return fmt.Errorf("%w: a list of token %.64q: %v", ErrBadChange, c.Key, err)
		}
	}
	rev, err := nextRev(tx)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO token (`+tokenColumns+`) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?12)
		ON CONFLICT (id) DO UPDATE SET name = ?2, hash = ?3, agents = ?4, send = ?5, subscribe = ?6, publish = ?7, roles = ?8,
			created_ms = ?9, expires_ms = ?10, revoked_ms = ?11, rev = ?12`,
		c.Key, t.Name, hash, string(lists[0]), string(lists[1]), string(lists[2]), string(lists[3]), string(lists[4]),
		t.Created, t.Expires, t.Revoked, rev)
	return err
}

// endToken deletes a token that had ended on the node that deleted it. If it has not
// ended here, because its revocation did not come this far, it is revoked first: a
// row that is only gone would be seen by nobody.
func endToken(tx *sql.Tx, c *Change) error {
	rev, err := nextRev(tx)
	if err != nil {
		return err
	}
	at := stampTime(c.Stamp).UnixMilli()
	if _, err := tx.Exec(`DELETE FROM token WHERE id = ?1 AND (revoked_ms <> 0 OR (expires_ms <> 0 AND expires_ms < ?2))`, c.Key, at); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE token SET revoked_ms = ?2, rev = ?3 WHERE id = ?1`, c.Key, at, rev)
	return err
}

// endedTokens returns the ids of tokens that ended before the given time.
func endedTokens(tx *sql.Tx, before time.Time) ([]string, error) {
	rows, err := tx.Query(`SELECT id FROM token WHERE (revoked_ms <> 0 AND revoked_ms < ?1) OR (expires_ms <> 0 AND expires_ms < ?1)`, toMS(before))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
