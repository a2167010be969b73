package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"
)

const (
	recordTime = 5 * time.Second
	// touchEvery is how coarse the last use of a session is.
	touchEvery = time.Minute
	sweepEvery = 10 * time.Minute
	codeTime   = 5 * time.Minute // between password and code
	linkTime   = 24 * time.Hour
	// deviceTime is how long a browser that was in is known.
	deviceTime = 400 * 24 * time.Hour
	// tableSize bounds each table of attempts: about 2 MB.
	tableSize = 10_000
)

// Limits of attempts. A browser that was in has a bucket of its own, which nobody
// else can empty; all others share one for an account and one for an address.
var (
	addressRate = rate{burst: 10, every: 30 * time.Second}
	accountRate = rate{burst: 10, every: time.Minute}
	deviceRate  = rate{burst: 10, every: 30 * time.Second}
	codeRate    = rate{burst: 10, every: 3 * time.Minute}
	triesRate   = rate{burst: 5, every: codeTime} // codes of one sign-in
	linkRate    = rate{burst: 20, every: 10 * time.Second}
	// hashRate holds all password checks together below half of one processor.
	hashRate    = rate{burst: 40, every: 50 * time.Millisecond}
	failureRate = rate{burst: 30, every: 2 * time.Second}
)

// Config says how people sign in.
type Config struct {
	Rows Rows
	Node string // written into the audit log
	// Idle ends a session that was not used for so long; 0 is 12 h.
	Idle time.Duration
	// Lifetime ends a session however much it is used; 0 is 30 days.
	Lifetime time.Duration
	// Cost of a password hash; the zero value is the usual one.
	Cost   Cost
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// A Service knows who is who. Its methods may be called concurrently.
type Service struct {
	cfg    Config
	rows   Rows
	log    *slog.Logger
	now    func() time.Time
	hasher *hasher

	addresses, accounts, devices, codes, tries, links, hashes, failures *throttle

	device atomic.Pointer[[]byte] // key of the marks of browsers

	auditLost, failuresLeftOut, signIns, signInFailures, throttled atomic.Uint64
	// written grows with what is written to the database, by whomever.
	written atomic.Uint64
}

// New checks the configuration and starts nothing.
func New(cfg Config) (*Service, error) {
	if cfg.Rows == nil {
		return nil, errors.New("accounts: Rows must be given")
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 12 * time.Hour
	}
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = 30 * 24 * time.Hour
	}
	if cfg.Cost == (Cost{}) {
		cfg.Cost = defaultCost
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, rows: cfg.Rows, log: cfg.Logger, now: cfg.Now}
	s.hasher = newHasher(cfg.Cost, max(1, min(2, runtime.GOMAXPROCS(0)/2)))
	for _, t := range []struct {
		into **throttle
		rate rate
		size int
	}{
		{&s.addresses, addressRate, tableSize}, {&s.accounts, accountRate, tableSize}, {&s.devices, deviceRate, tableSize},
		{&s.codes, codeRate, tableSize}, {&s.tries, triesRate, tableSize}, {&s.links, linkRate, tableSize}, {&s.hashes, hashRate, 1}, {&s.failures, failureRate, 1},
	} {
		*t.into = newThrottle(t.rate, t.size, s.now)
	}
	return s, nil
}

// Run removes what is over from time to time, until ctx ends. It returns nil.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		now := s.now()
		// Twice the time: another node may know of a later use.
		if err := s.rows.Sweep(ctx, now, now.Add(-2*s.cfg.Idle)); err != nil && ctx.Err() == nil {
			s.log.Warn("ended sessions could not be removed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Stats counts since the start.
type Stats struct {
	SignIns, Failures, Throttled, AuditLost uint64
}

// Stats reads the counters.
func (s *Service) Stats() Stats {
	return Stats{SignIns: s.signIns.Load(), Failures: s.signInFailures.Load(), Throttled: s.throttled.Load(), AuditLost: s.auditLost.Load()}
}

// newSecret makes 256 random bits as text and the hash that is stored of them.
func newSecret() (text string, hash [32]byte) {
	var b [32]byte
	rand.Read(b[:])
	text = base64.RawURLEncoding.EncodeToString(b[:])
	return text, sha256.Sum256([]byte(text))
}

// secretHash is the hash of a secret that came from outside; ok is false when it
// cannot be one.
func secretHash(text string) (hash [32]byte, ok bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(32) {
		return hash, false
	}
	return sha256.Sum256([]byte(text)), true
}

// A Spec describes an account that is to be made.
type Spec struct {
	Name     string
	Password string // "": none yet, a reset link sets it
	Role     Role
	Outside  string // who vouches for the person instead of a password
}

// account checks the spec and hashes the password.
func (s *Service) account(ctx context.Context, spec Spec) (a Account, err error) {
	a = Account{Name: FoldName(spec.Name), Role: spec.Role, Outside: spec.Outside, Created: s.now().UTC().Truncate(time.Millisecond)}
	a.Since = a.Created
	if err := CheckName(a.Name); err != nil {
		return a, err
	}
	if _, err := ParseRole(string(spec.Role)); err != nil {
		return a, &Invalid{"role", err.Error()}
	}
	if spec.Password == "" {
		return a, nil
	}
	if err := CheckPassword(a.Name, spec.Password); err != nil {
		return a, err
	}
	a.Password, err = s.hasher.hash(ctx, spec.Password)
	return a, err
}

// Create makes an account.
func (s *Service) Create(ctx context.Context, spec Spec) (Account, error) {
	a, err := s.account(ctx, spec)
	if err != nil {
		return Account{}, err
	}
	return a, s.rows.CreateAccount(ctx, a, false)
}

// SetRole gives an account another role; its sessions go on with the new role at
// once. ErrLastAdmin: nobody could undo it.
func (s *Service) SetRole(ctx context.Context, name string, role Role) (before Role, err error) {
	if _, err := ParseRole(string(role)); err != nil {
		return "", &Invalid{"role", err.Error()}
	}
	_, err = s.rows.ChangeAccount(ctx, FoldName(name), func(a *Account) error {
		before = a.Role
		a.Role = role
		return nil
	})
	return before, err
}

// SetDisabled keeps an account out, and ends its sessions, or lets it in again.
func (s *Service) SetDisabled(ctx context.Context, name string, disabled bool) error {
	_, err := s.rows.ChangeAccount(ctx, FoldName(name), func(a *Account) error {
		if disabled && !a.Disabled {
			a.Since = s.after(a.Since)
		}
		a.Disabled = disabled
		return nil
	})
	if err != nil || !disabled {
		return err
	}
	_, err = s.rows.EndSessions(ctx, SessionFilter{Account: FoldName(name)})
	return err
}

// Delete removes an account. Its name stays in the audit log.
func (s *Service) Delete(ctx context.Context, name string) error {
	return s.rows.DeleteAccount(ctx, FoldName(name))
}

// after is now, and later than t: sessions are compared with it in milliseconds.
func (s *Service) after(t time.Time) time.Time {
	now := s.now().UTC().Truncate(time.Millisecond)
	if !now.After(t) {
		now = t.Add(time.Millisecond)
	}
	return now
}

// ChangePassword sets a new password for somebody who knows the old one, and ends
// all sessions but the one with the secret given.
func (s *Service) ChangePassword(ctx context.Context, session, old, new string, from Attempt) error {
	visitor, err := s.Visit(ctx, session)
	if err != nil {
		return err
	}
	a, err := s.rows.Account(ctx, visitor.Name)
	if err != nil {
		return err
	}
	if err := CheckPassword(a.Name, new); err != nil {
		return err
	}
	if wait := s.codes.take("password " + a.Name + " " + visitor.Session); wait > 0 {
		return &WaitError{wait}
	}
	ok, _, err := s.hasher.check(ctx, a.Password, old, false)
	if err != nil {
		return err
	}
	if !ok {
		s.recordFailure(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "password.change", Target: a.Name, Outcome: Refused,
			Detail: "the present password was not right"})
		return &Invalid{"old", "that is not your present password"}
	}
	s.codes.giveBack("password " + a.Name + " " + visitor.Session)
	hash, err := s.hasher.hash(ctx, new)
	if err != nil {
		return err
	}
	if _, err := s.rows.ChangeAccount(ctx, a.Name, func(a *Account) error { a.Password = hash; return nil }); err != nil {
		return err
	}
	mine, _ := secretHash(session)
	if _, err := s.rows.EndSessions(ctx, SessionFilter{Account: a.Name, Except: mine}); err != nil {
		return err
	}
	return s.Record(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "password.change", Target: a.Name, Outcome: Done,
		Detail: "all other sessions were ended"})
}

// Account returns one account.
func (s *Service) Account(ctx context.Context, name string) (Account, error) {
	return s.rows.Account(ctx, FoldName(name))
}

// Accounts lists accounts by name.
func (s *Service) Accounts(ctx context.Context, after string, limit int) ([]Account, error) {
	return s.rows.Accounts(ctx, after, limit)
}

// Sessions lists sessions, the one used last first.
func (s *Service) Sessions(ctx context.Context, f SessionFilter) ([]Session, error) {
	return s.rows.Sessions(ctx, f)
}

// EndSessions ends sessions at once and returns how many.
func (s *Service) EndSessions(ctx context.Context, f SessionFilter) (int, error) {
	if f.ID == "" && f.Account == "" {
		return 0, fmt.Errorf("end sessions: say of whom, or which")
	}
	return s.rows.EndSessions(ctx, f)
}
