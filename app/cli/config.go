package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"agentnet/app"
)

// configCommands are `agentnet config …`.
type configCommands struct {
	Check configCheck `cmd:"" help:"Say whether a configuration is right."`
	Dump  configDump  `cmd:"" help:"Print the configuration that serve would use with the same flags; secrets are hidden."`
	Doc   configDoc   `cmd:"" help:"Print every key with its meaning and default, as a file to start from."`
}

type configCheck struct {
	File string `arg:"" optional:"" help:"Configuration file; AGENTNET_CONFIG without it."`
}

type configDump struct {
	nodeFlags
}

type configDoc struct{}

// nodeFlags are the flags of serve.
type nodeFlags struct {
	ConfigFile string     `name:"config" placeholder:"FILE" help:"Configuration file in YAML."`
	Node       app.Config `embed:""`
}

// effective puts defaults, file, environment and flags together, each counting
// before the one in front of it.
func (f *nodeFlags) effective(env *Env, parsed *kong.Context) (app.Config, error) {
	given := map[string]bool{}
	for _, p := range parsed.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag.Name] = true
		}
	}
	return loadConfig(env, f.ConfigFile, func(cfg *app.Config) {
		cfg.Take(&f.Node, func(flag string) bool { return given[flag] })
	})
}

func loadConfig(env *Env, file string, flags func(*app.Config)) (app.Config, error) {
	cfg := app.DefaultConfig()
	var faults []error
	if file == "" {
		file = env.Getenv("AGENTNET_CONFIG")
	}
	if file != "" {
		if err := cfg.ReadFile(file); err != nil {
			faults = append(faults, err)
		}
	}
	faults = append(faults, cfg.ApplyEnv(env.Getenv)...)
	if flags != nil {
		flags(&cfg)
	}
	if cfg.Data == "" {
		cfg.Data = app.DataDir(env.Getenv)
	}
	if err := cfg.Validate(); err != nil {
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return cfg, usagef("the configuration is not right:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return cfg, nil
}

// Run checks a configuration.
func (c *configCheck) Run(env *Env) error {
	if _, err := loadConfig(env, c.File, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintln(env.Stdout, "the configuration is right")
	return err
}

// Run prints the effective configuration.
func (c *configDump) Run(env *Env, parsed *kong.Context) error {
	cfg, err := c.effective(env, parsed)
	if err != nil {
		return err
	}
	return cfg.WriteYAML(env.Stdout)
}

// Run prints the documented configuration.
func (c *configDoc) Run(env *Env) error { return app.WriteDoc(env.Stdout) }
