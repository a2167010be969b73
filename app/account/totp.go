package account

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // RFC 6238 as all authenticator apps have it
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

const (
	codeStep   = 30 * time.Second
	codeDigits = 6
	// codeSkew is how many steps a phone's clock may be off, each way.
	codeSkew = 1
	// recoveryCodes is how many are given out at once, of recoveryLen characters.
	recoveryCodes = 10
	recoveryLen   = 10
)

// unpadded base32, as authenticator apps read it.
var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

// newSecond makes the secret of a second factor: 160 bits.
func newSecond() string {
	var b [20]byte
	rand.Read(b[:])
	return base32Text.EncodeToString(b[:])
}

// SecondURL is what an authenticator app reads from the QR code.
func SecondURL(issuer, name, secret string) string {
	q := url.Values{"secret": {secret}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {fmt.Sprint(codeDigits)}, "period": {"30"}}
	// Some apps take a plus for itself instead of a space.
	return "otpauth://totp/" + url.PathEscape(issuer+":"+name) + "?" + strings.ReplaceAll(q.Encode(), "+", "%20")
}

// codeAt is the code of one step (RFC 4226).
func codeAt(secret []byte, step int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	mac := hmac.New(sha1.New, secret)
	mac.Write(counter[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", codeDigits, n%1_000_000)
}

// findStep returns the step that a code belongs to. All candidates are compared,
// so that time tells nothing.
func findStep(secret, code string, now time.Time) (step int64, ok bool) {
	key, err := base32Text.DecodeString(secret)
	if err != nil || len(key) == 0 {
		return 0, false
	}
	current := now.Unix() / int64(codeStep/time.Second)
	for s := current - codeSkew; s <= current+codeSkew; s++ {
		if subtle.ConstantTimeCompare([]byte(codeAt(key, s)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}

// CodeNow is the code that a secret gives at a time, as a phone shows it.
func CodeNow(secret string, at time.Time) (string, error) {
	key, err := base32Text.DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("the secret of a second factor: %w", err)
	}
	return codeAt(key, at.Unix()/int64(codeStep/time.Second)), nil
}

// tidyCode takes out what people type between digits.
func tidyCode(text string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\t' {
			return -1
		}
		return r
	}, text))
}

// newRecovery makes recovery codes of 50 bits each, as abcde-fghij, and their hashes.
func newRecovery(name string) (codes []string, hashes [][32]byte) {
	const letters = "0123456789abcdefghjkmnpqrstvwxyz" // 32: five bits of a byte choose one
	for range recoveryCodes {
		var b [recoveryLen]byte
		rand.Read(b[:])
		for i := range b {
			b[i] = letters[b[i]&31]
		}
		code := string(b[:])
		codes = append(codes, code[:recoveryLen/2]+"-"+code[recoveryLen/2:])
		hashes = append(hashes, recoveryHash(name, code))
	}
	return codes, hashes
}

// recoveryHash ties a code to its account.
func recoveryHash(name, code string) [32]byte {
	return sha256.Sum256([]byte("recovery\x00" + name + "\x00" + code))
}
