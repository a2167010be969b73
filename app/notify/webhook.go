package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agentnet/app/egress"
)

// A Payload is the body that a webhook gets.
type Payload struct {
	Version int    `json:"version"` // 1; fields may be added without a new one
	Status  string `json:"status"`  // firing, resolved or test
	Title   string `json:"title"`
	Text    string `json:"text"`
	Message
}

// The headers of a webhook.
const (
	SignatureHeader = "X-Agentnet-Signature"
	DeliveryHeader  = "X-Agentnet-Delivery"
)

type webhook struct {
	c      *Channel
	client *egress.Client
	text   *Text
}

func (w *webhook) send(ctx context.Context, m *Message) (string, error) {
	body, err := json.Marshal(Payload{Version: 1, Status: m.Status(), Title: m.Title(), Text: w.text.String(m), Message: *m})
	if err != nil {
		return "", fmt.Errorf("encode the message: %w", err)
	}
	header := map[string]string{"Content-Type": "application/json", DeliveryHeader: m.ID}
	if w.c.Secret != "" {
		header[SignatureHeader] = Sign(w.c.Secret, time.Now(), body)
	}
	if w.c.Token != "" {
		header["Authorization"] = "Bearer " + w.c.Token
	}
	reply, err := w.client.Call(ctx, egress.Request{Method: "POST", URL: w.c.URL, Header: header, Body: body})
	return answered(reply), err
}

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
