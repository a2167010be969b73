package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"agentnet/app/egress"
)

// A Channel is one way to tell people.
type Channel struct {
	Name string // unique; told in the log and the API
	Kind string // one of Kinds
	// URL is where it goes: the webhook; ntfy's topic (https://ntfy.example/topic);
	// the root of Gotify or Alertmanager; smtp://host:587 or smtps://host:465.
	URL string

	Secret   string   // webhook: key of the signature
	Token    string   // ntfy, Gotify: access token; Alertmanager: bearer token
	User     string   // mail: for AUTH; ntfy, Alertmanager: basic authentication
	Password string   //
	From     string   // mail: sender's address
	To       []string // mail: receivers' addresses
	Plain    bool     // mail: go on without TLS where the server offers none; never with a password

	Least    Severity      // what is less is not told
	Ends     bool          // ends are told too
	Remind   time.Duration // what goes on is told again so often; 0: never
	Every    time.Duration // one message each at most, after Burst; defaults to 10 s
	Burst    int           // messages at once; defaults to 5
	Patience time.Duration // how long a message is tried; defaults to 1 h
}

// Kinds are the ways that there are.
var Kinds = []string{"webhook", "ntfy", "gotify", "smtp", "alertmanager"}

var channelName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

const (
	defaultEvery    = 10 * time.Second
	defaultBurst    = 5
	defaultPatience = time.Hour
	// alertmanagerRepeat keeps alerts alive there: what is not repeated resolves by
	// itself after five minutes.
	alertmanagerRepeat = time.Minute
)

// Validate joins every fault of the channel.
func (c *Channel) Validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !channelName.MatchString(c.Name) {
		fault("name: %.80q must be 1 to 64 of A-Z a-z 0-9 . _ -", c.Name)
	}
	if !slices.Contains(Kinds, c.Kind) {
		fault("kind: %.40q is not one of %s", c.Kind, strings.Join(Kinds, ", "))
		return errors.Join(errs...)
	}
	schemes := []string{"https", "http"}
	if c.Kind == "smtp" {
		schemes = []string{"smtp", "smtps"}
	}
	if u, err := url.Parse(c.URL); err != nil || u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) || u.User != nil {
		fault("url: want an address like %s://host/… without a user in it", schemes[0]) // its text may hold a secret
	} else if c.Kind == "ntfy" && strings.Trim(u.Path, "/") == "" {
		fault("url: name the topic, like https://ntfy.example/alerts")
	}
	for _, v := range []string{c.Token, c.User, c.Password} {
		if strings.ContainsAny(v, "\r\n\x00") {
			fault("token, user or password: holds a line end")
			break
		}
	}
	switch c.Kind {
	case "gotify":
		if c.Token == "" {
			fault("token: needed: an application token of Gotify")
		}
	case "webhook":
		if c.Secret != "" && len(c.Secret) < 16 {
			fault("secret: has %d bytes, want at least 16: openssl rand -base64 32", len(c.Secret))
		}
	case "smtp":
		errs = append(errs, c.validateMail())
	}
	for _, d := range []time.Duration{c.Remind, c.Every, c.Patience} {
		if d < 0 || d > 7*24*time.Hour {
			fault("remind, every or patience: %v is not between 0 and 7 days", d)
		}
	}
	if c.Remind > 0 && c.Remind < time.Minute {
		fault("remind: %v is below a minute", c.Remind)
	}
	if c.Burst < 0 || c.Burst > 1000 {
		fault("burst: %d is not between 0 and 1000", c.Burst)
	}
	return errors.Join(errs...)
}

func (c *Channel) setDefaults() {
	if c.Every == 0 {
		c.Every = defaultEvery
	}
	if c.Burst == 0 {
		c.Burst = defaultBurst
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Kind == "alertmanager" {
		c.Remind, c.Ends = alertmanagerRepeat, true
	}
}

// takes reports whether m is told on this channel.
func (c *Channel) takes(m *Message) bool {
	return m.Test || m.Severity >= c.Least && (c.Ends || !m.Resolved)
}

// A sender carries one message to one target. It returns what was answered, for
// people. An error is retried when egress.Retryable says so.
type sender interface {
	send(ctx context.Context, m *Message) (answer string, err error)
}

func (c *Channel) sender(client *egress.Client, rules egress.Rules, text *Text) sender {
	switch c.Kind {
	case "webhook":
		return &webhook{c, client, text}
	case "ntfy":
		return &ntfy{c, client, text}
	case "gotify":
		return &gotify{c, client, text}
	case "smtp":
		return &mailer{c: c, rules: rules, text: text}
	}
	return &alertmanager{c, client, text}
}

// answered makes what an HTTP service answered a line for people.
func answered(r egress.Reply) string {
	if r.Status == 0 {
		return ""
	}
	text := fmt.Sprintf("%d", r.Status)
	if body := egress.Shorten(string(r.Body), maxAnswer); body != "" {
		text += " " + body
	}
	return text
}

// maxAnswer bounds what of an answer is kept, in bytes.
const maxAnswer = 1000
