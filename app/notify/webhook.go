package notify

import (
	"context"
	"encoding/json"
	"fmt"
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
	SignatureHeader = egress.SignatureHeader
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
		header[SignatureHeader] = egress.Sign(w.c.Secret, time.Now(), body)
	}
	if w.c.Token != "" {
		header["Authorization"] = "Bearer " + w.c.Token
	}
	reply, err := w.client.Call(ctx, egress.Request{Method: "POST", URL: w.c.URL, Header: header, Body: body})
	return answered(reply), err
}
