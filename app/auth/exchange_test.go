package auth

import (
	"bytes"
	"context"
	"testing"
	"time"

	"agentnet/app/relay"
)

func TestIssuersAreExchangedWhileTheServiceRuns(t *testing.T) {
	clk := newClock()
	first, second := bytes.Repeat([]byte("1"), 32), bytes.Repeat([]byte("2"), 32)
	by := func(secret []byte) []Issuer { return []Issuer{{Issuer: issuerURL, Secret: secret}} }
	s := newService(t, Config{Now: clk.now, Issuers: by(first)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	old, fresh := sign(t, HS256, first, nil, claimsAt(clk)), sign(t, HS256, second, nil, claimsAt(clk))
	if _, err := authorize(t, s, old); err != nil {
		t.Fatal(err)
	}
	if err := s.SetIssuers([]Issuer{{Issuer: issuerURL, Secret: []byte("short")}}); err == nil {
		t.Error("a secret that is too short was taken")
	}
	if _, found := s.Cached([]byte(old)); !found {
		t.Error("a refused change forgot what was verified")
	}
	if err := s.SetIssuers(by(second)); err != nil {
		t.Fatal(err)
	}
	_, err := authorize(t, s, old)
	bare(t, "the old issuer's token", err, relay.ErrUnauthorized)
	if _, err := authorize(t, s, fresh); err != nil {
		t.Errorf("the new issuer's token: %v", err)
	}
	// One whose keys are fetched: it is asked although it came while Run was under way.
	k := newKey(t, "key-1", ES256)
	f := &fakeIssuer{keys: []*signKey{k}}
	s.cfg.Transport = f
	if err := s.SetIssuers([]Issuer{{Issuer: issuerURL, Audience: []string{"project-1"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := authorize(t, s, k.sign(t, claimsAt(clk))); err != nil {
		t.Errorf("an issuer with fetched keys: %v", err)
	}
	if err := s.SetIssuers(nil); err != nil {
		t.Fatal(err)
	}
	_, err = authorize(t, s, fresh)
	bare(t, "without issuers", err, relay.ErrUnauthorized)
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the service did not end")
	}
}
