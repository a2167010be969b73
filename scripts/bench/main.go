// Command bench runs this project's relay and its peers, the nats-server and the
// centrifuge library, under the same load by the same generator, and records the
// figures side by side.
//
// It is a module of its own, so that neither peer is a dependency of the product.
// The load generator is that of `agentnet bench`; this program adds the two
// protocols that the peers speak. It is run by scripts/bench.sh.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run a peer in this process."`
	Load    loadCommand    `cmd:"" help:"Make load, like agentnet bench, in the protocol of --server."`
	Compare compareCommand `cmd:"" help:"Run all servers through all work and write a record."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var c commands
	k := kong.Parse(&c, kong.Name("bench"), kong.BindTo(ctx, (*context.Context)(nil)))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
