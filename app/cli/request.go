package cli

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/client"
)

// requestCommand is `agentnet request`.
type requestCommand struct {
	To     string `arg:"" help:"Agent that answers."`
	Method string `arg:"" help:"What is asked, as the agent names it."`
	Data   string `arg:"" optional:"" default:"null" help:"JSON, or text that is sent as a JSON string; - reads standard input."`

	connection
	content
	Timeout time.Duration `default:"30s" help:"Longest wait for the whole answer."`
	JSON    bool          `name:"json" help:"Print one JSON object for each piece of the answer, with its sender."`
}

type replyJSON struct {
	From string `json:"from"`
	payloadJSON
	More bool `json:"more,omitempty"`
}

// Run asks and prints the answer, piece by piece as it comes.
func (c *requestCommand) Run(ctx context.Context, env *Env) error {
	payload, err := c.payload(env, c.Data)
	if err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	conn, err := c.dial(ctx, env, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	opts = append(opts, client.Timeout(c.Timeout))
	for r, err := range conn.RequestStream(ctx, c.To, c.Method, payload, opts...) {
		if err != nil {
			return err
		}
		switch {
		case c.JSON:
			err = printJSON(env.Stdout, replyJSON{r.From, payloadOf(r.Payload), r.More})
		case r.Payload.Binary:
			_, err = env.Stdout.Write(r.Payload.Data)
		case len(r.Payload.Data) > 0:
			_, err = fmt.Fprintf(env.Stdout, "%s\n", r.Payload.Data)
		}
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return nil
}
