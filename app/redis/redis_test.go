package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The manual must name the rights as they are.
func TestManualNamesTheRights(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "MANUAL.md"))
	if err != nil {
		t.Fatal(err)
	}
	manual := strings.ReplaceAll(string(text), "'", "")
	if want := Rights(Single); !strings.Contains(manual, want+"\n") {
		t.Errorf("the manual lacks the line\n%s", want)
	}
	if want := strings.TrimPrefix(Rights(Cluster), Rights(Single)+" "); !strings.Contains(manual, want) {
		t.Errorf("the manual lacks %q for a Cluster", want)
	}
	if want := strings.TrimPrefix(Rights(Sentinel), Rights(Single)+" "); !strings.Contains(manual, "`"+want+"`") {
		t.Errorf("the manual lacks %q for Sentinels", want)
	}
	if section := Manual[strings.Index(Manual, `"`)+1 : len(Manual)-1]; !strings.Contains(manual, "\n## "+section+"\n") {
		t.Errorf("the manual lacks the section %q, which errors name", section)
	}
}

func TestExplain(t *testing.T) {
	for text, want := range map[string]string{
		"WRONGPASS invalid username-password pair or user is disabled.":           "user or password",
		"NOPERM this user has no permissions to run the 'xadd' command":           "allow the user that command",
		"NOPERM No permissions to access a channel":                               "&agentnet:*",
		"NOPERM this user has no permissions to access one of the keys used":      "~agn:*",
		"NOAUTH Authentication required.":                                         "user:password",
		"ERR DB index is out of range":                                            "fewer databases",
		"remote error: tls: certificate required":                                 "redis_tls.cert",
		"remote error: tls: unknown certificate authority":                        "tls-ca-cert-file",
		"dial tcp 127.0.0.1:1: connect: connection refused":                       "",
		"OOM command not allowed when used memory > 'maxmemory'.":                 "",
		"LOADING Redis is loading the dataset in memory":                          "",
		"READONLY You can't write against a read only replica.":                   "",
		"ERR This instance has cluster support disabled":                          "no Redis Cluster",
		"ERR AUTH <password> called without any password configured for the user": "asks for no password",
	} {
		wantAdvice(t, errors.New(text), want)
	}
	wantAdvice(t, x509.UnknownAuthorityError{}, "redis_tls.ca")
	wantAdvice(t, tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "redis://")
	wantAdvice(t, x509.CertificateInvalidError{Reason: x509.Expired}, "clock")
	once := Explain(errors.New("NOAUTH"))
	if again := Explain(fmt.Errorf("connect: %w", once)); strings.Count(again.Error(), "write redis://") != 1 {
		t.Errorf("explained twice: %v", again)
	}
	if Explain(nil) != nil {
		t.Error("no error was explained")
	}
}

func wantAdvice(t *testing.T, err error, want string) {
	t.Helper()
	var fault *Fault
	got := Explain(fmt.Errorf("redis: %w", err))
	if errors.As(got, &fault) != (want != "") || fault != nil && !strings.Contains(fault.Do, want) {
		t.Errorf("%v: got %v, want advice with %q", err, got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"redis://h", "rediss+cluster://u:p@a:1,[::1]", "redis+sentinel://:p@a,b:2/main?db=3", "redis://u:p%zz@h", "://", "redis+sentinel://a/m?sentinel_password=x#y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text)
		if err != nil {
			return
		}
		if len(a.Hosts) == 0 || a.DB < 0 || a.Kind == Sentinel && a.Master == "" || a.Kind == Single && len(a.Hosts) != 1 {
			t.Errorf("%q became %+v", text, a)
		}
	})
}
