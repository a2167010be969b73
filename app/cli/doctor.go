package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"agentnet/app"
	"agentnet/app/doctor"
)

// doctorCommand is `agentnet doctor`.
type doctorCommand struct {
	URL      string        `placeholder:"URL" help:"Address that clients use, with the proxy in front (AGENTNET_URL). Default: public_url, else the relay that runs on the data directory."`
	AdminKey string        `name:"token" env:"AGENTNET_TOKEN" placeholder:"TOKEN" help:"Token of an admin, to learn more of a proxy; better given as AGENTNET_TOKEN."`
	CA       string        `name:"ca" placeholder:"FILE" help:"PEM file with the certificate authority of the relay, when it is a private one."`
	Idle     time.Duration `default:"0" help:"Also leave a connection alone for so long, such as 70s, to see whether a proxy cuts it. Needs --token."`
	JSON     bool          `name:"json" help:"Print the findings as JSON."`
	nodeFlags
}

// errFindings says that the doctor found something that does not work.
var errFindings = errors.New("something does not work")

// Run examines this machine and the relay. It ends with 1 when a check failed.
func (c *doctorCommand) Run(ctx context.Context, env *Env, parsed *kong.Context) error {
	if c.Idle < 0 || c.Idle > 10*time.Minute {
		return usagef("--idle: want 0 to 10m")
	}
	cfg, err := c.effective(env, parsed)
	if err != nil {
		return err
	}
	record, running := runningNode(ctx, cfg.Data)
	if running {
		cfg.Adopt(record)
	}
	d := cfg.Doctor()
	d.URL, d.Token, d.CA, d.Idle = c.URL, c.AdminKey, c.CA, c.Idle
	if cfg.HiddenRedis() {
		d.Redis = ""
	}
	if running {
		d.PID, d.Running = record.PID, true
	}
	if d.URL == "" && (running || cfg.PublicURL != "") {
		if d.URL = cfg.PublicURL; d.URL == "" {
			d.URL = record.URL
		}
	}
	found := doctor.Run(ctx, d)
	if cfg.HiddenRedis() {
		for i := range found {
			if found[i].Group == "redis" {
				found[i].Evidence = "the relay uses " + cfg.Redis + ", whose password is not known here; give the configuration with --config, or --redis"
			}
		}
	}
	if err := c.print(env, found); err != nil {
		return err
	}
	if doctor.Worst(found) == doctor.Fail {
		return errFindings
	}
	return nil
}

// runningNode reads the note of the node on the data directory and asks whether
// it lives.
func runningNode(ctx context.Context, dir string) (app.Record, bool) {
	record, err := app.ReadRecord(dir)
	if err != nil {
		return record, false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, client, err := (&healthCommand{dataFlag: dataFlag{Data: dir}}).target(&Env{})
	if err != nil {
		return record, false
	}
	var health struct{ Status string }
	status, err := ask(ctx, client, record.URL+"/healthz", &health)
	return record, err == nil && status == http.StatusOK && health.Status == "ok"
}

// print writes the findings, the bad ones with what to do.
func (c *doctorCommand) print(env *Env, found []doctor.Finding) error {
	if c.JSON {
		text, err := json.MarshalIndent(struct {
			Result   doctor.Result    `json:"result"`
			Findings []doctor.Finding `json:"findings"`
		}{doctor.Worst(found), found}, "", " ")
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		_, err = fmt.Fprintln(env.Stdout, string(text))
		return err
	}
	var b strings.Builder
	counts := map[doctor.Result]int{}
	group := ""
	for _, f := range found {
		counts[f.Result]++
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&b, "%s\n", group)
		}
		fmt.Fprintf(&b, "  %-8s%s: %s\n", mark(f.Result), f.Title, f.Evidence)
		if f.Fix != "" {
			fmt.Fprintf(&b, "          → %s\n", f.Fix)
		}
	}
	fmt.Fprintf(&b, "\n%d well, %d to be looked at, %d wrong, %d not looked at\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail], counts[doctor.Skipped])
	_, err := fmt.Fprint(env.Stdout, b.String())
	return err
}

func mark(r doctor.Result) string {
	switch r {
	case doctor.OK:
		return "ok"
	case doctor.Warn:
		return "WARN"
	case doctor.Fail:
		return "FAIL"
	}
	return "–"
}
