package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// calibrateIdle is how many connections tell what one takes of memory.
	calibrateIdle = 2000
	// calibratePairs and calibrateRate are the load that tells what a message takes of
	// the processors: enough to see, not so much that the machine is full.
	calibratePairs = 50
	calibrateRate  = 4000
	calibrateTime  = 8 * time.Second
	maxAnswer      = 1 << 20
	// leastBytes is what no connection can be smaller than: the relay's record of a
	// session alone takes more. Less was measured in memory that was free already.
	leastBytes = 1 << 10
)

// measuredCapacity is the body of POST /v1/scaling/capacity.
type measuredCapacity struct {
	BytesPerConnection float64 `json:"bytes_per_connection"`
	BaseBytes          float64 `json:"base_bytes"`
	MicrosPerMessage   float64 `json:"cpu_us_per_message"`
	SeenConnections    float64 `json:"seen_connections"`
	SeenMessages       float64 `json:"seen_messages"`
}

// calibrate measures what a connection takes of memory and a message of the
// processors, and tells it to the server. The server must run on this machine: its
// memory and processor time are read from its process.
func (c *Command) calibrate(ctx context.Context, stdout io.Writer) error {
	if c.Token == "" {
		return errors.New("calibrate: give a token with the role admin in AGENTNET_TOKEN")
	}
	if err := c.allowed(ctx); err != nil {
		return err
	}
	idle, direct := c.Options, c.Options
	idle.Mode, direct.Mode = ModeIdle, ModeDirect
	if idle.Connections == 0 {
		idle.Connections = calibrateIdle
	}
	idle.Duration = 3 * time.Second
	if direct.Pairs == 0 {
		direct.Pairs = calibratePairs
	}
	if direct.Rate == 0 {
		direct.Rate = calibrateRate
	}
	direct.Connections, direct.Duration = 0, calibrateTime
	one, err := Run(ctx, idle, stdout)
	if err != nil {
		return fmt.Errorf("calibrate: idle connections: %w", err)
	}
	two, err := Run(ctx, direct, stdout)
	if err != nil {
		return fmt.Errorf("calibrate: messages: %w", err)
	}
	m, err := measuredOf(one, two)
	if err != nil {
		return err
	}
	summary, err := c.tell(ctx, m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "\n%s\n", summary)
	return err
}

// measuredOf takes the figures out of the two reports.
func measuredOf(idle, direct *Report) (m measuredCapacity, err error) {
	if idle.Memory == nil || direct.CPU == nil || direct.Seconds <= 0 {
		return m, errors.New("calibrate: the server's process is not known: run this on the server's machine, as its user, or name it with --pid")
	}
	m = measuredCapacity{BytesPerConnection: idle.Memory.PerConnection, BaseBytes: float64(idle.Memory.Before),
		MicrosPerMessage: direct.CPU.PerDelivery, SeenConnections: float64(idle.Connect.Connections), SeenMessages: direct.DeliveriesPS}
	if m.BytesPerConnection < leastBytes || m.MicrosPerMessage <= 0 {
		return m, fmt.Errorf("calibrate: %.0f bytes a connection and %.1f µs a message are no measurement: repeat it on a calmer machine, with more --connections or a higher --rate", m.BytesPerConnection, m.MicrosPerMessage)
	}
	return m, nil
}

// allowed asks before the measuring, which takes a while, whether this token may tell
// its result: figures of nothing are refused to an admin as invalid, to others as not
// theirs to give.
func (c *Command) allowed(ctx context.Context) error {
	status, _, detail, err := c.post(ctx, measuredCapacity{})
	if err == nil && (status == http.StatusUnauthorized || status == http.StatusForbidden) {
		err = fmt.Errorf("calibrate: the server would not take the result (%s): give a token with the role admin in AGENTNET_TOKEN", detail)
	}
	return err
}

// tell sends the figures to the server and returns what it made of them.
func (c *Command) tell(ctx context.Context, m measuredCapacity) (string, error) {
	status, summary, detail, err := c.post(ctx, m)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("calibrate: the server does not take it: %d %s: %s", status, http.StatusText(status), detail)
	}
	return summary, err
}

// post sends figures and returns the answer.
func (c *Command) post(ctx context.Context, m measuredCapacity) (status int, summary, detail string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("calibrate: tell the server: %w", err)
		}
	}()
	body, err := json.Marshal(m)
	if err != nil {
		return 0, "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	base := strings.TrimSuffix(c.URL, "/")
	if rest, ws := strings.CutPrefix(base, "ws"); ws {
		base = "http" + rest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/scaling/capacity", bytes.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.Token)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Summary string `json:"summary"`
		Detail  string `json:"detail"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(raw, &answer)
	}
	if err != nil {
		return 0, "", "", fmt.Errorf("it answers %s: %w", resp.Status, err)
	}
	return resp.StatusCode, answer.Summary, answer.Detail, nil
}
