package account

import (
	"strings"
	"testing"
	"time"
)

// The vectors of RFC 6238, appendix B, for SHA-1; its codes have eight digits, of
// which these are the last six.
func TestCodes(t *testing.T) {
	secret := base32Text.EncodeToString([]byte("12345678901234567890"))
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		got, err := CodeNow(secret, time.Unix(at, 0))
		if err != nil || got != want {
			t.Errorf("at %d: got %s, %v, want %s", at, got, err, want)
		}
		for shift, ok := range map[time.Duration]bool{0: true, 30 * time.Second: true, -30 * time.Second: true, 61 * time.Second: false, -61 * time.Second: false} {
			if _, found := findStep(secret, want, time.Unix(at, 0).Add(shift)); found != ok && !(found && shift < 0 && at < 90) {
				t.Errorf("at %d, clock off by %v: got %v, want %v", at, shift, found, ok)
			}
		}
	}
	for _, bad := range []string{"", "28708", "2870820", "abcdef"} {
		if _, ok := findStep(secret, bad, time.Unix(59, 0)); ok {
			t.Errorf("code %q was taken", bad)
		}
	}
	if _, ok := findStep("", "287082", time.Unix(59, 0)); ok {
		t.Error("a code was taken although there is no secret")
	}
}

func TestRecoveryCodes(t *testing.T) {
	codes, hashes := newRecovery("anna")
	seen := map[string]bool{}
	for i, c := range codes {
		if len(c) != 11 || seen[c] || recoveryHash("anna", tidyCode(strings.ToUpper(c))) != hashes[i] || recoveryHash("vic", tidyCode(c)) == hashes[i] {
			t.Errorf("code %q does not fit", c)
		}
		seen[c] = true
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=99999999,t=1,p=1$AAAA$AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		c, salt, key, err := parseHash(text)
		if err == nil && (c.Memory > maxMemory || c.Time > maxTime || c.Time == 0 || c.Lanes == 0 || len(salt) < 8 || len(key) < 16) {
			t.Errorf("%q was taken as %+v", text, c)
		}
	})
}

func TestThrottleIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	th := newThrottle(rate{burst: 2, every: time.Second}, 100, func() time.Time { return now })
	for i := range 10_000 {
		th.take(string(rune(i)))
	}
	if len(th.byKey) != 100 || th.order.Len() != 100 {
		t.Errorf("got %d keys, want 100", len(th.byKey))
	}
	for i, want := range []bool{true, true, false} {
		if got := th.take("x") == 0; got != want {
			t.Errorf("attempt %d: got %v, want %v", i, got, want)
		}
	}
	now = now.Add(-time.Hour) // a clock that goes back gives nothing and takes nothing
	if th.take("x") == 0 {
		t.Error("a clock that went back let one through")
	}
	now = now.Add(time.Second)
	if th.take("x") != 0 {
		t.Error("a second later nobody is let through")
	}
}
