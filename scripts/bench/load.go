package main

import (
	"context"
	"os"

	"agentnet/app/bench"
)

// loadCommand is the load generator with a choice of protocol.
type loadCommand struct {
	Server string `default:"agentnet" enum:"agentnet,nats,centrifuge" help:"Which protocol to speak: ${enum}."`

	bench.Command `embed:""`
}

// Run makes the load and prints the report.
func (c *loadCommand) Run(ctx context.Context) error {
	switch c.Server {
	case "nats":
		c.NewDialect = func() (bench.Dialect, error) { return &natsDialect{}, nil }
	case "centrifuge":
		c.NewDialect = func() (bench.Dialect, error) { return &centrifugeDialect{}, nil }
	}
	return c.Command.Run(ctx, os.Stdout)
}
