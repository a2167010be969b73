package egress

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader carries the signature of a body, such as
//
//	t=1767225600,v1=5257a869e7…
//
// t is the time of sending in Unix seconds; v1 is the HMAC-SHA256, in lower-case
// hexadecimal, of the bytes "<t>.<body>" under the shared secret.
const SignatureHeader = "X-Agentnet-Signature"

// Sign makes the signature of a body for SignatureHeader.
func Sign(secret string, now time.Time, body []byte) string {
	t := strconv.FormatInt(now.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(signature(secret, t, body))
}

func signature(secret, t string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return mac.Sum(nil)
}

// Errors of Verify.
var (
	ErrSignature = errors.New("the signature is not that of this body")
	ErrStale     = errors.New("the signature is too old, or of the future")
)

// signatureLife is how far the time of a signature may be off.
const signatureLife = 5 * time.Minute

// Verify checks a signature as receivers should. Several v1 parts may be there
// while a secret is being changed; one must fit.
func Verify(secret, header string, body []byte, now time.Time) error {
	var t string
	var given [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			t = value
		case "v1":
			if sum, err := hex.DecodeString(value); err == nil && len(given) < 8 {
				given = append(given, sum)
			}
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("no time in it: %w", ErrSignature)
	}
	want := signature(secret, t, body)
	for _, sum := range given {
		if hmac.Equal(sum, want) {
			if off := now.Sub(time.Unix(seconds, 0)); off > signatureLife || off < -signatureLife {
				return ErrStale
			}
			return nil
		}
	}
	return ErrSignature
}
