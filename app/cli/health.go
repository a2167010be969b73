package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"agentnet/app"
)

// healthCommand is `agentnet health`.
type healthCommand struct {
	dataFlag
	URL     string        `placeholder:"URL" help:"Base address of the relay (AGENTNET_URL). Default: what the relay on the data directory noted there; where no directory was named either, http://127.0.0.1:8080."`
	Ready   bool          `help:"Fail also when the relay lives but wants no traffic."`
	CA      string        `name:"ca" placeholder:"FILE" help:"PEM file with the certificate authority of the relay, when it is a private one."`
	Timeout time.Duration `default:"3s" help:"Longest wait for the answer."`
	Quiet   bool          `short:"q" help:"Print nothing."`
}

// errUnhealthy is told by the exit code 1.
var errUnhealthy = errors.New("the relay is not well")

// Run asks a relay how it is.
func (c *healthCommand) Run(ctx context.Context, env *Env) error {
	if c.Timeout <= 0 {
		return usagef("--timeout: want a time above 0")
	}
	if c.Quiet {
		env.Stdout, env.Stderr = io.Discard, io.Discard
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	base, client, err := c.target(env)
	if err != nil {
		return err
	}
	var health struct{ Status, Version string }
	if _, err := ask(ctx, client, base+"/healthz", &health); err != nil {
		return err
	}
	if health.Status != "ok" {
		return fmt.Errorf("%w: %s/healthz is no answer of a relay", errUnhealthy, base)
	}
	var ready struct {
		Ready   bool
		Reasons []struct {
			Check, Message string
			OK             bool
		}
	}
	if _, err := ask(ctx, client, base+"/readyz", &ready); err != nil {
		return err
	}
	if ready.Ready {
		fmt.Fprintf(env.Stdout, "ok: %s lives and is ready (version %s)\n", base, health.Version)
		return nil
	}
	var why []string
	for _, r := range ready.Reasons {
		if !r.OK {
			why = append(why, strings.TrimSuffix(r.Check+": "+r.Message, ": "))
		}
	}
	if c.Ready {
		return fmt.Errorf("%w: it lives and is not ready: %s", errUnhealthy, strings.Join(why, "; "))
	}
	fmt.Fprintf(env.Stdout, "ok: %s lives, and is not ready: %s\n", base, strings.Join(why, "; "))
	return nil
}

// target decides whom to ask. The certificate of a relay that is reached by its
// loopback address, as it noted itself, cannot name that address: it is not
// verified, and nothing secret is sent.
func (c *healthCommand) target(env *Env) (base string, client *http.Client, err error) {
	config := &tls.Config{}
	base = c.URL
	if base == "" {
		if base, err = c.noted(env); err != nil {
			return "", nil, err
		}
		config.InsecureSkipVerify = base != defaultBase
	}
	if c.CA != "" {
		if config.RootCAs, err = readCA(c.CA); err != nil {
			return "", nil, err
		}
	}
	if !strings.HasPrefix(base, "http://") && !strings.HasPrefix(base, "https://") {
		return "", nil, usagef("--url: %q must begin with http:// or https://", base)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	return strings.TrimSuffix(base, "/"), &http.Client{Transport: transport}, nil
}

// defaultBase is where a relay listens that was told nothing.
const defaultBase = "http://127.0.0.1:8080"

// noted is the address that the relay on the data directory wrote down. Whoever names
// a directory asks of the relay there: with no note of one, another that happens to
// listen at the usual address is no answer.
func (c *healthCommand) noted(env *Env) (string, error) {
	dir := c.dir(env)
	r, err := app.ReadRecord(dir)
	switch {
	case err == nil:
		return r.URL, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: the note of the relay on %s cannot be read: %w", errUnreachable, dir, err)
	case c.Data != "" || env.Getenv("AGENTNET_DATA") != "":
		return "", fmt.Errorf("%w: no relay runs on %s: it holds no note of one; nothing else was asked (name an address with --url)", errUnreachable, dir)
	}
	fmt.Fprintf(env.Stderr, "agentnet: no relay noted itself on %s; asking %s instead\n", dir, defaultBase)
	return defaultBase, nil
}

// dir is the data directory that is meant.
func (d *dataFlag) dir(env *Env) string {
	if d.Data == "" {
		return app.DataDir(env.Getenv)
	}
	return d.Data
}

// ask gets JSON. 200 and 503 are answers of a relay, anything else is none.
func ask(ctx context.Context, client *http.Client, url string, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, usagef("%v", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return 0, fmt.Errorf("%s did not answer in time: %w", url, context.DeadlineExceeded)
		}
		return 0, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return resp.StatusCode, fmt.Errorf("%w: %s answers %s", errUnhealthy, url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(into); err != nil {
		return resp.StatusCode, fmt.Errorf("%w: %s is no answer of a relay: %v", errUnhealthy, url, err)
	}
	return resp.StatusCode, nil
}
