package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/relay"
)

const (
	// catchUpEvery is how often the database is asked although nothing was said
	// to have changed there.
	catchUpEvery = 10 * time.Second
	// saveEvery is how often uses of tokens are noted and ended ones forgotten.
	saveEvery = 10 * time.Minute
)

// Config says which tokens are taken.
type Config struct {
	Tokens  Tokens   // opaque tokens; nil takes none
	Issuers []Issuer // of JWTs; none takes none

	// OnRevoke is called with the id of each opaque token that is revoked while
	// the service is in use, within half a second of the revocation if Changed is
	// called as it should be. It may be called again for the same id, and must not
	// call the service.
	OnRevoke func(id string)

	MaxTokens int           // opaque tokens in memory; 0 is 200,000 (about 1 KB each)
	MaxJWTs   int           // verified JWTs in memory; 0 is 32,768
	AskEvery  time.Duration // least time between two questions to the database for unknown tokens; 0 is 100 ms

	Logger    *slog.Logger      // nil discards
	Now       func() time.Time  // wall clock; nil is time.Now
	Transport http.RoundTripper // to issuers; nil is a real one with time limits
}

// A Service answers which tokens are valid. Its methods may be called concurrently.
type Service struct {
	rows   Tokens
	log    *slog.Logger
	now    func() time.Time
	opaque *opaque              // nil: no opaque tokens
	jwts   atomic.Pointer[jwts] // nil: no JWTs
	cfg    Config               // for issuers to come
	count  *counters

	exchanged chan struct{} // buffered, 1: other issuers are in force

	changed chan struct{} // buffered, 1
}

var _ relay.Authorizer = (*Service)(nil)

// New checks the configuration. It reads nothing and starts nothing: Load and Run
// do. The error names the issuer that is wrong.
func New(cfg Config) (*Service, error) {
	if cfg.MaxTokens <= 0 {
		cfg.MaxTokens = 200_000
	}
	if cfg.MaxJWTs <= 0 {
		cfg.MaxJWTs = 32_768
	}
	if cfg.AskEvery <= 0 {
		cfg.AskEvery = 100 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, exchanged: make(chan struct{}, 1), rows: cfg.Tokens, log: cfg.Logger, now: cfg.Now, count: &counters{}, changed: make(chan struct{}, 1)}
	if cfg.Tokens != nil {
		s.opaque = newOpaque(cfg, s.count)
	}
	if err := s.SetIssuers(cfg.Issuers); err != nil {
		return nil, err
	}
	return s, nil
}

// SetIssuers puts other issuers of JWTs in force, or on an error none of them. What
// was verified with the old ones is forgotten; sessions that are open stay until
// their token expires.
func (s *Service) SetIssuers(issuers []Issuer) error {
	if len(issuers) == 0 {
		s.jwts.Store(nil)
	} else {
		cfg := s.cfg
		cfg.Issuers = issuers
		j, err := newJWTs(cfg, s.count)
		if err != nil {
			return fmt.Errorf("token issuers: %w", err)
		}
		s.jwts.Store(j)
	}
	select {
	case s.exchanged <- struct{}{}:
	default:
	}
	return nil
}

// refreshKeys keeps the keys of the issuers in force fresh until ctx ends.
func (s *Service) refreshKeys(ctx context.Context) {
	for ctx.Err() == nil {
		work, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		if j := s.jwts.Load(); j != nil {
			for _, r := range j.remotes() {
				running.Go(func() {
					defer r.client.CloseIdleConnections()
					r.run(work)
				})
			}
		}
		select {
		case <-ctx.Done():
		case <-s.exchanged:
		}
		stop()
		running.Wait()
	}
}

// Load reads all opaque tokens. Run does it too; a server calls Load first to
// learn of a database that cannot be read before it listens.
func (s *Service) Load(ctx context.Context) error {
	if s.opaque == nil {
		return nil
	}
	return s.opaque.refresh.wait(ctx)
}

// Changed tells that tokens may have changed in the database. It never waits.
func (s *Service) Changed() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run keeps tokens and keys fresh until ctx ends, then notes the last uses and
// returns nil.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.refreshKeys(ctx) })
	if s.opaque != nil {
		defer s.opaque.refresh.await()
		_ = s.Load(ctx) // logged, and tried again below
	}
	catchUp, save := time.NewTicker(catchUpEvery), time.NewTicker(saveEvery)
	defer catchUp.Stop()
	defer save.Stop()
	for {
		select {
		case <-s.changed:
			_ = s.Load(ctx)
		case <-catchUp.C:
			_ = s.Load(ctx)
		case <-save.C:
			s.tidy(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.tidy(last)
			return nil
		}
	}
}

func (s *Service) tidy(ctx context.Context) {
	now := s.now()
	if j := s.jwts.Load(); j != nil {
		j.cache.forget(now)
	}
	if s.opaque != nil {
		s.opaque.saveUse(ctx)
		s.opaque.index.forget(now)
	}
}

// Cached answers from memory. A token that it does not find valid is not found:
// only Authorize says why, and nearly always at once.
func (s *Service) Cached(token []byte) (id *relay.Identity, found bool) {
	if len(token) >= len(tokenPrefix) && string(token[:len(tokenPrefix)]) == tokenPrefix {
		if s.opaque != nil {
			id, found = s.opaque.cached(token)
		}
	} else if j := s.jwts.Load(); j != nil {
		id, found = j.cached(token)
	}
	if found {
		s.count.hits.Add(1)
	} else {
		s.count.misses.Add(1)
	}
	return id, found
}

// Authorize checks a token, asking the database or an issuer when memory does
// not know it. Its error is one of the three of package relay.
func (s *Service) Authorize(ctx context.Context, token string) (id *relay.Identity, err error) {
	j := s.jwts.Load()
	switch {
	case strings.HasPrefix(token, tokenPrefix) && s.opaque != nil:
		id, err = s.opaque.authorize(ctx, []byte(token))
	case !strings.HasPrefix(token, tokenPrefix) && j != nil:
		id, err = j.authorize(ctx, token)
	default:
		err = s.count.refuse(reasonMalformed)
	}
	if err == nil {
		s.count.authorized.Add(1)
	}
	return id, err
}

// CreateToken makes a token, stores its hash and returns the token, which is to be
// shown once, and its public id.
func (s *Service) CreateToken(ctx context.Context, spec TokenSpec) (token, id string, err error) {
	if s.rows == nil {
		return "", "", errors.New("create token: there is no database for tokens")
	}
	row, err := spec.row(s.now())
	if err != nil {
		return "", "", fmt.Errorf("create token: %w", err)
	}
	if n, _ := s.opaque.index.size(); n >= s.opaque.index.max {
		return "", "", fmt.Errorf("create token: there are %d tokens already: revoke some", n)
	}
	token, row.ID, row.Hash = mint()
	if err := s.rows.CreateToken(ctx, row); err != nil {
		return "", "", err // the store says what it was doing
	}
	s.Changed()
	return token, row.ID, nil
}

// Revoke ends an opaque token for good, given its id (with or without "agn_") or
// the token itself. When the service is in use, OnRevoke was called when Revoke
// returns without an error.
func (s *Service) Revoke(ctx context.Context, token string) error {
	if s.rows == nil {
		return errors.New("revoke token: there is no database for tokens")
	}
	id, err := publicID(token)
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	if err := s.rows.RevokeToken(ctx, id, s.now()); err != nil {
		return err // the store says what it was doing
	}
	if _, loaded := s.opaque.index.position(); !loaded {
		return nil
	}
	if err := s.Load(ctx); err != nil {
		return fmt.Errorf("revoke token %s: it is revoked, but its live sessions may last until the database can be read: %w", id, err)
	}
	return nil
}

// Stats reads all counters.
func (s *Service) Stats() Stats {
	st := s.count.read()
	if s.opaque != nil {
		n, dropped := s.opaque.index.size()
		st.Tokens, st.Full = n, dropped > 0
	}
	if j := s.jwts.Load(); j != nil {
		st.JWTs = j.cache.size()
		for _, is := range j.issuers {
			if is.remote != nil {
				st.Issuers = append(st.Issuers, is.remote.status())
			}
		}
	}
	return st
}
