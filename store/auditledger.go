package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/app/replica"
)

// AuditLedger is the audit logs of all origins, to be kept equal on all nodes. node
// names the origin of this data directory, if it has none yet.
func (s *Store) AuditLedger(node string) replica.Ledger { return auditLedger{s, node} }

type auditLedger struct {
	s    *Store
	node string
}

// auditText is how an entry travels. With Base it is the end of what its origin
// keeps no more: the entries that follow it follow its hash.
type auditText struct {
	Base bool `json:"base,omitempty"`
	account.Entry
}

// originChange is the action by which a data directory that takes a new origin says
// so; the target is the origin that it abandons.
const originChange = "audit.origin"

// Position reads which entries this data directory has.
func (l auditLedger) Position(ctx context.Context) (replica.Position, error) {
	pos := replica.Position{Heads: map[string]uint64{}}
	own, _, err := l.s.Setting(ctx, settingAuditOrigin)
	if errors.Is(err, ErrNotFound) {
		own, err = write(ctx, l.s, func(tx *sql.Tx) (string, error) { return originOf(tx, settingAuditOrigin, l.node) })
	}
	if err != nil {
		return pos, fmt.Errorf("heads of the audit log: %w", err)
	}
	heads, err := l.s.auditHeads(ctx)
	if err != nil {
		return pos, fmt.Errorf("heads of the audit log: %w", err)
	}
	pos.Own = own
	for _, h := range heads {
		pos.Heads[h.Origin] = h.Seq
	}
	return pos, nil
}

// Since reads entries of one origin.
func (l auditLedger) Since(ctx context.Context, origin string, after uint64, bytes int) (replica.Batch, error) {
	b := replica.Batch{Origin: origin, After: after, UpTo: after}
	if after >= maxNumber {
		return b, nil
	}
	const most = 100
	bases, err := l.s.auditBases(ctx, origin)
	var rows []account.Entry
	if err == nil {
		rows, err = l.s.auditRows(ctx, `WHERE origin = ? AND seq > ? ORDER BY seq LIMIT ?`, origin, int64(after), most)
	}
	if err != nil {
		return b, fmt.Errorf("entries of %.64q since %d: %w", origin, after, err)
	}
	used := 0
	add := func(t auditText) error {
		t.Place, t.Origin = 0, ""
		text, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("entry %d of %s: %w", t.Seq, origin, err)
		}
		used += len(text)
		b.Entries, b.UpTo = append(b.Entries, replica.Entry{Number: t.Seq, Body: text}), t.Seq
		return nil
	}
	// pass goes over what is not kept, up to the highest end below a number.
	pass := func(below uint64) error {
		for i := len(bases) - 1; i >= 0; i-- {
			if base := bases[i]; base.Seq < below && base.Seq > b.UpTo {
				return add(auditText{Base: true, Entry: account.Entry{Seq: base.Seq, Hash: base.Hash}})
			}
		}
		return nil
	}
	for i := range rows {
		if used > 0 && used >= bytes {
			return b, nil
		}
		if rows[i].Seq != b.UpTo+1 {
			if err := pass(rows[i].Seq); err != nil {
				return b, err
			}
		}
		if rows[i].Seq != b.UpTo+1 {
			return b, nil // behind a row that was removed nothing can be taken over
		}
		if err := add(auditText{Entry: rows[i]}); err != nil {
			return b, err
		}
	}
	if len(rows) < most {
		return b, pass(maxNumber)
	}
	return b, nil
}

// Apply takes entries of another node in. Entries that do not follow the hash of
// the last one are not taken; that is logged, and does not hold up other origins.
func (l auditLedger) Apply(ctx context.Context, b replica.Batch) error {
	if b.Origin == "" || len(b.Origin) > 128 || b.UpTo >= maxNumber {
		return fmt.Errorf("take over entries of the audit log: %w: origin %.64q up to %d", ErrChain, b.Origin, b.UpTo)
	}
	renew, err := write(ctx, l.s, func(tx *sql.Tx) (renew bool, err error) {
		own, err := originOf(tx, settingAuditOrigin, l.node)
		if err != nil {
			return false, err
		}
		head, err := auditHead(tx, b.Origin)
		switch {
		case err != nil || head.Seq >= b.UpTo:
			return false, err
		case b.After > head.Seq:
			return false, fmt.Errorf("%w: %d to %d", replica.ErrGap, head.Seq+1, b.After)
		case own == b.Origin:
			return false, fmt.Errorf("%w: they are this node's own, which it does not have", replica.ErrGap)
		}
		for i := range b.Entries {
			if b.Entries[i].Number <= head.Seq {
				continue
			}
			e, err := takeAudit(tx, b.Origin, head, &b.Entries[i])
			if err != nil {
				return false, err
			}
			head = e.Head()
			renew = renew || e.Action == originChange && e.Target == own
		}
		return renew, nil
	})
	if errors.Is(err, ErrChain) {
		l.s.log.Error("entries of another node's audit log do not continue what is kept here; agentnet audit verify tells which side was changed", "origin", b.Origin, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("take over entries of the audit log: %w", err)
	}
	if renew {
		return l.Renew(ctx)
	}
	return nil
}

// takeAudit stores one entry of another origin behind head, if it belongs there.
func takeAudit(tx *sql.Tx, origin string, head chain.Head, raw *replica.Entry) (account.Entry, error) {
	var t auditText
	if err := json.Unmarshal(raw.Body, &t); err != nil {
		return t.Entry, fmt.Errorf("%w: entry %d of %.64q: %w", ErrChain, raw.Number, origin, err)
	}
	if t.Base {
		if t.Seq != raw.Number || len(t.Hash) != 64 {
			return t.Entry, fmt.Errorf("%w: the end %d of what %.64q keeps no more makes no sense", ErrChain, raw.Number, origin)
		}
		t.Entry = account.Entry{Seq: t.Seq, Hash: t.Hash}
		_, err := tx.Exec(`INSERT INTO audit_base (origin, seq, hash) VALUES (?, ?, ?)`, origin, int64(t.Seq), t.Hash)
		return t.Entry, err
	}
	sealed, err := account.Seal(head, t.Entry)
	if err != nil || sealed.Seq != t.Seq || sealed.Seq != raw.Number || sealed.Prev != t.Prev || sealed.Hash != t.Hash {
		return t.Entry, fmt.Errorf("%w: entry %d of %.64q does not follow entry %d", ErrChain, raw.Number, origin, head.Seq)
	}
	sealed.Origin = origin
	return insertAudit(tx, sealed)
}

// Renew makes this data directory write a chain of its own from now on.
func (l auditLedger) Renew(ctx context.Context) error {
	_, err := write(ctx, l.s, func(tx *sql.Tx) (account.Entry, error) {
		old, err := originOf(tx, settingAuditOrigin, l.node)
		if err != nil {
			return account.Entry{}, err
		}
		origin, err := newOrigin(tx, settingAuditOrigin, old)
		if err != nil {
			return account.Entry{}, err
		}
		return appendAudit(tx, origin, account.Entry{At: time.Now(), Node: l.node, Actor: "server", Via: account.ViaServer, Action: originChange, Target: old,
			Outcome: account.Done, Detail: fmt.Sprintf("%s goes on as %s: its data directory was put back or copied", old, origin)})
	})
	if err != nil {
		return fmt.Errorf("take a new origin: %w", err)
	}
	return nil
}

// Prune drops nothing: the audit log is shortened by age and number, on each node.
func (l auditLedger) Prune(context.Context) error { return nil }
