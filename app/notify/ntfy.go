package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"agentnet/app/egress"
)

// ntfy publishes to a topic of an ntfy server, as JSON to its root, so that text
// in any language goes through.
type ntfy struct {
	c      *Channel
	client *egress.Client
	text   *Text
}

// maxNtfy is below ntfy's limit for a message; longer ones become attachments.
const maxNtfy = 3900

func (n *ntfy) send(ctx context.Context, m *Message) (string, error) {
	u, err := url.Parse(n.c.URL)
	if err != nil {
		return "", fmt.Errorf("the address cannot be read")
	}
	topic := path.Base(strings.TrimRight(u.Path, "/"))
	u.Path = strings.TrimSuffix(strings.TrimRight(u.Path, "/"), topic)
	priority, tag := 4, "warning"
	switch {
	case m.Test:
		priority, tag = 3, "wave"
	case m.Resolved:
		priority, tag = 3, "white_check_mark"
	case m.Severity == Critical:
		priority, tag = 5, "rotating_light"
	}
	body, err := json.Marshal(struct {
		Topic    string   `json:"topic"`
		Title    string   `json:"title"`
		Message  string   `json:"message"`
		Priority int      `json:"priority"`
		Tags     []string `json:"tags"`
		Click    string   `json:"click,omitempty"`
	}{topic, m.Title(), clip(n.text.String(m), maxNtfy), priority, []string{tag}, m.Link})
	if err != nil {
		return "", fmt.Errorf("encode the message: %w", err)
	}
	header := map[string]string{"Content-Type": "application/json"}
	n.c.authorize(header)
	reply, err := n.client.Call(ctx, egress.Request{Method: "POST", URL: u.String(), Header: header, Body: body})
	return answered(reply), err
}

// authorize adds the token, or user and password.
func (c *Channel) authorize(header map[string]string) {
	switch {
	case c.Token != "":
		header["Authorization"] = "Bearer " + c.Token
	case c.User != "":
		header["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password))
	}
}
