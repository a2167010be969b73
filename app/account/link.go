package account

import (
	"context"
	"errors"
	"fmt"
)

// FirstLink makes a link for the first admin and returns its secret, or "" when
// there is an admin. Links before it are over.
func (s *Service) FirstLink(ctx context.Context) (secret string, err error) {
	n, err := s.rows.Admins(ctx)
	if err != nil || n > 0 {
		return "", err
	}
	return s.putLink(ctx, Link{Kind: LinkSetup})
}

// ResetLink makes a link that sets the password of an account, and locks the
// account until it is used: the password, the second factor, its recovery codes
// and all sessions are gone. It lets a disabled account in again only when an admin
// says so.
func (s *Service) ResetLink(ctx context.Context, name string) (secret string, err error) {
	name = FoldName(name)
	_, err = s.rows.ChangeAccount(ctx, name, func(a *Account) error {
		if a.Outside != "" {
			return &Invalid{"name", "this account has no password: " + a.Outside + " vouches for it"}
		}
		a.Password, a.Second, a.Since = "", "", s.after(a.Since)
		return nil
	})
	if err != nil {
		return "", err
	}
	if err := s.rows.PutRecovery(ctx, name, nil); err != nil {
		return "", err
	}
	if _, err := s.rows.EndSessions(ctx, SessionFilter{Account: name}); err != nil {
		return "", err
	}
	return s.putLink(ctx, Link{Kind: LinkReset, Account: name})
}

func (s *Service) putLink(ctx context.Context, l Link) (secret string, err error) {
	secret, l.Hash = newSecret()
	l.Created = s.now().UTC()
	l.Expires = l.Created.Add(linkTime)
	if err := s.rows.PutLink(ctx, l); err != nil {
		return "", fmt.Errorf("make a link: %w", err)
	}
	return secret, nil
}

// CheckLink says what a link is for. ErrLink: for nothing, any more.
func (s *Service) CheckLink(ctx context.Context, secret string, from Attempt) (Link, error) {
	hash, ok := secretHash(secret)
	if !ok {
		return Link{}, ErrLink
	}
	if wait := s.links.take(from.key()); wait > 0 {
		return Link{}, &WaitError{wait}
	}
	l, err := s.rows.Link(ctx, hash)
	switch {
	case errors.Is(err, ErrNotFound):
		return Link{}, ErrLink
	case err != nil:
		return Link{}, err
	case !s.now().Before(l.Expires):
		return Link{}, ErrLink
	}
	if l.Kind == LinkSetup {
		n, err := s.rows.Admins(ctx)
		if err != nil {
			return Link{}, err
		}
		if n > 0 {
			return Link{}, ErrLink
		}
	}
	s.links.giveBack(from.key())
	return l, nil
}

// UseLink makes the first admin, or sets the password of the link's account, and
// signs in. name counts for a setup link only. An *Invalid leaves the link as it is.
func (s *Service) UseLink(ctx context.Context, secret, name, password string, from Attempt) (Ticket, error) {
	l, err := s.CheckLink(ctx, secret, from)
	if err != nil {
		return Ticket{}, err
	}
	if l.Kind == LinkReset {
		return s.useReset(ctx, l, password, from)
	}
	if password == "" {
		return Ticket{}, CheckPassword(name, password)
	}
	a, err := s.account(ctx, Spec{Name: name, Password: password, Role: Admin})
	if err != nil {
		return Ticket{}, err
	}
	// The account decides who was first; the link is removed after it.
	if err := s.rows.CreateAccount(ctx, a, true); err != nil {
		switch {
		case errors.Is(err, ErrNotFirst):
			err = ErrLink
		case errors.Is(err, ErrExists):
			err = &Invalid{"name", "an account has this name already"}
		}
		return Ticket{}, err
	}
	if err := s.rows.TakeLink(ctx, l.Hash); err != nil && !errors.Is(err, ErrNotFound) {
		s.log.Warn("the setup link could not be removed; it is of no use any more", "error", err)
	}
	_ = s.Record(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "account.create", Target: a.Name, Outcome: Done, Detail: "the first admin, by the setup link"})
	return s.welcome(ctx, &a, "setup link", from)
}

func (s *Service) useReset(ctx context.Context, l Link, password string, from Attempt) (Ticket, error) {
	if err := CheckPassword(l.Account, password); err != nil {
		return Ticket{}, err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return Ticket{}, err
	}
	if err := s.rows.TakeLink(ctx, l.Hash); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = ErrLink
		}
		return Ticket{}, err
	}
	a, err := s.rows.ChangeAccount(ctx, l.Account, func(a *Account) error { a.Password = hash; return nil })
	if err != nil {
		return Ticket{}, err
	}
	_ = s.Record(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "password.reset", Target: a.Name, Outcome: Done, Detail: "by a reset link"})
	if !a.active() {
		return Ticket{}, ErrRefused
	}
	return s.welcome(ctx, &a, "reset link", from)
}
