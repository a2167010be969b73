package cli

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"

	"agentnet/app"
)

// start makes the node of serve and demo.
func (e *Env) start(ctx context.Context, cfg app.Config, log *slog.Logger, options ...app.Option) (Node, error) {
	if e.Start != nil {
		return e.Start(ctx, cfg, log)
	}
	return app.New(ctx, cfg, log, append(options, app.WithVersion(e.Version))...)
}

// ProgramName is how a person would start the program that argv0 names again: a
// binary that `go run` built is gone a moment later.
func ProgramName(argv0 string) string {
	if strings.Contains(filepath.ToSlash(argv0), "/go-build") {
		return "go run ."
	}
	if argv0 == "" {
		return "agentnet"
	}
	return quote(argv0)
}

// IsTerminal says whether a person reads what is written to f.
func IsTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()) }
