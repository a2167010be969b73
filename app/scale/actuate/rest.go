package actuate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"agentnet/app/egress"
	"agentnet/app/scale"
)

// maxAnswer bounds an answer of a control plane, in bytes: a Swarm service with
// all its specification is far smaller.
const maxAnswer = 4 << 20

// fenceKey is under what name control planes keep the leader's number.
const fenceKey = "agentnet.fence"

// rest is a JSON API of a control plane.
type rest struct {
	base   string
	unix   string
	caFile string
	header func(ctx context.Context) (map[string]string, error)
	// advice says what to do about a refusal by its status; may be nil.
	advice func(status int) string
}

// do makes one call. The answer is decoded into a value unless that is nil; a
// status that is no success is an error, final unless it may pass by itself.
func (r *rest) do(ctx context.Context, method, path, kind string, body, into any) error {
	header := map[string]string{"Accept": "application/json"}
	if r.header != nil {
		more, err := r.header(ctx)
		if err != nil {
			return err
		}
		for name, value := range more {
			header[name] = value
		}
	}
	req := egress.Request{Method: method, URL: r.base + path, Header: header}
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return finally("", "encode the request: %w", err)
		}
		req.Body, header["Content-Type"] = raw, kind
	}
	client, err := r.client()
	if err != nil {
		return err
	}
	defer client.Close()
	reply, err := client.Call(ctx, req)
	if err != nil {
		return r.refusal(err)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Body, into); err != nil || reply.Cut {
		return finally("Is this the address of the control plane, and not of something in front of it?", "the answer of %s is not what was expected: %v", egress.Host(req.URL), err)
	}
	return nil
}

// client is made for each call: orders are rare, and certificates rotate.
func (r *rest) client() (*egress.Client, error) {
	cfg := egress.Config{Rules: egress.Rules{All: true}, Unix: r.unix, MaxReply: maxAnswer, Timeout: 20 * time.Second}
	if r.caFile != "" {
		pem, err := os.ReadFile(r.caFile)
		if err != nil {
			return nil, finally("", "certificate authority: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, finally("", "certificate authority: %s holds no PEM certificate", r.caFile)
		}
		cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return egress.New(cfg), nil
}

// refusal sorts an error of a call.
func (r *rest) refusal(err error) error {
	e, ok := errors.AsType[*egress.Error](err)
	if !ok || e.Status == 0 {
		return err
	}
	advice := ""
	if r.advice != nil {
		advice = r.advice(e.Status)
	}
	if e.Status == http.StatusConflict || e.Status == http.StatusPreconditionFailed {
		return fmt.Errorf("%w: %w", errConflict, err)
	}
	if egress.Retryable(err) {
		return err
	}
	return &final{err, advice}
}

// readToken reads a token file; platforms rotate its content.
func readToken(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", finally("Mount the token there, or name another file.", "token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || strings.ContainsAny(token, "\r\n \x00") {
		return "", finally("", "token: %s holds none", file)
	}
	return token, nil
}

// fenced refuses an Order whose leader is older than the one that the control
// plane has noted.
func fenced(noted string, o *scale.Order) error {
	if noted == "" {
		return nil
	}
	n, err := strconv.ParseUint(noted, 10, 64)
	if err == nil && n > o.Fence {
		return fmt.Errorf("%w: order of leader %d, the control plane has noted leader %d", scale.ErrFenced, o.Fence, n)
	}
	return nil
}
