package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// askKeysEvery is the least time between two fetches that tokens with an
	// unknown key name cause.
	askKeysEvery = time.Minute
	// keepAbsent is how long a key counts that the issuer publishes no more. It
	// covers issuers whose machines do not change their keys at one moment.
	keepAbsent = 10 * time.Minute
	// keepStale is how long keys count while the issuer does not answer.
	keepStale = 24 * time.Hour
	// Bounds of the pause after a fetch that failed.
	minRetry, maxRetry = 5 * time.Second, 5 * time.Minute
)

// Reasons why keys are not found.
var (
	errNoKey      = errors.New("the issuer has no such key")
	errCannotTell = errors.New("the issuer's keys cannot be asked for now")
)

// remoteKeys are the keys that an issuer publishes.
type remoteKeys struct {
	// Fixed at construction.
	name   string // of the issuer, for logs
	issuer string // asks its OpenID configuration when url is ""
	url    string
	client *http.Client
	now    func() time.Time
	log    *slog.Logger
	count  *counters

	mu       sync.RWMutex
	keys     []*key
	found    string        // where the OpenID configuration says that the keys are
	fetched  time.Time     // last success
	asked    time.Time     // last fetch that a token caused
	due      time.Time     // next fetch in the background
	failures int           // in a row
	lastErr  error         // of the last fetch
	flight   *flight       // the fetch that runs now; nil: none
	changed  chan struct{} // tells run that due has changed; buffered, 1
}

func (r *remoteKeys) lookup(kid, alg string) (found []*key, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.fetched.IsZero() || r.now().Sub(r.fetched) > keepStale {
		return nil, false
	}
	return pick(r.keys, kid, alg), true
}

// named reports whether the issuer has a key of that name.
func (r *remoteKeys) named(kid string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return kid != "" && slices.ContainsFunc(r.keys, func(k *key) bool { return k.kid == kid && !k.gone.Load() })
}

// pick returns the keys that a token naming kid and alg may be signed with. A
// name is compared and nothing else: it is no path and no address.
func pick(keys []*key, kid, alg string) (found []*key) {
	for _, k := range keys {
		if k.alg == alg && (k.kid == kid || k.kid == "" || kid == "") && !k.gone.Load() && len(found) < 8 {
			found = append(found, k)
		}
	}
	return found
}

// find returns the keys for a token. Unknown names make it ask the issuer, at
// most once a minute however many come; errNoKey is said only after the issuer
// was asked, errCannotTell when it could not be asked.
func (r *remoteKeys) find(ctx context.Context, kid, alg string) ([]*key, error) {
	if alg != RS256 && alg != ES256 && alg != EdDSA {
		return nil, errNoKey // none, and HS256 with a public key as its secret
	}
	found, usable := r.lookup(kid, alg)
	if len(found) > 0 {
		return found, nil
	}
	if usable && r.named(kid) {
		return nil, errNoKey // a known key, but not of that algorithm
	}
	f := r.join(false)
	if f == nil {
		return nil, errCannotTell
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, errCannotTell
	}
	found, usable = r.lookup(kid, alg)
	switch {
	case len(found) > 0:
		return found, nil
	case f.err != nil || !usable:
		return nil, errCannotTell
	default:
		return nil, errNoKey
	}
}

// join returns the fetch that runs, or begins one. Unless it is due, one that a
// token causes must be a minute after the one before; else join returns nil.
func (r *remoteKeys) join(due bool) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flight != nil {
		return r.flight
	}
	now := r.now()
	if !due {
		if !r.asked.IsZero() && now.Sub(r.asked) < askKeysEvery {
			return nil
		}
		r.asked = now
	}
	f := &flight{done: make(chan struct{})}
	r.flight = f
	go func() {
		f.err = r.fetchOnce()
		r.mu.Lock()
		r.flight = nil
		r.mu.Unlock()
		close(f.done)
	}()
	return f
}

// fetchOnce ends within fetchTimeout. It always sets when to fetch again.
func (r *remoteKeys) fetchOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	r.count.fetches.Add(1)
	keys, keep, err := r.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = err
	now := r.now()
	if err != nil {
		r.count.fetchFailures.Add(1)
		retry := min(minRetry<<min(r.failures, 10), maxRetry)
		r.failures++
		r.due = now.Add(retry/2 + rand.N(retry/2))
		r.log.Warn("keys of a token issuer cannot be fetched", "issuer", r.name, "error", err, "last_success", r.fetched, "retry_at", r.due)
	} else {
		if r.failures > 0 || r.fetched.IsZero() {
			r.log.Info("keys of a token issuer were fetched", "issuer", r.name, "keys", len(keys))
		}
		r.failures, r.fetched = 0, now
		r.due = now.Add(keep)
		r.merge(keys, now)
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return err
}

func (r *remoteKeys) fetch(ctx context.Context) (keys []*key, keep time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	from := r.url
	if from == "" {
		found, err := discover(ctx, r.client, r.issuer)
		r.mu.Lock()
		if err == nil {
			r.found = found
		}
		from = r.found // what it said before still counts while it does not answer
		r.mu.Unlock()
		if from == "" {
			return nil, 0, err
		}
	}
	body, keep, err := fetch(ctx, r.client, from)
	if err != nil {
		return nil, 0, err
	}
	if keys, err = jwks(body); err != nil {
		return nil, 0, fmt.Errorf("GET %s: %w", from, err)
	}
	return keys, keep, nil
}

// merge takes a fetched set over; r.mu is held. A key that stays keeps its
// identity, so that tokens verified with it stay known; one that another key took
// the name of ends at once; one that is absent ends keepAbsent later.
func (r *remoteKeys) merge(fresh []*key, now time.Time) {
	for _, old := range r.keys {
		stays, replaced := false, false
		for i, k := range fresh {
			if old.same(k) {
				fresh[i], stays = old, true
			} else if old.kid != "" && old.kid == k.kid {
				replaced = true
			}
		}
		switch {
		case stays:
			old.absent = time.Time{}
		case replaced || len(fresh) >= 2*maxKeys:
			old.gone.Store(true)
		default:
			if old.absent.IsZero() {
				old.absent = now
			}
			if now.Sub(old.absent) >= keepAbsent {
				old.gone.Store(true)
			} else {
				fresh = append(fresh, old)
			}
		}
	}
	r.keys = fresh
}

// sweep ends keys whose time without being published is over, and all keys when
// the issuer was silent for too long. It returns when to look again.
func (r *remoteKeys) sweep() (next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	next = r.due
	kept := r.keys[:0:0]
	for _, k := range r.keys {
		end := r.fetched.Add(keepStale)
		if !k.absent.IsZero() {
			end = k.absent.Add(keepAbsent)
		}
		if !now.Before(end) {
			k.gone.Store(true)
			continue
		}
		kept = append(kept, k)
		if end.Before(next) {
			next = end
		}
	}
	r.keys = kept
	return next
}

// run fetches the keys now and whenever they are due, until ctx ends.
func (r *remoteKeys) run(ctx context.Context) {
	for {
		next := r.sweep()
		if wait := next.Sub(r.now()); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-r.changed:
			case <-ctx.Done():
			}
			timer.Stop()
			if ctx.Err() != nil {
				r.await()
				return
			}
			continue
		}
		select {
		case <-r.join(true).done:
		case <-ctx.Done():
			r.await()
			return
		}
	}
}

// await returns when no fetch runs, which takes fetchTimeout at most.
func (r *remoteKeys) await() {
	r.mu.RLock()
	f := r.flight
	r.mu.RUnlock()
	if f != nil {
		<-f.done
	}
}

// IssuerStatus says how a JWT issuer is doing.
type IssuerStatus struct {
	Issuer  string
	Keys    int
	Fetched time.Time // last success; zero: never, or its keys are configured
	Err     error     // of the last fetch, nil when it succeeded
}

func (r *remoteKeys) status() IssuerStatus {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return IssuerStatus{Issuer: r.name, Keys: len(r.keys), Fetched: r.fetched, Err: r.lastErr}
}
