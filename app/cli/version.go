package cli

import (
	"fmt"
	"runtime"
)

// versionCommand is `agentnet version`.
type versionCommand struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// Run prints the version.
func (c *versionCommand) Run(env *Env) error {
	if c.JSON {
		return printJSON(env.Stdout, map[string]string{
			"version": env.Version, "commit": env.Commit, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
		})
	}
	_, err := fmt.Fprintf(env.Stdout, "agentnet %s (%s, %s, %s/%s)\n", env.Version, env.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
