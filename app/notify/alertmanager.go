package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"agentnet/app/egress"
)

// alertmanager posts alerts to the v2 API of an Alertmanager, which groups,
// silences and routes by itself. What goes on is repeated each minute, with an end
// a few repetitions ahead, so that a node that dies does not leave alerts behind.
type alertmanager struct {
	c      *Channel
	client *egress.Client
	text   *Text
}

type alertmanagerAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

func (a *alertmanager) send(ctx context.Context, m *Message) (string, error) {
	alerts := make([]alertmanagerAlert, 0, len(m.Items))
	for i := range m.Items {
		alerts = append(alerts, a.alert(m, &m.Items[i]))
	}
	body, err := json.Marshal(alerts)
	if err != nil {
		return "", fmt.Errorf("encode the alerts: %w", err)
	}
	header := map[string]string{"Content-Type": "application/json"}
	a.c.authorize(header)
	reply, err := a.client.Call(ctx, egress.Request{Method: "POST", URL: strings.TrimRight(a.c.URL, "/") + "/api/v2/alerts", Header: header, Body: body})
	return answered(reply), err
}

func (a *alertmanager) alert(m *Message, it *Item) alertmanagerAlert {
	out := alertmanagerAlert{StartsAt: it.Since.UTC(), EndsAt: m.At.Add(4 * alertmanagerRepeat).UTC(), GeneratorURL: m.Link,
		Labels:      map[string]string{"alertname": it.Rule, "severity": it.Severity.String(), "job": "agentnet"},
		Annotations: map[string]string{"summary": it.headline(), "description": it.Why}}
	// Labels name the alert: what changes from message to message is none of them.
	for name, value := range map[string]string{"node": it.Node, "source": m.From} {
		if value != "" {
			out.Labels[name] = value
		}
	}
	for name, value := range map[string]string{"value": it.Value, "threshold": it.Threshold, "response": it.Response, "runbook": it.Runbook, "runbook_url": it.Link} {
		if value != "" {
			out.Annotations[name] = value
		}
	}
	switch {
	case m.Test:
		out.Labels["alertname"], out.EndsAt = "AgentnetTest", m.At.Add(time.Minute).UTC()
	case it.Resolved:
		out.EndsAt = it.At.UTC()
	}
	if !out.EndsAt.After(out.StartsAt) {
		out.EndsAt = out.StartsAt.Add(time.Millisecond) // an end before the start is refused
	}
	return out
}
