package cli

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// publishCommand is `agentnet publish`.
type publishCommand struct {
	Channel string `arg:"" help:"Channel, such as news/eu."`
	Data    string `arg:"" help:"JSON, or text that is sent as a JSON string; - reads standard input."`

	connection
	content
	Key     string        `help:"Dedup key: the same key within two minutes is accepted once."`
	Timeout time.Duration `default:"15s" help:"Longest wait for the answer."`
	JSON    bool          `name:"json" help:"Print JSON."`
}

// Run publishes one message.
func (c *publishCommand) Run(ctx context.Context, env *Env) error {
	payload, err := c.payload(env, c.Data)
	if err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	if c.Key != "" {
		opts = append(opts, client.Key(c.Key))
	}
	conn, err := c.dial(ctx, env, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	at, err := conn.Publish(answer, c.Channel, payload, opts...)
	if err != nil {
		return fmt.Errorf("to %s: %w", c.Channel, err)
	}
	if c.JSON {
		return printJSON(env.Stdout, struct {
			Channel string `json:"channel"`
			wire.Since
		}{c.Channel, at})
	}
	_, err = fmt.Fprintf(env.Stdout, "published to %s as number %d\n", c.Channel, at.Offset)
	return err
}
