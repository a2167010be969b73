package egress

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestVerify(t *testing.T) {
	const secret, body = "s3cret-s3cret-s3cret", `{"a":1}`
	now := time.Unix(1767225600, 0)
	good := Sign(secret, now, []byte(body))

	for _, tt := range []struct {
		name, secret, header, body string
		at                         time.Time
		want                       error
	}{
		{"right", secret, good, body, now, nil},
		{"made by another program", secret, "t=1767225600,v1=98bc37492894e7975d7c1e063c06df3c41c32e3dd11a96e31795d0f457464d28", body, now, nil},
		{"a little later", secret, good, body, now.Add(4 * time.Minute), nil},
		{"two keys", secret, strings.Replace(good, ",", ",v1=00ff,", 1), body, now, nil},
		{"old", secret, good, body, now.Add(6 * time.Minute), ErrStale},
		{"of the future", secret, good, body, now.Add(-6 * time.Minute), ErrStale},
		{"other body", secret, good, body + " ", now, ErrSignature},
		{"other key", secret + "x", good, body, now, ErrSignature},
		{"other time", secret, strings.Replace(good, "t=1767225600", "t=1767225601", 1), body, now, ErrSignature},
		{"empty", secret, "", body, now, ErrSignature},
		{"no sum", secret, "t=1767225600", body, now, ErrSignature},
		{"no hex", secret, "t=1767225600,v1=zz", body, now, ErrSignature},
	} {
		if err := Verify(tt.secret, tt.header, []byte(tt.body), tt.at); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1,v1=00", []byte("x"))
	f.Add(Sign("0123456789abcdef", time.Unix(5, 0), []byte("x")), []byte("x"))
	f.Add(",,t=,v1=,=,", []byte(nil))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		// Whoever does not know the key does not get past it.
		if err := Verify("a key that the fuzzer does not know", header, body, time.Unix(5, 0)); err == nil {
			t.Errorf("a forged signature held: %q", header)
		}
	})
}
