package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"agentnet/app/wire"
)

// notifyCommands are `agentnet notify …`.
type notifyCommands struct {
	List notifyList `cmd:"" help:"List the ways to tell people, and what was delivered lately."`
	Log  notifyLog  `cmd:"" help:"List every try to deliver that was stored, the newest first."`
	Test notifyTest `cmd:"" help:"Send a test message and show what was answered."`
}

// office are the flags of commands that ask a running relay about itself.
type office struct {
	URL   string        `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Base address of the relay (AGENTNET_URL)."`
	Token string        `placeholder:"TOKEN" help:"Token with the role that is needed; better given as AGENTNET_TOKEN."`
	CA    string        `name:"ca" placeholder:"FILE" help:"PEM file with the certificate authority of the relay, when it is a private one."`
	Wait  time.Duration `default:"45s" help:"Longest wait for the answer."`
}

// maxOfficeReply bounds an answer, in bytes.
const maxOfficeReply = 16 << 20

// call asks the relay's API and reads its answer into a value. A refusal is a
// *wire.Error.
func (o *office) call(ctx context.Context, env *Env, method, path string, body, into any) error {
	if o.Token == "" {
		return usagef("no token: set AGENTNET_TOKEN, made with \"%s token create --agent NAME --role operator\"", env.Program)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pool, err := readCA(o.CA)
		if err != nil {
			return err
		}
		config.RootCAs = pool
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode the question: %w", err)
	}
	if body == nil {
		raw = nil
	}
	ctx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(o.URL, "/")+path, bytes.NewReader(raw))
	if err != nil {
		return usagef("--url: %v", err)
	}
	req.Header.Set("Authorization", "Bearer "+o.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}}
	resp, err := client.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s did not answer within %v: %w", o.URL, o.Wait, context.DeadlineExceeded)
	}
	if err != nil {
		return fmt.Errorf("%w at %s: %w (is \"%s serve\" running there? set AGENTNET_URL for another address)", errUnreachable, o.URL, err, env.Program)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxOfficeReply))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		var p struct {
			Code   wire.Code `json:"code"`
			Detail string    `json:"detail"`
			Retry  int64     `json:"retry_after_ms"`
		}
		if json.Unmarshal(answer, &p) != nil || p.Code == "" {
			return fmt.Errorf("%s answers %s: is it a relay, and new enough for this command?", o.URL, resp.Status)
		}
		return &wire.Error{Code: p.Code, Message: p.Detail, RetryAfterMS: p.Retry}
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

type notifyList struct {
	office
	Limit int  `default:"20" help:"Deliveries to show, 1 to 1000."`
	JSON  bool `name:"json" help:"Print JSON."`
}

// notifyReply is the answer of /v1/notify.
type notifyReply struct {
	Channels []struct {
		Name    string `json:"name"`
		Kind    string `json:"kind"`
		Target  string `json:"target"`
		Least   string `json:"least"`
		Waiting int    `json:"waiting"`
		Dropped uint64 `json:"dropped"`
		Resting bool   `json:"resting"`
		Fault   string `json:"fault,omitempty"`
		SentMS  int64  `json:"last_sent_ms,omitempty"`
	} `json:"channels"`
	Deliveries []notifyDelivery `json:"deliveries"`
}

type notifyDelivery struct {
	ID       uint64  `json:"id"`
	TimeMS   int64   `json:"time_ms"`
	Message  string  `json:"message"`
	Channel  string  `json:"channel"`
	Kind     string  `json:"kind"`
	Target   string  `json:"target"`
	Title    string  `json:"title"`
	Severity string  `json:"severity"`
	Test     bool    `json:"test"`
	Outcome  string  `json:"outcome"`
	Tries    int     `json:"tries"`
	TookMS   float64 `json:"took_ms"`
	Answer   string  `json:"answer,omitempty"`
	Fault    string  `json:"fault,omitempty"`
}

// Run lists channels and deliveries.
func (c *notifyList) Run(ctx context.Context, env *Env) error {
	var reply notifyReply
	if c.Limit < 1 || c.Limit > 1000 {
		return usagef("--limit: want 1 to 1000, got %d", c.Limit)
	}
	if err := c.call(ctx, env, http.MethodGet, fmt.Sprintf("/v1/notify?limit=%d", c.Limit), nil, &reply); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(env.Stdout, reply)
	}
	if len(reply.Channels) == 0 {
		fmt.Fprintln(env.Stdout, "nobody is told: configure notify.targets; see \"agentnet config doc\"")
		return nil
	}
	t := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tKIND\tTARGET\tLEAST\tWAITING\tLAST SENT\tFAULT")
	for _, ch := range reply.Channels {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", ch.Name, ch.Kind, ch.Target, ch.Least, ch.Waiting, ago(ch.SentMS), printable(ch.Fault))
	}
	if len(reply.Deliveries) > 0 {
		fmt.Fprintln(t, "\nWHEN\tCHANNEL\tOUTCOME\tTRY\tTOOK\tTITLE\tANSWER")
	}
	for _, d := range reply.Deliveries {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%.0f ms\t%s\t%s\n", ago(d.TimeMS), d.Channel, d.Outcome, d.Tries, d.TookMS, printable(d.Title), printable(d.Answer+d.Fault))
	}
	return t.Flush()
}

type notifyTest struct {
	Name string `arg:"" help:"Name of the target, as in notify.targets."`
	office
	JSON bool `name:"json" help:"Print JSON."`
}

// errNotDelivered marks a test message that did not arrive.
var errNotDelivered = errors.New("the test message was not delivered")

// Run sends the test message.
func (c *notifyTest) Run(ctx context.Context, env *Env) error {
	var d notifyDelivery
	err := c.call(ctx, env, http.MethodPost, "/v1/notify/"+url.PathEscape(c.Name)+"/test", nil, &d)
	if e, ok := errors.AsType[*wire.Error](err); ok && e.Code == wire.NotFound {
		return usagef("no target is called %q; see \"agentnet notify list\"", c.Name)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(env.Stdout, d)
	} else {
		_, err = fmt.Fprintf(env.Stdout, "%s: %s (%s at %s), %.0f ms\n", d.Outcome, d.Channel, d.Kind, d.Target, d.TookMS)
		if err == nil && d.Answer != "" {
			_, err = fmt.Fprintf(env.Stdout, "answer: %s\n", printable(d.Answer))
		}
	}
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if d.Outcome != "sent" {
		return fmt.Errorf("%w: %s", errNotDelivered, printable(d.Fault))
	}
	return nil
}
