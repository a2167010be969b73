package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// An Attempt says where somebody comes from.
type Attempt struct {
	Address string // of the client; an IPv6 address counts by its /64
	Key     string // what attempts are counted by; "" is Address
	Browser string // what it calls itself
	Device  string // the mark that an earlier sign-in left in the browser; "" for none
	Via     string // the door; "" is the page
}

func (f Attempt) via() string {
	if f.Via == "" {
		return ViaPage
	}
	return f.Via
}

func (f Attempt) key() string {
	if f.Key == "" {
		return f.Address
	}
	return f.Key
}

// A Ticket is what a browser gets for a sign-in.
type Ticket struct {
	Session   string // secret, for the cookie
	NeedsCode bool   // the session is not open yet: Code opens it
	Device    string // mark of this browser for later sign-ins; "" while NeedsCode
	Name      string
	Role      Role
}

// SignIn checks a name and a password. The error is ErrRefused for a wrong name, a
// wrong password and a disabled account alike, after the same work; a *WaitError
// after too many; ErrBusy when too many others are at it.
func (s *Service) SignIn(ctx context.Context, name, password string, from Attempt) (Ticket, error) {
	name = FoldName(name)
	counted, err := s.admit(name, from)
	if err != nil {
		s.throttled.Add(1)
		s.recordFailure(ctx, Entry{Actor: "(not looked at)", Via: from.via(), Address: from.Address, Action: "sign_in", Outcome: Refused, Detail: "too many attempts"})
		return Ticket{}, err
	}
	a, err := s.rows.Account(ctx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		counted.giveBack()
		return Ticket{}, fmt.Errorf("sign in: %w", err)
	}
	known := err == nil
	ok, again, err := s.hasher.check(ctx, a.Password, password, counted.stranger)
	if err != nil {
		counted.giveBack()
		return Ticket{}, err
	}
	if !ok || !known || !a.active() {
		s.signInFailures.Add(1)
		who, detail := a.Name, "wrong password"
		switch {
		case !known: // what was typed may be a password in the wrong field
			who, detail = "(unknown)", "no such account"
		case ok:
			detail = "the account is disabled"
		}
		s.log.Warn("sign-in refused", "account", who, "client", from.Address) // one line for programs such as fail2ban
		s.recordFailure(ctx, Entry{Actor: who, Via: from.via(), Address: from.Address, Action: "sign_in", Target: who, Outcome: Refused, Detail: detail})
		return Ticket{}, ErrRefused
	}
	if again {
		s.rehash(ctx, a, password)
	}
	if a.Second != "" {
		secret, err := s.open(ctx, &a, StageCode, "password", from)
		return Ticket{Session: secret, NeedsCode: true, Name: a.Name, Role: a.Role}, err
	}
	counted.giveBack()
	return s.welcome(ctx, &a, "password", from)
}

// printable is a name that another place told, if it could be an account's.
func printable(name string) string {
	if CheckName(name) != nil {
		return "(no account name)"
	}
	return name
}

// welcome opens a session for somebody who has proved to be a.
func (s *Service) welcome(ctx context.Context, a *Account, how string, from Attempt) (Ticket, error) {
	secret, err := s.open(ctx, a, "", how, from)
	if err != nil {
		return Ticket{}, fmt.Errorf("open a session: %w", err)
	}
	s.signIns.Add(1)
	if err := s.rows.SignedIn(ctx, a.Name, s.now()); err != nil {
		s.log.Warn("the time of a sign-in could not be noted", "account", a.Name, "error", err)
	}
	if err := s.Record(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "sign_in", Target: a.Name, Outcome: Done, Detail: "by " + how}); err != nil {
		return Ticket{}, err
	}
	device, err := s.mark(ctx, a.Name)
	if err != nil {
		s.log.Warn("a browser could not be marked as known", "error", err)
	}
	return Ticket{Session: secret, Device: device, Name: a.Name, Role: a.Role}, nil
}

// rehash stores a password with the work that is usual now.
func (s *Service) rehash(ctx context.Context, a Account, password string) {
	hash, err := s.hasher.hash(ctx, password)
	if err == nil {
		_, err = s.rows.ChangeAccount(ctx, a.Name, func(now *Account) error {
			if now.Password == a.Password {
				now.Password = hash
			}
			return nil
		})
	}
	if err != nil {
		s.log.Warn("a password could not be hashed anew", "account", a.Name, "error", err)
	}
}

// counted is an attempt that was counted and may turn out to be no guess.
type counted struct {
	tables   []*throttle
	keys     []string
	stranger bool // the browser was never in as this account
}

func (c *counted) giveBack() {
	for i, t := range c.tables {
		t.giveBack(c.keys[i])
	}
}

// admit counts an attempt before anything is checked, so that many at once cannot
// slip through.
func (s *Service) admit(name string, from Attempt) (*counted, error) {
	c := &counted{}
	take := func(t *throttle, key string) error {
		if wait := t.take(key); wait > 0 {
			c.giveBack()
			return &WaitError{max(wait, time.Second)}
		}
		c.tables, c.keys = append(c.tables, t), append(c.keys, key)
		return nil
	}
	if nonce, ok := s.knows(name, from.Device); ok {
		if err := take(s.devices, nonce); err != nil {
			return nil, err
		}
	} else {
		c.stranger = true
		if err := take(s.addresses, from.key()); err != nil {
			return nil, err
		}
		if err := take(s.accounts, name); err != nil {
			return nil, err
		}
		if s.hashes.take("") > 0 { // a flood of strangers keeps nobody out who is known
			c.giveBack()
			return nil, ErrBusy
		}
	}
	return c, nil
}

// Code opens a session whose password was right with a code of the second factor,
// or one of the recovery codes. The secret of the session changes. ErrCode: wrong.
func (s *Service) Code(ctx context.Context, secret, code string, from Attempt) (Ticket, error) {
	session, a, err := s.session(ctx, secret)
	if err != nil {
		return Ticket{}, err
	}
	if session.Stage != StageCode {
		return Ticket{}, ErrSignedOut
	}
	code = tidyCode(code)
	if s.tries.take(session.ID) > 0 {
		return Ticket{}, errors.Join(ErrSignedOut, s.rows.EndSession(ctx, session.Hash))
	}
	key := "code " + a.Name
	if nonce, ok := s.knows(a.Name, from.Device); ok {
		key = "code device " + nonce
	}
	if wait := s.codes.take(key); wait > 0 {
		s.throttled.Add(1)
		s.recordFailure(ctx, Entry{Actor: a.Name, Via: from.via(), Address: from.Address, Action: "sign_in", Target: a.Name, Outcome: Refused, Detail: "too many codes"})
		return Ticket{}, &WaitError{wait}
	}
	how, err := s.checkCode(ctx, &a, code)
	if errors.Is(err, ErrCode) {
		s.signInFailures.Add(1)
		s.log.Warn("sign-in refused", "account", a.Name, "client", from.Address)
		s.recordFailure(ctx, Entry{Actor: a.Name, Via: from.via(), Address: from.Address, Action: "sign_in", Target: a.Name, Outcome: Refused, Detail: "wrong code, with the right password"})
	}
	if err != nil {
		return Ticket{}, err
	}
	s.codes.giveBack(key)
	if err := s.rows.EndSession(ctx, session.Hash); err != nil {
		return Ticket{}, err
	}
	return s.welcome(ctx, &a, how, from)
}

// checkCode takes a code, which cannot be used again.
func (s *Service) checkCode(ctx context.Context, a *Account, code string) (how string, err error) {
	if len(code) == recoveryLen {
		used, err := s.rows.UseRecovery(ctx, a.Name, recoveryHash(a.Name, code))
		if err != nil {
			return "", err
		}
		if !used {
			return "", ErrCode
		}
		return "password and a recovery code", nil
	}
	step, ok := findStep(a.Second, code, s.now())
	if !ok {
		return "", ErrCode
	}
	fresh, err := s.rows.UseStep(ctx, a.Name, step)
	if err != nil {
		return "", err
	}
	if !fresh {
		return "", ErrCode
	}
	return "password and a code", nil
}

// NewSecond proposes the secret of a second factor; it counts only after
// ConfirmSecond.
func (s *Service) NewSecond() string { return newSecond() }

// ConfirmSecond turns the second factor on, given a code that its app shows, and
// returns the recovery codes, which are shown once.
func (s *Service) ConfirmSecond(ctx context.Context, name, secret, code string) (recovery []string, err error) {
	if key, err := base32Text.DecodeString(secret); err != nil || len(key) < 16 {
		return nil, &Invalid{"code", "begin again: the secret was not made here"}
	}
	if wait := s.codes.take("confirm " + name); wait > 0 {
		return nil, &WaitError{wait}
	}
	step, ok := findStep(secret, tidyCode(code), s.now())
	if !ok {
		return nil, &Invalid{"code", "the code does not fit: is the clock of your phone right?"}
	}
	recovery, hashes := newRecovery(name)
	if err := s.rows.PutRecovery(ctx, name, hashes); err != nil {
		return nil, err
	}
	if _, err := s.rows.UseStep(ctx, name, step); err != nil {
		return nil, err
	}
	_, err = s.rows.ChangeAccount(ctx, name, func(a *Account) error { a.Second = secret; return nil })
	return recovery, err
}

// DropSecond turns the second factor off, for somebody who knows the password.
func (s *Service) DropSecond(ctx context.Context, name, password string) error {
	if wait := s.codes.take("drop " + name); wait > 0 {
		return &WaitError{wait}
	}
	a, err := s.rows.Account(ctx, name)
	if err != nil {
		return err
	}
	ok, _, err := s.hasher.check(ctx, a.Password, password, false)
	if err != nil {
		return err
	}
	if !ok {
		return &Invalid{"password", "that is not your password"}
	}
	if err := s.rows.PutRecovery(ctx, name, nil); err != nil {
		return err
	}
	_, err = s.rows.ChangeAccount(ctx, name, func(a *Account) error { a.Second = ""; return nil })
	return err
}

// RecoveryLeft counts the recovery codes that an account has left.
func (s *Service) RecoveryLeft(ctx context.Context, name string) (int, error) {
	return s.rows.RecoveryLeft(ctx, name)
}

// deviceSetting names the key that the marks of browsers are made with.
const deviceSetting = "account_device_key"

// mark makes the mark of a browser in which name has signed in:
// nonce.time.mac, where the mac covers the name too.
func (s *Service) mark(ctx context.Context, name string) (string, error) {
	key, err := s.deviceKey(ctx)
	if err != nil {
		return "", err
	}
	var nonce [12]byte
	rand.Read(nonce[:])
	body := base64.RawURLEncoding.EncodeToString(nonce[:]) + "." + fmt.Sprint(s.now().Unix())
	return body + "." + deviceMAC(key, name, body), nil
}

func deviceMAC(key []byte, name, body string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(name + "\x00" + body))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// knows says whether a browser was in as name before, and returns what names it.
func (s *Service) knows(name, device string) (nonce string, ok bool) {
	if len(device) < 16 || len(device) > 128 {
		return "", false
	}
	cut := strings.LastIndexByte(device, '.')
	if cut < 0 {
		return "", false
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	key, err := s.deviceKey(ctx)
	if err != nil || !SameToken(device[cut+1:], deviceMAC(key, name, device[:cut])) {
		return "", false
	}
	nonce, at, _ := strings.Cut(device[:cut], ".")
	var made int64
	if _, err := fmt.Sscan(at, &made); err != nil || s.now().Sub(time.Unix(made, 0)) > deviceTime {
		return "", false
	}
	return nonce, true
}

// deviceKey reads the key, which is made once.
func (s *Service) deviceKey(ctx context.Context) ([]byte, error) {
	if key := s.device.Load(); key != nil {
		return *key, nil
	}
	fresh, _ := newSecret()
	text, err := s.rows.SettingOnce(ctx, deviceSetting, fresh, s.now())
	if err != nil {
		return nil, fmt.Errorf("key of known browsers: %w", err)
	}
	key := []byte(text)
	s.device.Store(&key)
	return key, nil
}
