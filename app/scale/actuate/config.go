package actuate

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Kinds are the ways of acting, the default first.
var Kinds = []string{"advise", "webhook", "command", "kubernetes", "swarm", "compose", "nomad", "cloudrun"}

// Config chooses a way and says what it needs. Fields that the kind does not use
// are left empty.
type Config struct {
	Kind   string
	Limits Limits

	// URL is the webhook; the address of the API server (empty: that of the pod),
	// Nomad or Cloud Run (empty: the public one).
	URL    string
	Secret string // webhook: key of the signature
	Token  string // bearer token; Nomad's token. Empty: what the platform gives.

	// TokenFile and CAFile are read again for each call, because platforms rotate
	// them. Empty: those of the service account (Kubernetes).
	TokenFile, CAFile string

	Command []string // command: program and arguments; no shell
	Env     []string // command: NAME=VALUE added to PATH and HOME

	Name      string // Deployment, service or job
	Resource  string // Kubernetes: deployments (default) or statefulsets
	Namespace string // Kubernetes, Nomad; empty: that of the pod, or "default"
	Group     string // Nomad: task group
	Project   string // Cloud Run: project; Compose: project name
	Location  string // Cloud Run; Nomad: region
	Socket    string // Swarm: path of Docker's socket
	File      string // Compose: file
	Docker    string // Compose: program; "docker"
	Max       int    // Cloud Run: upper bound that is written beside the lower one; 0: left alone
	Metadata  string // Cloud Run: address of the metadata server; empty: the public one
}

var simpleName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// Validate joins every fault.
func (c *Config) Validate() error {
	kind := cmp.Or(c.Kind, "advise")
	if !slices.Contains(Kinds, kind) {
		return fmt.Errorf("kind: %.40q is not one of %s", c.Kind, strings.Join(Kinds, ", "))
	}
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	needs := func(what, value string) {
		if !simpleName.MatchString(value) {
			fault("%s: needed for %s: letters, digits, . _ - (got %.60q)", what, kind, value)
		}
	}
	if c.URL != "" || kind == "webhook" || kind == "nomad" {
		if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" && kind != "webhook" {
			fault("url: want an address like https://host, without a user in it")
		}
	}
	switch kind {
	case "webhook":
		if len(c.Secret) > 0 && len(c.Secret) < 16 {
			fault("secret: has %d bytes, want at least 16: openssl rand -base64 32", len(c.Secret))
		}
	case "command":
		if len(c.Command) == 0 || c.Command[0] == "" {
			fault("command: needed: a program and its arguments, as a list")
		}
		for _, v := range c.Env {
			if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
				fault("env: want NAME=VALUE")
			}
		}
	case "kubernetes":
		needs("name", c.Name)
		if r := cmp.Or(c.Resource, "deployments"); r != "deployments" && r != "statefulsets" {
			fault("resource: %.40q is neither deployments nor statefulsets", c.Resource)
		}
		if c.Namespace != "" {
			needs("namespace", c.Namespace)
		}
	case "swarm", "compose":
		needs("name", c.Name)
	case "nomad":
		needs("name", c.Name)
		needs("group", c.Group)
	case "cloudrun":
		needs("name", c.Name)
		needs("project", c.Project)
		needs("location", c.Location)
		if c.Max < 0 {
			fault("max: %d is negative", c.Max)
		}
	}
	l := &c.Limits
	for _, d := range []time.Duration{l.Timeout, l.Pause} {
		if d < 0 || d > 10*time.Minute {
			fault("timeout or pause: %v is not between 0 and 10 minutes", d)
		}
	}
	return errors.Join(errs...)
}

// New makes the Actuator that the configuration names.
func New(c Config) (*Keeper, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("actuator: %w", err)
	}
	var w way
	switch cmp.Or(c.Kind, "advise") {
	case "webhook":
		w = newWebhook(&c)
	case "command":
		w = &command{argv: c.Command, env: c.Env}
	case "kubernetes":
		w = newKubernetes(&c)
	case "swarm":
		w = newSwarm(&c)
	case "compose":
		w = &compose{c: &c}
	case "nomad":
		w = newNomad(&c)
	case "cloudrun":
		w = newCloudRun(&c)
	default:
		w = advise{}
	}
	return newKeeper(w, c.Limits), nil
}
