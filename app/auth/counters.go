package auth

import (
	"sync/atomic"

	"agentnet/app/relay"
)

// reason says why a token was refused, for counters. Clients get less.
type reason int

const (
	reasonMalformed   reason = iota // no token of a known kind, or mistyped
	reasonTooLarge                  // a JWT of more than 8 KiB
	reasonUnknown                   // no such token, or a wrong secret
	reasonExpired                   // it was valid once
	reasonIssuer                    // an issuer that is not configured
	reasonKey                       // no key of that name and algorithm
	reasonSignature                 // signed by somebody else
	reasonClaims                    // audience, not-before, subject or grants
	reasonUnavailable               // database or issuer do not answer
	reasons
)

var reasonWords = [reasons]string{"malformed", "too_large", "unknown", "expired", "issuer", "key", "signature", "claims", "unavailable"}

// counters only grow.
type counters struct {
	hits, misses               atomic.Uint64
	authorized                 atomic.Uint64
	refused                    [reasons]atomic.Uint64
	refreshes, refreshFailures atomic.Uint64
	fetches, fetchFailures     atomic.Uint64
}

// refuse counts and returns the bare error that the relay may show.
func (c *counters) refuse(r reason) error {
	c.refused[r].Add(1)
	switch r {
	case reasonExpired:
		return relay.ErrTokenExpired
	case reasonUnavailable:
		return relay.ErrAuthUnavailable
	default:
		return relay.ErrUnauthorized
	}
}

// Stats is one reading of the counters. They only grow; Tokens, Full and JWTs are
// what is held now.
type Stats struct {
	Hits, Misses               uint64            // answers of Cached
	Authorized                 uint64            // tokens that Authorize took
	Refused                    map[string]uint64 // tokens that Authorize refused, by reason
	Refreshes, RefreshFailures uint64            // questions to the database
	Fetches, FetchFailures     uint64            // of keys, from issuers

	Tokens  int  // opaque tokens in memory
	Full    bool // there are more than memory is set aside for
	JWTs    int  // verified JWTs in memory
	Issuers []IssuerStatus
}

func (c *counters) read() Stats {
	s := Stats{
		Hits: c.hits.Load(), Misses: c.misses.Load(), Authorized: c.authorized.Load(), Refused: make(map[string]uint64, reasons),
		Refreshes: c.refreshes.Load(), RefreshFailures: c.refreshFailures.Load(),
		Fetches: c.fetches.Load(), FetchFailures: c.fetchFailures.Load(),
	}
	for r, word := range reasonWords {
		s.Refused[word] = c.refused[r].Load()
	}
	return s
}
