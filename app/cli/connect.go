package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// errUnreachable marks that no relay answered at all.
var errUnreachable = errors.New("no relay answers")

// connection are the flags of every command that connects to a relay.
type connection struct {
	URL      string        `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Base address of the relay (AGENTNET_URL)."`
	Token    string        `placeholder:"TOKEN" help:"Token; better given as AGENTNET_TOKEN, since other users can see the command line."`
	Agent    string        `aliases:"as" placeholder:"NAME" help:"Who to be, when the token covers several agents (AGENTNET_AGENT)."`
	Encoding string        `default:"json" enum:"json,protobuf" help:"Frames as ${enum}."`
	CA       string        `name:"ca" placeholder:"FILE" help:"PEM file with the certificate authority of the relay, when it is a private one."`
	Wait     time.Duration `default:"10s" help:"Longest wait for the connection."`
}

// dial connects, with what the command adds to the configuration.
func (c *connection) dial(ctx context.Context, env *Env, add func(*client.Config)) (*client.Client, error) {
	if c.Token == "" {
		return nil, usagef("no token: set AGENTNET_TOKEN, made with \"%s token create --agent NAME\"", env.Program)
	}
	cfg := client.Config{
		URL: c.URL, Token: c.Token, Agent: c.Agent, Name: "agentnet-cli", Version: env.Version,
		Backoff: client.Backoff{Min: 250 * time.Millisecond, Max: 15 * time.Second},
	}
	if c.Encoding == "protobuf" {
		cfg.Encoding = wire.Protobuf
	}
	if c.CA != "" {
		pool, err := readCA(c.CA)
		if err != nil {
			return nil, err
		}
		cfg.TLS = &tls.Config{RootCAs: pool}
	}
	if add != nil {
		add(&cfg)
	}
	if !cfg.Patient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Wait)
		defer cancel()
	}
	conn, err := client.Dial(ctx, cfg)
	if err == nil {
		return conn, nil
	}
	if refused(err) || ctx.Err() == context.Canceled {
		return nil, err
	}
	if strings.HasPrefix(err.Error(), "client config") {
		return nil, usagef("%v", err)
	}
	return nil, fmt.Errorf("%w at %s: %w (is \"%s serve\" running there? set AGENTNET_URL for another address)", errUnreachable, c.URL, err, env.Program)
}

// refused says that a relay answered, and said no.
func refused(err error) bool {
	if _, ok := errors.AsType[*wire.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*client.CloseError](err); ok {
		return true
	}
	h, ok := errors.AsType[*client.HandshakeError](err)
	return ok && (h.Problem.Code != "" || h.Status == 401 || h.Status == 403)
}

func readCA(name string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("--ca: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("--ca: %s holds no PEM certificate", name)
	}
	return pool, nil
}

// maxInput bounds what is read from standard input for one message; the relay's
// own limit is told when the connection is there.
const maxInput = 16 << 20

// content are the flags of what a message carries.
type content struct {
	Raw      bool     `aliases:"bytes" help:"Send DATA as raw bytes, not as JSON."`
	Priority string   `default:"normal" enum:"critical,high,normal,low" help:"${enum}."`
	Header   []string `placeholder:"NAME=VALUE" sep:"none" help:"Header that travels with it; may be given several times."`
}

// payload makes a payload of DATA; "-" is standard input. JSON is sent as it is,
// any other text as a JSON string.
func (c *content) payload(env *Env, data string) (wire.Payload, error) {
	text := []byte(data)
	if data == "-" {
		var err error
		if text, err = io.ReadAll(io.LimitReader(env.Stdin, maxInput+1)); err != nil {
			return wire.Payload{}, fmt.Errorf("standard input: %w", err)
		}
		if len(text) > maxInput {
			return wire.Payload{}, usagef("standard input: more than %d bytes; send it in pieces", maxInput)
		}
	}
	if c.Raw {
		return client.Bytes(text), nil
	}
	return asJSON(text)
}

// asJSON takes JSON as it is and quotes any other text.
func asJSON(text []byte) (wire.Payload, error) {
	if json.Valid(text) {
		return client.RawJSON(text), nil
	}
	return client.JSON(strings.TrimSuffix(string(text), "\n"))
}

// options are those of the flags.
func (c *content) options() ([]client.Option, error) {
	class, err := wire.ParseClass(c.Priority)
	if err != nil {
		return nil, usagef("--priority: %v", err)
	}
	opts := []client.Option{client.Priority(class)}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return nil, usagef("--header: %q is not NAME=VALUE", h)
		}
		opts = append(opts, client.Header(name, value))
	}
	return opts, nil
}

// shownData is a payload for a person: JSON or text as it is, bytes in base64.
func shownData(p wire.Payload) string {
	if p.Binary {
		return "base64:" + base64.StdEncoding.EncodeToString(p.Data)
	}
	return string(p.Data)
}

// printJSON writes v as one line.
func printJSON(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	return nil
}

// payloadJSON holds a payload in printed objects.
type payloadJSON struct {
	Data  json.RawMessage `json:"data,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

func payloadOf(p wire.Payload) payloadJSON {
	if p.Binary {
		return payloadJSON{Bytes: p.Data}
	}
	return payloadJSON{Data: p.Data}
}
