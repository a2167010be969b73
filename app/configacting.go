package app

import (
	"errors"
	"fmt"
	"os"
	"time"

	"agentnet/app/egress"
	"agentnet/app/notify"
	"agentnet/app/scale"
	"agentnet/app/scale/actuate"
)

// Actuate says how a scaling decision is carried out, where the mode is act.
type Actuate struct {
	Kind      string   `yaml:"kind" default:"advise" help:"advise (tell people only), webhook, command, kubernetes, swarm, compose, nomad or cloudrun."`
	DryRun    bool     `yaml:"dry_run" default:"false" negatable:"" help:"Ask and log what would be done, and change nothing."`
	URL       string   `yaml:"url" secret:"" help:"Where a webhook gets its orders, or the address of the API. Empty for kubernetes, that of the pod; for cloudrun, the public one; for swarm, the socket."`
	Secret    string   `yaml:"secret" secret:"" help:"Key of the HMAC-SHA256 in X-Agentnet-Signature that a webhook gets."`
	Token     string   `yaml:"token" secret:"" help:"Bearer token, or Nomad's. Empty: token_file, or what the platform gives."`
	TokenFile string   `yaml:"token_file" help:"File with the token, read again for each call. Empty for kubernetes: that of the service account."`
	CAFile    string   `yaml:"ca_file" name:"ca-file" help:"PEM file with the authority of the API. Empty for kubernetes: that of the service account."`
	Command   []string `yaml:"command" help:"Program and arguments for the kind command, run without a shell; it gets AGENTNET_FROM, AGENTNET_TO and more, and the order as JSON on its input."`
	Name      string   `yaml:"name" help:"Deployment, service or job that is scaled."`
	Resource  string   `yaml:"resource" default:"deployments" help:"What kubernetes scales, deployments or statefulsets."`
	Namespace string   `yaml:"namespace" help:"Namespace of kubernetes or nomad. Empty: that of the pod, the default one."`
	Group     string   `yaml:"group" help:"Task group of nomad."`
	Project   string   `yaml:"project" help:"Project of cloudrun, project name of compose."`
	Location  string   `yaml:"location" help:"Location of cloudrun, region of nomad."`
	Socket    string   `yaml:"socket" default:"/var/run/docker.sock" help:"Docker's socket, for swarm."`
	File      string   `yaml:"file" help:"File of compose."`
	Timeout   Duration `yaml:"timeout" default:"90s" help:"Longest time for one order, with all tries."`
	Pause     Duration `yaml:"pause" default:"10s" help:"Least time between two changes."`
}

// config is what package actuate makes of it. lease says whether this node still
// leads; most is the policy's upper bound.
func (a *Actuate) config(lease func() (uint64, bool), most int) actuate.Config {
	return actuate.Config{Kind: a.Kind, URL: a.URL, Secret: a.Secret, Token: a.Token, TokenFile: a.TokenFile, CAFile: a.CAFile, Command: a.Command,
		Name: a.Name, Resource: a.Resource, Namespace: a.Namespace, Group: a.Group, Project: a.Project, Location: a.Location, Socket: a.Socket,
		File: a.File, Max: most, Limits: actuate.Limits{Timeout: time.Duration(a.Timeout), Pause: time.Duration(a.Pause), DryRun: a.DryRun, Lease: lease}}
}

// NewActuator makes the actuator that is configured, for a person who tries it.
func (c *Config) NewActuator() (scale.Actuator, error) {
	return actuate.New(c.Actuate.config(nil, c.Scaling.Max))
}

func (a *Actuate) check(k *checker) {
	c := a.config(nil, 0)
	if err := c.Validate(); err != nil {
		k.fault("actuate", "%v", err)
	}
	k.readable("actuate.token_file", a.TokenFile)
	k.readable("actuate.ca_file", a.CAFile)
}

// Notify says whom to tell when something is amiss.
type Notify struct {
	Targets         []NotifyTarget `yaml:"targets" kong:"-" help:"Ways to tell people. Try one with \"agentnet notify test NAME\"."`
	AllowNetworks   []string       `yaml:"allow_networks" help:"Networks that notifications and heartbeats may go to besides public addresses, such as 10.0.0.0/8 or 127.0.0.1."`
	From            string         `yaml:"from" help:"Name of this deployment in notifications. Empty: node and region."`
	TemplateFile    string         `yaml:"template_file" help:"Go text template of the text; empty: plain words on what, since when, value and threshold, what to do."`
	HeartbeatURL    string         `yaml:"heartbeat_url" name:"heartbeat-url" secret:"" help:"Called while this node is well, so that a service outside notices when it no longer is. Empty: none."`
	HeartbeatEvery  Duration       `yaml:"heartbeat_every" default:"1m" help:"How often."`
	HeartbeatMethod string         `yaml:"heartbeat_method" default:"GET" help:"GET or POST."`
}

// A NotifyTarget is one way to tell people.
type NotifyTarget struct {
	Name     string   `yaml:"name" help:"Names it in the log and in commands."`
	Kind     string   `yaml:"kind" help:"webhook, ntfy, gotify, smtp or alertmanager."`
	URL      string   `yaml:"url" secret:"" help:"The webhook; ntfy's topic, such as https://ntfy.example/alerts; the root of Gotify or Alertmanager; smtp://host:587 (STARTTLS) or smtps://host:465."`
	Secret   string   `yaml:"secret" secret:"" help:"Webhook: key of the HMAC-SHA256 in X-Agentnet-Signature."`
	Token    string   `yaml:"token" secret:"" help:"ntfy, Gotify: access token; webhook, Alertmanager: bearer token."`
	User     string   `yaml:"user" help:"Mail: login; ntfy, Alertmanager: basic authentication."`
	Password string   `yaml:"password" secret:"" help:"And its password."`
	From     string   `yaml:"from" help:"Mail: sender's address."`
	To       []string `yaml:"to" help:"Mail: receivers' addresses."`
	Plain    bool     `yaml:"plain" default:"false" help:"Mail: go on without TLS where the server offers none; never with a password."`
	Least    string   `yaml:"least" default:"warning" help:"warning or critical: what is less is not told here."`
	Ends     bool     `yaml:"ends" default:"true" help:"Ends of alerts are told too."`
	Remind   Duration `yaml:"remind" default:"0" help:"What goes on is told again so often; 0: never."`
	Every    Duration `yaml:"every" default:"10s" help:"One message each at most, after a few at once; what comes in between is joined."`
}

// channel is what package notify makes of it.
func (t *NotifyTarget) channel() (notify.Channel, error) {
	c := notify.Channel{Name: t.Name, Kind: t.Kind, URL: t.URL, Secret: t.Secret, Token: t.Token, User: t.User, Password: t.Password,
		From: t.From, To: t.To, Plain: t.Plain, Ends: t.Ends, Remind: time.Duration(t.Remind), Every: time.Duration(t.Every)}
	err := c.Least.UnmarshalText([]byte(t.Least))
	return c, errors.Join(err, c.Validate())
}

// check reports what is wrong with the part that acts on the outside.
func (n *Notify) check(k *checker) {
	if len(n.Targets) > notify.MaxChannels {
		k.fault("notify.targets", "%d given, want at most %d", len(n.Targets), notify.MaxChannels)
	}
	seen := make(map[string]bool)
	for i := range n.Targets {
		t := &n.Targets[i]
		key := fmt.Sprintf("notify.targets[%d]", i)
		if _, err := t.channel(); err != nil {
			k.fault(key, "%v", err)
		}
		if seen[t.Name] {
			k.fault(key+".name", "%q is given twice", t.Name)
		}
		seen[t.Name] = true
	}
	if _, err := egress.ParseNetworks(n.AllowNetworks); err != nil {
		k.fault("notify.allow_networks", "%v", err)
	}
	if _, err := n.template(); err != nil {
		k.fault("notify.template_file", "%v", err)
	}
	if n.HeartbeatURL != "" && egress.Host(n.HeartbeatURL) == "the target" {
		k.fault("notify.heartbeat_url", "want an address like https://hc.example/ping/…")
	}
	k.lasts("notify.heartbeat_every", n.HeartbeatEvery, time.Second, 24*time.Hour)
	k.oneOf("notify.heartbeat_method", n.HeartbeatMethod, "GET", "POST")
}

// template reads the template of texts; "" is the default one.
func (n *Notify) template() (string, error) {
	if n.TemplateFile == "" {
		return "", nil
	}
	source, err := os.ReadFile(n.TemplateFile)
	if err != nil {
		return "", err
	}
	if len(source) > 64<<10 {
		return "", fmt.Errorf("has %d bytes, want at most 64 KiB", len(source))
	}
	_, err = notify.NewText(string(source))
	return string(source), err
}
