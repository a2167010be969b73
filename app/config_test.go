package app

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
	if c.Queue.Bytes != 1<<20 || time.Duration(c.Session.Resume) != 2*time.Minute || c.Listen != "127.0.0.1:8080" {
		t.Errorf("got defaults %+v", c)
	}
	for _, list := range []any{&ChannelRule{}, &Issuer{}} {
		applyDefaults(reflect.ValueOf(list).Elem()) // panics when a tag cannot be read
	}
}

// TestEveryFieldIsNamedAndExplained also holds that values go to text and back.
func TestEveryFieldIsNamedAndExplained(t *testing.T) {
	c := DefaultConfig()
	flags := map[string]string{}
	for _, f := range c.Fields() {
		if f.Key == "" || strings.HasSuffix(f.Key, ".") || f.Help == "" {
			t.Errorf("field %+v has no key or no help", f)
		}
		if !strings.HasSuffix(f.Help, ".") || len(f.Help) < 8 {
			t.Errorf("%s: help %q is no sentence", f.Key, f.Help)
		}
		if other, taken := flags[f.Flag]; taken {
			t.Errorf("%s and %s have the same flag", f.Key, other)
		}
		flags[f.Flag] = f.Key
		if f.OnlyIn {
			continue
		}
		if err := f.Set(f.Text()); err != nil {
			t.Errorf("%s: its own text %q cannot be read: %v", f.Key, f.Text(), err)
		}
	}
	if d := DefaultConfig(); !reflect.DeepEqual(normal(c), normal(d)) {
		t.Errorf("setting each value to its own text changed something:\n%+v\n%+v", c, d)
	}
}

// normal takes away the difference between a nil and an empty list.
func normal(c Config) string { return fmt.Sprintf("%+v", c) }

// TestDocIsAConfiguration reads what `config doc` prints: as it is, and with every
// key uncommented. Both must be the defaults.
func TestDocIsAConfiguration(t *testing.T) {
	var doc bytes.Buffer
	if err := WriteDoc(&doc); err != nil {
		t.Fatal(err)
	}
	uncommented := regexp.MustCompile(`(?m)^( *)# ([a-z_]+: .*)$`).ReplaceAllString(doc.String(), "$1$2")
	for name, text := range map[string]string{"as it is": doc.String(), "uncommented": uncommented} {
		c := DefaultConfig()
		c.Node, c.Queue.Frames = "n1", 1024
		if err := c.ReadYAML("doc.yaml", []byte(text)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := DefaultConfig(); normal(c) != normal(d) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, c, d)
		}
	}
	c := DefaultConfig()
	for _, f := range c.Fields() {
		last := f.Key[strings.LastIndex(f.Key, ".")+1:]
		if !strings.Contains(doc.String(), last+":") {
			t.Errorf("the document does not name %s", f.Key)
		}
		if !f.OnlyIn && (!strings.Contains(doc.String(), "--"+f.Flag) || !strings.Contains(doc.String(), f.Env)) {
			t.Errorf("the document does not name the flag and the variable of %s", f.Key)
		}
		if strings.Count(uncommented, last+": ") == 0 && !f.OnlyIn {
			t.Errorf("%s was not uncommented: the test proves less than it should", f.Key)
		}
	}
	if !strings.Contains(doc.String(), "recent_count: 256") || !strings.Contains(doc.String(), "jwks_url") {
		t.Error("the document does not explain what rules hold")
	}
}

const fullFile = `
node: "n2"   # a comment
trusted_proxies: [10.0.0.0/8, "::1"]
origins: https://app.example
limits: {frame_bytes: 128KiB, max_ttl: 2d, messages_per_s: 2.5}
session:
  resume: 90s
compression: true
channels:
  - match: ["news/**"]
    policy: disconnect
    keep_count: 500
  - match: jobs
auth:
  jwt:
    - issuer: https://issuer.example
      audience: [agentnet]
`

func TestReadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "agentnet.yaml")
	if err := os.WriteFile(name, []byte(fullFile), 0o600); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	if err := c.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	got := fmt.Sprint(c.Node, c.TrustedProxies, c.Origins, c.Limits.FrameBytes, c.Limits.MaxTTL, c.Limits.MessagesPerS,
		c.Session.Resume, c.Compression, c.Queue.Frames)
	if want := "n2[10.0.0.0/8 ::1] [https://app.example] 128KiB 2d 2.5 1m30s true 1024"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(c.Channels) != 2 || c.Channels[0].Policy != "disconnect" || c.Channels[1].Policy != "drop_oldest" ||
		c.Channels[1].RecentCount != 256 || c.Channels[1].Match[0] != "jobs" {
		t.Errorf("got channel rules %+v", c.Channels)
	}
	if len(c.Auth.JWT) != 1 || c.Auth.JWT[0].Claim != "agentnet" {
		t.Errorf("got issuers %+v", c.Auth.JWT)
	}
	if err := c.ReadFile(filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("took a file that does not exist")
	}
	if err := os.WriteFile(name, bytes.Repeat([]byte("#\n"), maxConfigFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadFile(name); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v for a file of 2 MiB, want a refusal", err)
	}
}

func TestFaultsOfAFile(t *testing.T) {
	for text, want := range map[string]string{
		"lisen: x":                         `f:1: unknown key lisen; did you mean listen?`,
		"\nqueue:\n  frame: 1":             `f:3: unknown key queue.frame; did you mean queue.frames?`,
		"zzzzzzzz: 1":                      `f:1: unknown key zzzzzzzz; "agentnet config doc" lists all`,
		"node: [a, b]":                     `f:1: node: want one value`,
		"node: {a: b}":                     `f:1: node: want one value`,
		"queue: 7":                         `f:1: queue: want keys and values below it`,
		"queue: [a]":                       `f:1: queue: want keys and values below it`,
		"channels: news":                   `f:1: channels: want a list, each entry beginning with "- "`,
		"channels: [news]":                 `f:1: channels[0]: want keys and values below it`,
		"channels:\n - match: a\n   x: 1":  `f:3: unknown key channels[0].x`,
		"compression: maybe":               `f:1: compression: "maybe" is neither true nor false`,
		"queue: {frames: 1.5}":             `f:1: queue.frames: "1.5" is no whole number`,
		"session: {resume: 2}":             `f:1: session.resume: "2" is no duration`,
		"origins: [[a]]":                   `f:1: origins: want a list of single values`,
		"- a\n- b":                         `f:1: the file: want keys and values below it`,
		"node: a\n---\nnode: b":            `holds 2 documents`,
		"node: *nowhere":                   `f`,
		"a: b: c":                          `f: not valid YAML`,
		"limits: {header_bytes: 999999GB}": `f:1: limits.header_bytes`,
	} {
		c := DefaultConfig()
		err := c.ReadYAML("f", []byte(text))
		if err == nil {
			err = c.Validate()
			if !strings.Contains(fmt.Sprint(err), "header_bytes") {
				t.Errorf("%q was taken", text)
			}
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	vars := map[string]string{
		"AGENTNET_QUEUE_SLOW_AFTER": "3s", "AGENTNET_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
		"AGENTNET_METRICS_PUBLIC": "true", "AGENTNET_TLS_CERT": "c.pem",
	}
	c := DefaultConfig()
	if faults := c.ApplyEnv(func(name string) string { return vars[name] }); len(faults) != 0 {
		t.Fatal(faults)
	}
	if got := fmt.Sprint(c.Queue.SlowAfter, c.TrustedProxies, c.Metrics.Public, c.TLS.Cert); got != "3s [10.0.0.0/8 ::1] truec.pem" {
		t.Errorf("got %s", got)
	}
	vars = map[string]string{"AGENTNET_QUEUE_BYTES": "lots", "AGENTNET_LIMITS_PENDING": "-"}
	if faults := c.ApplyEnv(func(name string) string { return vars[name] }); len(faults) != 2 || !strings.HasPrefix(faults[0].Error(), "AGENTNET_") {
		t.Errorf("got faults %v, want two that name their variables", faults)
	}
}

func TestValidateReportsAllFaults(t *testing.T) {
	c := DefaultConfig()
	c.Listen, c.PublicURL, c.BasePath, c.Node = "8080", "relay.example", "base/", "two words"
	c.Redis = "http://user:planted-secret@host"
	c.Embedded.Listen = "127.0.0.1:1"
	c.TLS.Cert = "/nowhere.pem"
	c.TrustedProxies, c.Origins = []string{"proxy"}, []string{"app.example", "https://a/path"}
	c.Limits.FrameBytes, c.Limits.MessageBytes = 1<<20, 1<<16
	c.Session.HeartbeatMin = Duration(time.Hour * 2)
	c.Queue.SlowAfter = 0
	c.Overload.LagDegraded = Duration(time.Millisecond)
	c.Log.Level = "loud"
	c.Channels = []ChannelRule{{Policy: "drop", Match: []string{"a//b"}}}
	c.Auth.JWT = []Issuer{{}, {Secret: "planted-secret", JWKSURL: "https://x"}}
	err := c.Validate()
	for _, key := range []string{"listen:", "public_url:", "base_path:", "node:", "redis:", "embedded.password:", "tls:", "tls.cert:",
		"trusted_proxies:", `origins: "app.example"`, `origins: "https://a/path"`, "limits.message_bytes:", "session.heartbeat_min:",
		"session.heartbeat:", "queue.slow_after:", "overload.lag_…:", "log.level:", "channels[0].match:", "channels[0].policy:",
		"channels[0].recent_count:", "auth.jwt[0].issuer:", "auth.jwt[1].secret:", "auth.jwt[1].audience:"} {
		if !strings.Contains(fmt.Sprint(err), key) {
			t.Errorf("no fault is reported for %s", key)
		}
	}
	if strings.Contains(fmt.Sprint(err), "planted-secret") {
		t.Errorf("a secret is in the text: %v", err)
	}
}

func TestDumpHidesSecrets(t *testing.T) {
	c := DefaultConfig()
	c.Redis = "redis://me:planted-secret@10.0.0.1:6379/2"
	c.Embedded.Password, c.Metrics.Token = "planted-secret", "planted-secret"
	c.Channels = []ChannelRule{{Match: []string{"a", "b"}}}
	c.Auth.JWT = []Issuer{{Issuer: "i", Secret: "planted-secret"}}
	var out bytes.Buffer
	if err := c.WriteYAML(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "planted") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
	if !strings.Contains(out.String(), `redis: "redis://me:***@10.0.0.1:6379/2"`) || strings.Count(out.String(), `"***"`) != 3 {
		t.Errorf("got\n%s", out.String())
	}
	var back Config
	back.setDefaults()
	if err := back.ReadYAML("dump", out.Bytes()); err != nil {
		t.Errorf("the dump cannot be read: %v", err)
	}
	if !reflect.DeepEqual(back.Channels[0].Match, []string{"a", "b"}) {
		t.Errorf("got rules %+v back", back.Channels)
	}
}

func TestDataDir(t *testing.T) {
	for _, tc := range []struct {
		vars string
		want string
	}{
		{"AGENTNET_DATA=/a STATE_DIRECTORY=/b HOME=/h", "/a"}, {"STATE_DIRECTORY=/b XDG_DATA_HOME=/x HOME=/h", "/b"},
		{"XDG_DATA_HOME=/x HOME=/h", "/x/agentnet"}, {"HOME=/h", "/h/.local/share/agentnet"}, {"", "agentnet-data"},
	} {
		vars := map[string]string{}
		for pair := range strings.FieldsSeq(tc.vars) {
			name, value, _ := strings.Cut(pair, "=")
			vars[name] = value
		}
		if got := DataDir(func(name string) string { return vars[name] }); filepath.ToSlash(got) != tc.want {
			t.Errorf("DataDir with %q = %s, want %s", tc.vars, got, tc.want)
		}
	}
}

func TestDurationsAndSizes(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "90s": "1m30s", "5m": "5m", "2h": "2h", "48h": "2d", "7d": "7d", "0.5d": "12h", "1h30m": "1h30m", "250ms": "250ms",
		"": "", "-1s": "", "7": "", "1e9d": "", "d": "", "NaNd": "",
	} {
		var d Duration
		err := d.UnmarshalText([]byte(text))
		if (err == nil) != (want != "") || err == nil && d.String() != want {
			t.Errorf("duration %q: got %v, %v, want %s", text, d, err, want)
		}
	}
	for text, want := range map[string]string{
		"0": "0", "65536": "64KiB", "64KiB": "64KiB", "1 MiB": "1MiB", "3GiB": "3GiB", "1000": "1000", "2kB": "2000", "5B": "5", "1MB": "1000000",
		"": "", "-1": "", "1.5MiB": "", "9999999999GiB": "", "KiB": "",
	} {
		var s Size
		err := s.UnmarshalText([]byte(text))
		if (err == nil) != (want != "") || err == nil && s.String() != want {
			t.Errorf("size %q: got %v, %v, want %s", text, s, err, want)
		}
	}
}

func FuzzDurationAndSize(f *testing.F) {
	f.Add("1h30m")
	f.Add("7d")
	f.Add("64KiB")
	f.Fuzz(func(t *testing.T, text string) {
		var d, d2 Duration
		if d.UnmarshalText([]byte(text)) == nil {
			if err := d2.UnmarshalText([]byte(d.String())); err != nil || d != d2 {
				t.Errorf("duration %q is written as %s, which is read as %v, %v", text, d, d2, err)
			}
		}
		var s, s2 Size
		if s.UnmarshalText([]byte(text)) == nil {
			if err := s2.UnmarshalText([]byte(s.String())); err != nil || s != s2 {
				t.Errorf("size %q is written as %s, which is read as %v, %v", text, s, s2, err)
			}
		}
	})
}

func FuzzReadYAML(f *testing.F) {
	f.Add([]byte(fullFile))
	f.Add([]byte("a: &x [*x]"))
	f.Add([]byte("queue:\n  ? {a: b}\n  : c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := DefaultConfig()
		if c.ReadYAML("f", text) == nil {
			_ = c.Validate()
			var out bytes.Buffer
			if err := c.WriteYAML(&out); err != nil {
				t.Errorf("write: %v", err)
			}
		}
	})
}
