package account

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Vouched is somebody for whom another place vouches: an OpenID provider, or a
// proxy that signs people in.
type Vouched struct {
	Key  string // who it is there, for good: issuer and subject
	Name string // what they are called there
	Role Role   // that their groups give them
	How  string // oidc or proxy
}

// Groups say which groups of another place have which role here. A person with
// several gets the highest.
type Groups struct {
	Admins, Operators, Viewers []string
	// Others is the role of people in none of them; Nobody keeps them out.
	Others Role
}

// Role is the role of somebody in the groups given.
func (g Groups) Role(in []string) Role {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(name string) bool { return slices.Contains(in, name) })
	}
	switch {
	case has(g.Admins):
		return Admin
	case has(g.Operators):
		return Operator
	case has(g.Viewers):
		return Viewer
	}
	return g.Others
}

// SignInVouched signs somebody in for whom another place vouches. Their account is
// made at the first time. An *Invalid says why they may not.
func (s *Service) SignInVouched(ctx context.Context, v Vouched, from Attempt) (Ticket, error) {
	a, err := s.vouched(ctx, v, from)
	if err != nil {
		s.signInFailures.Add(1)
		if e, ok := errors.AsType[*Invalid](err); ok {
			s.recordFailure(ctx, Entry{Actor: printable(FoldName(v.Name)), Via: from.via(), Address: from.Address, Action: "sign_in", Outcome: Refused, Detail: "by " + v.How + ": " + e.Text})
		}
		return Ticket{}, err
	}
	return s.welcome(ctx, &a, v.How, from)
}

// Forwarded answers who a trusted proxy says is there. No session is made: the
// proxy says it again with each request.
func (s *Service) Forwarded(ctx context.Context, v Vouched, from Attempt) (Visitor, error) {
	a, err := s.vouched(ctx, v, from)
	if err != nil {
		return Visitor{}, err
	}
	return Visitor{Name: a.Name, Role: a.Role, Session: "", How: v.How, Begun: a.Created}, nil
}

// vouched finds or makes the account of somebody, with the role that they have now.
func (s *Service) vouched(ctx context.Context, v Vouched, from Attempt) (Account, error) {
	if v.Key == "" || len(v.Key) > 512 {
		return Account{}, errors.New("sign in by another place: it did not say who it is")
	}
	if v.Role == Nobody {
		return Account{}, &Invalid{"role", "you are in none of the groups that may come in here"}
	}
	a, err := s.rows.AccountOutside(ctx, v.Key)
	if errors.Is(err, ErrNotFound) {
		return s.adopt(ctx, v, from)
	}
	if err != nil {
		return Account{}, err
	}
	if !a.active() {
		return Account{}, &Invalid{"name", "your account is disabled here"}
	}
	if a.Role == v.Role {
		return a, nil
	}
	before := a.Role
	changed, err := s.rows.ChangeAccount(ctx, a.Name, func(a *Account) error { a.Role = v.Role; return nil })
	if errors.Is(err, ErrLastAdmin) {
		s.log.Warn("the last admin stays admin although the groups say otherwise", "account", a.Name)
		return a, nil
	}
	if err == nil {
		err = s.Record(ctx, Entry{Actor: a.Name, Role: v.Role, Via: from.via(), Address: from.Address, Action: "account.role", Target: a.Name, Outcome: Done,
			Detail: fmt.Sprintf("%s to %s, as the groups of %s say", before, v.Role, v.How)})
	}
	return changed, err
}

// adopt makes the account of somebody who comes for the first time. An account
// that has the name already is somebody else's: nobody gets it by being called so.
func (s *Service) adopt(ctx context.Context, v Vouched, from Attempt) (Account, error) {
	digest := sha256.Sum256([]byte(v.Key))
	suffix := "-" + hex.EncodeToString(digest[:4])
	name := plainName(v.Name)
	for _, name := range []string{name, name[:min(len(name), maxName-len(suffix))] + suffix} {
		if CheckName(name) != nil {
			continue
		}
		a, err := s.Create(ctx, Spec{Name: name, Role: v.Role, Outside: v.Key})
		if errors.Is(err, ErrExists) {
			// Perhaps this very person came twice at a time.
			if a, err := s.rows.AccountOutside(ctx, v.Key); err == nil {
				return a, nil
			}
			continue
		}
		if err != nil {
			return Account{}, err
		}
		return a, s.Record(ctx, Entry{Actor: a.Name, Role: a.Role, Via: from.via(), Address: from.Address, Action: "account.create", Target: a.Name, Outcome: Done,
			Detail: "at the first sign-in by " + v.How})
	}
	return Account{}, &Invalid{"name", "your name cannot be an account here"}
}

// plainName makes an account name of what somebody is called elsewhere.
func plainName(text string) string {
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._@+-", r) {
			return r
		}
		return '-'
	}, FoldName(text))
	text = strings.Trim(text, "._@+-")
	if len(text) > maxName {
		text = strings.Trim(text[:maxName], "._@+-")
	}
	if text == "" {
		return "guest"
	}
	return text
}
