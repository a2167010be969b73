package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"agentnet/app/relay"
)

const (
	// refreshRows is how many rows are asked for at once.
	refreshRows = 1000
	// refreshTimeout bounds one refresh, a first load of all tokens among them.
	refreshTimeout = 30 * time.Second
	// saveUses is how many uses go to the database in one write.
	saveUses = 1000
)

// opaque answers for tokens that this relay made.
type opaque struct {
	rows     Tokens
	index    *index
	log      *slog.Logger
	now      func() time.Time
	onRevoke func(string)
	count    *counters
	refresh  flights
}

func newOpaque(cfg Config, count *counters) *opaque {
	o := &opaque{rows: cfg.Tokens, index: newIndex(cfg.MaxTokens), log: cfg.Logger, now: cfg.Now, onRevoke: cfg.OnRevoke, count: count}
	o.refresh = flights{do: o.catchUp, every: cfg.AskEvery, timeout: refreshTimeout}
	return o
}

func (o *opaque) cached(token []byte) (*relay.Identity, bool) {
	id, ok := split(token)
	if !ok {
		return nil, false
	}
	identity, v := o.index.look(id, token, o.now())
	return identity, v == valid
}

// authorize knows the token, or asks the database once for what is new. It does
// so for a wrong secret too, so that time does not tell which ids exist. All who
// wait share one question, of which there are a few a second at most.
func (o *opaque) authorize(ctx context.Context, token []byte) (*relay.Identity, error) {
	id, ok := split(token)
	if !ok {
		return nil, o.count.refuse(reasonMalformed)
	}
	identity, v := o.index.look(id, token, o.now())
	if v == unknown {
		if err := o.refresh.wait(ctx); err != nil {
			return nil, o.count.refuse(reasonUnavailable)
		}
		identity, v = o.index.look(id, token, o.now())
	}
	switch {
	case v == valid:
		return identity, nil
	case v == expired:
		return nil, o.count.refuse(reasonExpired)
	case o.full():
		return nil, o.count.refuse(reasonUnavailable)
	default:
		return nil, o.count.refuse(reasonUnknown)
	}
}

// full says that there are tokens that the index has no room for: then one that
// it does not hold may be valid all the same.
func (o *opaque) full() bool {
	_, dropped := o.index.size()
	return dropped > 0
}

// catchUp brings the index to where the database is and tells of what was
// revoked meanwhile.
func (o *opaque) catchUp(ctx context.Context) error {
	o.count.refreshes.Add(1)
	err := o.takeChanges(ctx)
	if err != nil {
		o.count.refreshFailures.Add(1)
		o.log.Warn("tokens cannot be read, those known so far stay valid", "error", err)
	}
	return err
}

func (o *opaque) takeChanges(ctx context.Context) error {
	for {
		rev, loaded := o.index.position()
		rows, err := o.rows.TokensSince(ctx, rev, refreshRows)
		if err != nil {
			return fmt.Errorf("read tokens: %w", err)
		}
		_, before := o.index.size()
		revoked, bad := o.index.apply(rows, o.now())
		for id, err := range bad {
			o.log.Error("a stored token cannot be used", "token", id, "error", err)
		}
		if _, dropped := o.index.size(); dropped > before {
			o.log.Error("there are more tokens than memory is set aside for, some are refused", "most", o.index.max, "refused", dropped)
		}
		if loaded && o.onRevoke != nil { // before the first load is done there are no sessions
			for _, id := range revoked {
				o.onRevoke(id)
			}
		}
		if len(rows) < refreshRows {
			o.index.setLoaded()
			return nil
		}
		if after, _ := o.index.position(); after <= rev {
			return errors.New("read tokens: the store returned rows that are not new")
		}
	}
}

// saveUse writes which tokens were used since the last time.
func (o *opaque) saveUse(ctx context.Context) {
	for {
		used := o.index.takeUsed(saveUses)
		if len(used) == 0 {
			return
		}
		if err := o.rows.TokensUsed(ctx, used); err != nil {
			o.index.giveBack(used)
			o.log.Warn("the last use of tokens cannot be noted now", "tokens", len(used), "error", err)
			return
		}
	}
}
