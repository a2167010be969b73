package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// A Visitor is somebody who is signed in.
type Visitor struct {
	Name    string
	Role    Role
	Session string // public id
	How     string
	Begun   time.Time
	Second  bool // has a second factor
}

// Visit answers who holds the secret of a session. ErrSignedOut: nobody, any more
// or yet. Each call looks at the database, so that what is revoked is gone at once.
func (s *Service) Visit(ctx context.Context, secret string) (Visitor, error) {
	session, a, err := s.session(ctx, secret)
	if err != nil {
		return Visitor{}, err
	}
	if session.Stage != "" {
		return Visitor{}, ErrSignedOut
	}
	if now := s.now(); now.Sub(session.Seen) >= touchEvery {
		share := max(s.cfg.Idle/8, touchEvery) // other nodes need not know each minute
		if err := s.rows.TouchSession(ctx, session.Hash, now, !now.Truncate(share).Equal(session.Seen.Truncate(share))); err != nil {
			s.log.Warn("the use of a session could not be noted", "error", err) // it may end early, which is safe
		}
	}
	return Visitor{Name: a.Name, Role: a.Role, Session: session.ID, How: session.How, Begun: session.Created, Second: a.Second != ""}, nil
}

// stillEvery is how often a stream's session is looked up although nothing was
// written: it may have come to its end by itself.
const stillEvery = 15 * time.Second

// Changed says that this process, another one or another node has written to the
// database: streams look their sessions up again.
func (s *Service) Changed() { s.written.Add(1) }

// Still returns a question for a stream that goes on by itself: does the session
// count, and with the role that it had? That somebody has a page open is no use of
// the session. It may be asked each second: the rows are read only after something
// was written. A database that cannot be read ends nothing. The question is for one
// goroutine.
func (s *Service) Still(secret string, role Role) func(ctx context.Context) bool {
	var seen uint64
	var looked time.Time // the first question is asked of the rows
	return func(ctx context.Context) bool {
		written, now := s.written.Load(), s.now()
		if written == seen && now.Sub(looked) < stillEvery {
			return true
		}
		seen, looked = written, now
		session, a, err := s.session(ctx, secret)
		if err != nil {
			return !errors.Is(err, ErrSignedOut)
		}
		return session.Stage == "" && a.Role == role
	}
}

// session looks a session up in any stage.
func (s *Service) session(ctx context.Context, secret string) (Session, Account, error) {
	hash, ok := secretHash(secret)
	if !ok {
		return Session{}, Account{}, ErrSignedOut
	}
	session, a, err := s.rows.Session(ctx, hash)
	switch {
	case errors.Is(err, ErrNotFound):
		return Session{}, Account{}, ErrSignedOut
	case err != nil:
		return Session{}, Account{}, fmt.Errorf("session: %w", err)
	}
	now := s.now()
	if !now.Before(session.Expires) || now.Sub(session.Seen) >= s.cfg.Idle || a.Disabled || session.Created.Before(a.Since) {
		return Session{}, Account{}, ErrSignedOut
	}
	return session, a, nil
}

// open makes a session and returns its secret.
func (s *Service) open(ctx context.Context, a *Account, stage, how string, from Attempt) (secret string, err error) {
	secret, hash := newSecret()
	now := s.now().UTC().Truncate(time.Millisecond)
	if now.Before(a.Since) { // made by a node whose clock is ahead
		now = a.Since
	}
	session := Session{Hash: hash, ID: publicID(hash), Account: a.Name, Stage: stage, How: how, Address: clean(from.Address, 64), Browser: clean(from.Browser, 80),
		Created: now, Seen: now, Expires: now.Add(s.cfg.Lifetime)}
	if stage == StageCode {
		session.Expires = now.Add(codeTime)
	}
	if err := s.rows.CreateSession(ctx, session); err != nil {
		return "", err
	}
	return secret, nil
}

// publicID names a session without telling its secret.
func publicID(hash [32]byte) string {
	again := sha256.Sum256(hash[:])
	return hex.EncodeToString(again[:6])
}

// SignOut ends the session with the secret.
func (s *Service) SignOut(ctx context.Context, secret string, from Attempt) error {
	session, a, err := s.session(ctx, secret)
	if errors.Is(err, ErrSignedOut) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.rows.EndSession(ctx, session.Hash); err != nil {
		return err
	}
	if session.Stage != "" {
		return nil
	}
	return s.Record(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "sign_out", Target: a.Name, Outcome: Done})
}

// FormToken is what the forms of a session carry to prove that they are ours. It
// is derived from the session's secret and tells nothing of it.
func FormToken(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}

// SameToken compares two form tokens; an empty one is never right.
func SameToken(got, want string) bool {
	return got != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}
