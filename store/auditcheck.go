package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"agentnet/app/account"
	"agentnet/app/chain"
)

// VerifyAudit implements account.AuditLog.
func (s *Store) VerifyAudit(ctx context.Context, known account.KnownEnd) ([]account.AuditReport, error) {
	reports, err := s.verifyAudit(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("verify the audit log: %w", err)
	}
	return reports, nil
}

func (s *Store) verifyAudit(ctx context.Context, known account.KnownEnd) ([]account.AuditReport, error) {
	own, _, err := s.Setting(ctx, settingAuditOrigin)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	origins, err := s.auditOrigins(ctx)
	if err != nil {
		return nil, err
	}
	if known.Origin == "" {
		known.Origin = own
	}
	for _, origin := range []string{known.Origin, own} { // also one of which nothing is left
		origins = slices.DeleteFunc(origins, func(o string) bool { return o == origin })
		if origin != "" && (origin == own || known.Seq > 0) {
			origins = append([]string{origin}, origins...)
		}
	}
	if len(origins) == 0 && known.Seq > 0 {
		origins = []string{""} // an empty log whose end was once noted
	}
	reports := make([]account.AuditReport, 0, len(origins))
	for _, origin := range origins {
		var end chain.Head
		if origin == known.Origin {
			end = known.Head
		}
		r, err := s.verifyAuditOf(ctx, origin, origin == own, end)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// verifyAuditOf checks the chain of one origin.
func (s *Store) verifyAuditOf(ctx context.Context, origin string, own bool, known chain.Head) (account.AuditReport, error) {
	r := account.AuditReport{Origin: origin, Own: own}
	bases, err := s.auditBases(ctx, origin)
	if err != nil {
		return r, err
	}
	v, last := chain.NewVerifier(chain.Head{}), uint64(0)
	// begin goes on behind the end of what is not kept, unless the rows up to there
	// are. Only other origins have such an end in the middle: what this data directory
	// wrote is removed from the beginning alone.
	begin := func(base chain.Head) {
		if base.Seq <= last || own && last > 0 {
			return
		}
		if last > 0 {
			r.Away += base.Seq - last
		}
		faults, rows, _ := v.Finish(chain.Head{})
		r.Faults, r.Rows = append(r.Faults, faults...), r.Rows+rows
		v, last = chain.NewVerifier(base), base.Seq
	}
	err = s.eachAuditOf(ctx, origin, func(e account.Entry) {
		for len(bases) > 0 && bases[0].Seq < e.Seq {
			begin(bases[0])
			bases = bases[1:]
		}
		v.Add(e.Row())
		last = max(last, e.Seq)
		if e.Seq == known.Seq && e.Hash != known.Hash {
			r.Faults = append(r.Faults, chain.Fault{Seq: e.Seq, Kind: chain.FaultReplaced, Text: fmt.Sprintf("entry %d is not the one that stood there before", e.Seq)})
			known = chain.Head{}
		}
	})
	if err != nil {
		return r, err
	}
	for _, base := range bases {
		begin(base)
	}
	faults, rows, end := v.Finish(known)
	r.Faults, r.Rows, r.End = append(r.Faults, faults...), r.Rows+rows, end
	for i := range r.Faults {
		f := &r.Faults[i]
		f.Origin = origin
		if origin != "" {
			f.Text = origin + ": " + f.Text
		}
	}
	return r, nil
}

// eachAuditOf calls do for every entry of one origin, by number.
func (s *Store) eachAuditOf(ctx context.Context, origin string, do func(account.Entry)) error {
	for after := int64(-1); ; {
		page, err := s.auditRows(ctx, `WHERE origin = ? AND seq > ? ORDER BY seq LIMIT 500`, origin, after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, e := range page {
			do(e)
		}
		after = int64(page[len(page)-1].Seq)
	}
}

// auditOrigins lists whose audit logs are kept here, also those of which only the
// end is left.
func (s *Store) auditOrigins(ctx context.Context) ([]string, error) {
	heads, err := s.auditHeads(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(heads))
	for i := range heads {
		out[i] = heads[i].Origin
	}
	return out, nil
}

// auditHeads are the origins by name, with the number of the last entry of each.
// They are found by steps through the index and not through all rows.
func (s *Store) auditHeads(ctx context.Context) ([]account.KnownEnd, error) {
	const query = `WITH RECURSIVE o(origin) AS (SELECT min(origin) FROM audit
		UNION ALL SELECT (SELECT min(origin) FROM audit e WHERE e.origin > o.origin) FROM o WHERE o.origin IS NOT NULL)
		SELECT origin, max(seq) FROM (
			SELECT origin, (SELECT max(seq) FROM audit e WHERE e.origin = o.origin) AS seq FROM o WHERE origin IS NOT NULL
			UNION ALL SELECT origin, seq FROM audit_base) GROUP BY origin ORDER BY origin`
	return many(ctx, s, func(row scanner) (k account.KnownEnd, err error) { err = row.Scan(&k.Origin, &k.Seq); return k, err }, query)
}

// auditBases are the ends of what is not kept of an origin, by number.
func (s *Store) auditBases(ctx context.Context, origin string) ([]chain.Head, error) {
	return many(ctx, s, func(row scanner) (h chain.Head, err error) { err = row.Scan(&h.Seq, &h.Hash); return h, err },
		`SELECT seq, hash FROM audit_base WHERE origin = ? ORDER BY seq`, origin)
}
