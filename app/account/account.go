package account

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Errors that doors tell apart with errors.Is. None says more than a stranger may
// know.
var (
	ErrRefused   = errors.New("the name or the password is not right")
	ErrCode      = errors.New("the code is not right")
	ErrSignedOut = errors.New("not signed in")
	ErrLink      = errors.New("this link is used, too old, or was never given out")
	ErrNotFound  = errors.New("there is no such account")
	ErrExists    = errors.New("the name is taken")
	ErrLastAdmin = errors.New("this is the last admin who can sign in: make another one first")
	ErrNotFirst  = errors.New("there is an admin already")
	ErrBusy      = errors.New("too many people sign in at this moment: try again in a few seconds")
)

// An Invalid error says what is wrong with something that a person typed; its text
// is for that person.
type Invalid struct{ Field, Text string }

func (e *Invalid) Error() string { return e.Field + ": " + e.Text }

// A WaitError says that there were too many failures and when to try again.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("too many attempts: try again in %s", e.For.Round(time.Second))
}

// An Account is a person who may sign in. Its name is its key and never changes.
type Account struct {
	Name     string
	Role     Role
	Disabled bool
	Password string    // as hash; "": no password, see Outside
	Second   string    // secret of the second factor in base32; "": none
	Outside  string    // who vouches for the person: issuer and subject; "": the password
	Since    time.Time // sessions that began before it are over
	Created  time.Time
	LastSeen time.Time // the last sign-in on this node; kept by the store beside the account
}

// active says that the account can be signed in to.
func (a *Account) active() bool { return !a.Disabled }

// A Session is one browser that is signed in. Hash is of the secret in its cookie.
type Session struct {
	Hash    [32]byte
	ID      string // public, for lists and revocation
	Account string
	Stage   string // "" signed in, or StageCode
	How     string // password, oidc, proxy, link
	Address string
	Browser string // what the browser calls itself, shortened
	Created time.Time
	Seen    time.Time // to the minute
	Expires time.Time // when it ends however much it is used
}

// StageCode is a session whose password was right and whose code is missing. It
// opens nothing but the page that asks for the code.
const StageCode = "code"

// Kinds of links.
const (
	LinkSetup = "setup" // makes the first admin
	LinkReset = "reset" // sets the password of one account
)

// A Link lets whoever has it do one thing, once.
type Link struct {
	Hash    [32]byte
	Kind    string
	Account string // of LinkReset
	Created time.Time
	Expires time.Time
}

// Rows is where accounts, sessions, links and the audit log are kept. All methods
// may be called concurrently and return within ctx. What is not there is
// ErrNotFound.
type Rows interface {
	// CreateAccount stores a new account; ErrExists when the name is taken. With
	// first it does so only while there is no admin, else ErrNotFirst.
	CreateAccount(ctx context.Context, a Account, first bool) error
	// ChangeAccount reads, changes and stores an account in one transaction; an
	// error of change stops it. ErrLastAdmin when no enabled admin would be left.
	// change may be called more than once.
	ChangeAccount(ctx context.Context, name string, change func(*Account) error) (Account, error)
	// DeleteAccount removes an account with its sessions and links.
	DeleteAccount(ctx context.Context, name string) error
	Account(ctx context.Context, name string) (Account, error)
	AccountOutside(ctx context.Context, outside string) (Account, error)
	// Accounts lists all, by name, with name after the given one.
	Accounts(ctx context.Context, after string, limit int) ([]Account, error)
	// Admins counts the admins that can sign in.
	Admins(ctx context.Context) (int, error)

	// SignedIn notes the last sign-in.
	SignedIn(ctx context.Context, name string, at time.Time) error
	// UseStep notes the step of a code and answers false when it, or a later one,
	// was used before.
	UseStep(ctx context.Context, name string, step int64) (fresh bool, err error)
	// PutRecovery replaces the hashes of an account's recovery codes.
	PutRecovery(ctx context.Context, name string, hashes [][32]byte) error
	// UseRecovery takes a recovery code away; false when there is none like it.
	UseRecovery(ctx context.Context, name string, hash [32]byte) (bool, error)
	// RecoveryLeft counts the recovery codes that are left.
	RecoveryLeft(ctx context.Context, name string) (int, error)

	CreateSession(ctx context.Context, s Session) error
	// Session returns a session with its account.
	Session(ctx context.Context, hash [32]byte) (Session, Account, error)
	// TouchSession notes the last use, which other nodes learn of when share is set.
	TouchSession(ctx context.Context, hash [32]byte, seen time.Time, share bool) error
	// EndSession removes one by its hash.
	EndSession(ctx context.Context, hash [32]byte) error
	// EndSessions removes by public id, or all of an account but the one with the
	// hash given, and returns how many.
	EndSessions(ctx context.Context, f SessionFilter) (int, error)
	Sessions(ctx context.Context, f SessionFilter) ([]Session, error)

	// PutLink stores a link and removes those before it of the same kind and account.
	PutLink(ctx context.Context, l Link) error
	Link(ctx context.Context, hash [32]byte) (Link, error)
	// TakeLink removes it and answers ErrNotFound when it is gone already.
	TakeLink(ctx context.Context, hash [32]byte) error
	// Sweep removes sessions and links that are over at now.
	Sweep(ctx context.Context, now, idleBefore time.Time) error

	AppendAudit(ctx context.Context, e Entry) (Entry, error)

	// SettingOnce stores a small value under a name unless there is one, and returns
	// the one that is there.
	SettingOnce(ctx context.Context, name, value string, now time.Time) (string, error)
}

// A SessionFilter chooses sessions. Empty fields choose all.
type SessionFilter struct {
	ID      string
	Account string
	Except  [32]byte // left out
	Limit   int      // of a list; 0 is 1000
}

const maxName = 64

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._@+-]*[a-z0-9])?$`)

// FoldName is the name as it is kept: without spaces around it, in lower case.
func FoldName(text string) string { return strings.ToLower(strings.TrimSpace(text)) }

// CheckName says what is wrong with the name of an account that is to be made.
func CheckName(name string) error {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return &Invalid{"name", "use 1 to 64 of a-z 0-9 . _ @ + -, with a letter or digit at both ends"}
	}
	return nil
}
