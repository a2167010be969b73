package dash

import (
	"strconv"
	"time"

	"agentnet/app/account"
	"agentnet/app/chain"
	"agentnet/web/ui"
)

// auditView is the page of the audit log.
type auditView struct {
	r             *request
	lead          string
	rows          []account.Entry
	filter        account.AuditFilter
	from, to      string // as they stood in the form
	newest, older string
	checked       bool
	faults        []chain.Fault
	checkedRows   uint64
	chains        []account.AuditReport
	check         string // address that checks the chain
}

const auditOnPage = 100

func (b *Board) audit(r *request) (*view, error) {
	if ending := wants(r.c); ending != "" {
		t, err := b.auditTable(r)
		if err != nil {
			return nil, err
		}
		return nil, t.send(&b.pack, r.c, "audit", ending)
	}
	v := &auditView{r: r, check: r.with("check", "1")}
	v.filter, v.from, v.to = r.auditFilter(auditOnPage)
	ctx, cancel := r.bounded()
	defer cancel()
	var err error
	if v.rows, err = b.cfg.Sources.Access.Audit(ctx, v.filter); err != nil {
		return nil, err
	}
	if v.filter.Before > 0 {
		v.newest = r.with("before", "", "check", "")
	}
	if len(v.rows) == auditOnPage {
		v.older = r.with("before", strconv.FormatUint(v.rows[auditOnPage-1].Place, 10), "check", "")
	}
	refused := 0
	for i := range v.rows {
		if v.rows[i].Outcome != account.Done {
			refused++
		}
	}
	v.lead = "Who did what, when, from where. " + ui.Plural(len(v.rows), "entry", "entries") + " here"
	if refused > 0 {
		v.lead += ", " + ui.Count(refused) + " of them refused or failed"
	}
	v.lead += "."
	if r.query.Get("check") != "" {
		if v.chains, err = b.cfg.Sources.Access.VerifyAudit(ctx, account.KnownEnd{}); err != nil {
			return nil, err
		}
		v.faults, v.checkedRows = account.AuditFaults(v.chains)
		v.checked = true
	}
	return &view{title: "Audit", body: auditPage(v), plain: true}, nil
}

// auditFilter reads the form of the page.
func (r *request) auditFilter(limit int) (f account.AuditFilter, from, to string) {
	q := r.query
	f = account.AuditFilter{Actor: q.Get("actor"), Action: q.Get("action"), Match: q.Get("q"), Origin: q.Get("origin"), Limit: limit}
	if o := q.Get("outcome"); o == account.Done || o == account.Refused || o == account.Failed {
		f.Outcome = o
	}
	f.Before, _ = strconv.ParseUint(q.Get("before"), 10, 63) // 0 for what is no number: the newest
	for _, d := range []struct {
		name string
		into *time.Time
		text *string
		days int
	}{{"from", &f.From, &from, 0}, {"to", &f.To, &to, 1}} {
		if at, err := time.ParseInLocation("2006-01-02", q.Get(d.name), r.zone); err == nil {
			*d.into, *d.text = at.AddDate(0, 0, d.days), q.Get(d.name)
		}
	}
	return f, from, to
}

func (b *Board) auditTable(r *request) (*table, error) {
	f, _, _ := r.auditFilter(1000)
	ctx, cancel := r.bounded()
	defer cancel()
	found, err := b.cfg.Sources.Access.Audit(ctx, f)
	if err != nil {
		return nil, err
	}
	t := &table{columns: []string{"seq", "at", "node", "actor", "role", "via", "address", "action", "target", "outcome", "detail", "prev", "hash", "origin"}}
	for i := range found {
		e := &found[i]
		t.add(e.Seq, e.At, e.Node, e.Actor, string(e.Role), e.Via, e.Address, e.Action, e.Target, e.Outcome, e.Detail, e.Prev, e.Hash, e.Origin)
	}
	return t, nil
}

// auditState is an outcome as a kind and a word.
func auditState(outcome string) (kind, word string) {
	switch outcome {
	case account.Done:
		return "ok", "Done"
	case account.Refused:
		return "warn", "Refused"
	}
	return "crit", "Failed"
}

// auditEnd is the end of a chain as a verification takes it again.
func auditEnd(r *account.AuditReport) string {
	return account.KnownEnd{Origin: r.Origin, Head: r.End}.String()
}
