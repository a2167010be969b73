package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"agentnet/app/egress"
)

// gotify posts messages of one application to a Gotify server.
type gotify struct {
	c      *Channel
	client *egress.Client
	text   *Text
}

func (g *gotify) send(ctx context.Context, m *Message) (string, error) {
	priority := 5
	switch {
	case m.Test, m.Resolved:
		priority = 2
	case m.Severity == Critical:
		priority = 8
	}
	extras := map[string]any{"client::display": map[string]string{"contentType": "text/plain"}}
	if m.Link != "" {
		extras["client::notification"] = map[string]any{"click": map[string]string{"url": m.Link}}
	}
	body, err := json.Marshal(struct {
		Title    string         `json:"title"`
		Message  string         `json:"message"`
		Priority int            `json:"priority"`
		Extras   map[string]any `json:"extras"`
	}{m.Title(), g.text.String(m), priority, extras})
	if err != nil {
		return "", fmt.Errorf("encode the message: %w", err)
	}
	reply, err := g.client.Call(ctx, egress.Request{Method: "POST", URL: strings.TrimRight(g.c.URL, "/") + "/message",
		Header: map[string]string{"Content-Type": "application/json", "X-Gotify-Key": g.c.Token}, Body: body})
	return answered(reply), err
}
