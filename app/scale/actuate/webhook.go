package actuate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// webhook asks a program of the operator. It gets POST with a WebhookCall as JSON
// and the headers Idempotency-Key (the order's ID), X-Agentnet-Fence (the number
// of the leader) and, where a secret is configured, egress.SignatureHeader. Any
// 2xx is a success; 409 and 412 say that it knows a newer leader; 429 and 5xx are
// tried again.
type webhook struct {
	url, secret, token string
	client             *egress.Client
}

// A WebhookCall is the body that a webhook gets.
type WebhookCall struct {
	Version int `json:"version"` // 1; fields may be added without a new one
	scale.Order
}

func newWebhook(c *Config) *webhook {
	return &webhook{url: c.URL, secret: c.Secret, token: c.Token, client: egress.New(egress.Config{Rules: egress.Rules{All: true}, Timeout: 30 * time.Second})}
}

func (w *webhook) name() string { return "webhook" }

func (w *webhook) count(context.Context) (int, error) { return 0, scale.ErrNotTold }

func (w *webhook) set(ctx context.Context, o *scale.Order, s *steps) error {
	body, err := json.Marshal(WebhookCall{1, *o})
	if err != nil {
		return finally("", "encode the order: %w", err)
	}
	if o.DryRun {
		s.say("would POST %d bytes to %s", len(body), egress.Host(w.url))
		return nil
	}
	header := map[string]string{"Content-Type": "application/json", "Idempotency-Key": o.ID, "X-Agentnet-Fence": strconv.FormatUint(o.Fence, 10)}
	if w.secret != "" {
		header[egress.SignatureHeader] = egress.Sign(w.secret, time.Now(), body)
	}
	if w.token != "" {
		header["Authorization"] = "Bearer " + w.token
	}
	reply, err := w.client.Call(ctx, egress.Request{Method: http.MethodPost, URL: w.url, Header: header, Body: body})
	if err == nil {
		s.say("POST to %s: %d %s", egress.Host(w.url), reply.Status, egress.Shorten(string(reply.Body), 200))
		return nil
	}
	if e, ok := errors.AsType[*egress.Error](err); ok && (e.Status == http.StatusConflict || e.Status == http.StatusPreconditionFailed) {
		return fmt.Errorf("%w: %w", scale.ErrFenced, err)
	}
	return err
}
