package relay

import (
	"slices"

	"agentnet/app/wire"
)

// rejoinAll puts the subscriptions of a resumed session back, but those that the
// identity it was resumed with does not grant.
func (s *Session) rejoinAll(t *Turn, l *link, who *Identity, want *wire.Resume, subs []*subscription) {
	if len(subs) == 0 {
		return
	}
	at := make(map[string]*wire.Since, len(want.Channels))
	for _, p := range want.Channels {
		at[p.Channel] = &wire.Since{Epoch: p.Epoch, Offset: p.Offset}
	}
	for _, sub := range subs {
		if !who.Subscribe.Match(sub.ch.name) {
			sub.lose(t)
			continue
		}
		sub.rejoin(t, l, at[sub.ch.name])
	}
}

// rejoin puts a resumed session's subscription back, from where the client says
// it is, else from what was last handed to its socket.
func (sub *subscription) rejoin(t *Turn, l *link, since *wire.Since) {
	s := sub.s
	if since == nil {
		s.mu.Lock()
		if sub.epoch != "" {
			since = &wire.Since{Epoch: sub.epoch, Offset: sub.sent}
		}
		s.mu.Unlock()
	}
	c := s.hub.lockChannel([]byte(sub.ch.name))
	if c == nil {
		sub.lose(t)
		return
	}
	c.follow()
	if c != sub.ch { // it was removed meanwhile and made anew
		sub = s.replaceSub(sub, c)
	}
	if !c.whenOpen(t, func(t *Turn) {
		if sub.index >= 0 {
			c.drop(sub) // the old socket's place: detach has not come yet
		}
		c.admit(t, l, sub, nil, nil, since)
	}) {
		sub.lose(t)
	}
}

// replaceSub puts a subscription to c in the place of old.
func (s *Session) replaceSub(old *subscription, c *channel) *subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := &subscription{ch: c, s: s, index: -1, presence: old.presence, paused: true, sent: old.sent, wrote: old.wrote, epoch: old.epoch}
	if i := slices.Index(s.subs, old); i >= 0 {
		s.subs[i] = sub
	}
	old.dead = true
	return sub
}
