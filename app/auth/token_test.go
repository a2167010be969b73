package auth

import (
	"crypto/sha256"
	"hash/crc32"
	"regexp"
	"strings"
	"testing"
)

func TestMintedTokens(t *testing.T) {
	shape := regexp.MustCompile(`^agn_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$`)
	seen, letters := map[string]bool{}, map[byte]int{}
	for range 2000 {
		token, id, hash := mint()
		if !shape.MatchString(token) {
			t.Fatalf("a token of another shape: %d characters", len(token))
		}
		got, err := ParseToken(token)
		if err != nil || got != id || hash != sha256.Sum256([]byte(token)) {
			t.Fatalf("ParseToken: got %q, %v, want %q and the hash of the whole", got, err, id)
		}
		if seen[token] || seen[id] {
			t.Fatal("a token or id came twice")
		}
		seen[token], seen[id] = true, true
		for i := len(tokenPrefix) + idLen + 1; i < tokenLen-sumLen; i++ {
			letters[token[i]]++
		}
	}
	// 86,000 digits in 62 kinds: 1387 each, with a deviation of 37.
	if len(letters) != 62 {
		t.Errorf("the secrets use %d digits, want 62", len(letters))
	}
	for c, n := range letters {
		if n < 1387-8*37 || n > 1387+8*37 {
			t.Errorf("digit %c came %d times, want about 1387: the digits are not drawn evenly", c, n)
		}
	}
}

func TestEveryTypingErrorIsFound(t *testing.T) {
	token, _, _ := mint()
	try := func(name, bad string) {
		t.Helper()
		if bad == token {
			return
		}
		_, err := ParseToken(bad)
		if err == nil {
			t.Errorf("%s was not noticed", name)
		} else if strings.Contains(err.Error(), token[20:30]) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
	for i := range len(token) {
		for _, c := range []byte("0aZ_ \n\x00\xff") {
			try("a wrong character", token[:i]+string(c)+token[i+1:])
		}
		if i > 0 {
			try("two exchanged characters", token[:i-1]+string(token[i])+string(token[i-1])+token[i+1:])
		}
		try("a missing character", token[:i]+token[i+1:])
		try("a character too many", token[:i]+"x"+token[i:])
		try("a cut token", token[:i])
	}
	try("space at the end", token+" ")
	try("upper case", strings.ToUpper(token))
	try("nothing", "")
}

func TestIDsHoldNothingButDigits(t *testing.T) {
	token, _, _ := mint()
	for _, c := range []byte("\n\x00\x1b_-/*\xff ") {
		b := []byte(token[:tokenLen-sumLen])
		b[7] = c
		b = appendSum(b, crcOf(b)) // whoever forges a token can do sums
		if id, err := ParseToken(string(b)); err == nil {
			t.Errorf("%q was taken as an id", id)
		}
	}
}

func TestPublicID(t *testing.T) {
	token, id, _ := mint()
	for _, given := range []string{id, "agn_" + id, token} {
		if got, err := publicID(given); got != id || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, id)
		}
	}
	for _, given := range []string{"", "agn_", id + "x", id[1:], "../../../etc1", token + "x"} {
		if got, err := publicID(given); err == nil {
			t.Errorf("%q was taken as %q", given, got)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	token, _, _ := mint()
	f.Add(token)
	f.Add("agn_")
	f.Add(strings.Repeat("agn_", 17))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseToken(s)
		got, ok := split([]byte(s))
		if ok != (err == nil) || (ok && (string(got[:]) != id || s[4:16] != id)) {
			t.Errorf("split says %v, ParseToken %v, id %q", ok, err, id)
		}
		if ok {
			if _, err := publicID(s); err != nil {
				t.Errorf("publicID: %v", err)
			}
		}
	})
}

func crcOf(b []byte) uint32 { return crc32.ChecksumIEEE(b) }
