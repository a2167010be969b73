package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"agentnet/app"

	"github.com/letsencrypt/challtestsrv"
	pebbleca "github.com/letsencrypt/pebble/v2/ca"
	pebbledb "github.com/letsencrypt/pebble/v2/db"
	pebbleva "github.com/letsencrypt/pebble/v2/va"
	pebblewfe "github.com/letsencrypt/pebble/v2/wfe"
)

// An authority is Pebble, the test server of Let's Encrypt, in this process. It
// asks its challenges at two ports of this machine, for every name.
type authority struct {
	directory string
	ca        string         // PEM file that proves the authority's own address
	roots     *x509.CertPool // what it issues is signed by
}

func newAuthority(t *testing.T, httpPort, tlsPort int) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "10")
	quiet := log.New(io.Discard, "", 0)
	names := "127.0.0.1:" + freePort(t)
	dns, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{names}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	dns.SetDefaultDNSIPv4("127.0.0.1")
	dns.SetDefaultDNSIPv6("")
	go dns.Run()
	t.Cleanup(dns.Shutdown)
	db := pebbledb.NewMemoryStore()
	ca := pebbleca.New(quiet, db, "", "ecdsa", 0, 1, map[string]pebbleca.Profile{"default": {ValidityPeriod: 90 * 24 * 3600}})
	va := pebbleva.New(quiet, httpPort, tlsPort, false, names, db)
	front := pebblewfe.New(quiet, db, va, ca, []string{"pebble.letsencrypt.org"}, false, false, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	a := &authority{directory: server.URL + pebblewfe.DirectoryPath, ca: filepath.Join(t.TempDir(), "ca.pem"), roots: x509.NewCertPool()}
	if err := os.WriteFile(a.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if !a.roots.AppendCertsFromPEM(ca.GetRootCert(0).PEM()) {
		t.Fatal("the authority has no root")
	}
	return a
}

// serveACME runs a node with certificates of the authority until the test or stop
// ends it.
func serveACME(t *testing.T, a *authority, data, port, httpListen string) (stop func()) {
	t.Helper()
	cfg := app.DefaultConfig()
	cfg.Data, cfg.Listen, cfg.Drain.Window = data, "127.0.0.1:"+port, 0
	cfg.TLS.ACME = app.ACME{Domains: []string{"relay.test"}, Email: "ops@relay.test", Directory: a.directory, CA: a.ca, HTTPListen: httpListen}
	ctx, cancel := context.WithCancel(context.Background())
	node, err := app.New(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	select {
	case <-node.Ready():
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// greet makes a TLS connection under a name and returns the certificate's serial
// number.
func greet(a *authority, port, name string) (string, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{RootCAs: a.roots, ServerName: name}}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+port)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name); err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 ") {
		return "", fmt.Errorf("got %.60q, %v", text, err)
	}
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// TestCertificateByACME: the first client under the configured name makes the node
// get a certificate, by either challenge; it is kept over a restart; other names get
// none.
func TestCertificateByACME(t *testing.T) {
	for _, challenge := range []string{"TLS-ALPN-01", "HTTP-01"} {
		t.Run(challenge, func(t *testing.T) {
			port, httpPort, dead := freePort(t), freePort(t), freePort(t)
			number := func(text string) int { n, _ := strconv.Atoi(text); return n }
			asked, httpListen := number(port), ""
			if challenge == "HTTP-01" {
				asked, httpListen = number(dead), "127.0.0.1:"+httpPort
			}
			a := newAuthority(t, number(httpPort), asked)
			data := t.TempDir()
			stop := serveACME(t, a, data, port, httpListen)
			first, err := greet(a, port, "relay.test")
			if err != nil {
				t.Fatalf("no certificate: %v", err)
			}
			if again, err := greet(a, port, "relay.test"); err != nil || again != first {
				t.Errorf("got certificate %s, %v, want %s", again, err, first)
			}
			if _, err := greet(a, port, "other.test"); err == nil {
				t.Error("a certificate was shown for a name that is not configured")
			}
			if httpListen != "" {
				client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
				req, err := http.NewRequest("GET", "http://"+httpListen+"/some/page", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "relay.test"
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if got := resp.Header.Get("Location"); got != "https://relay.test/some/page" {
					t.Errorf("plain http leads to %q", got)
				}
			}
			stop()
			for _, name := range []string{"acme", "acme/relay.test"} {
				info, err := os.Stat(filepath.Join(data, name))
				if err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s: got %v, %v, want it closed to others", name, info, err)
				}
			}
			serveACME(t, a, data, port, httpListen)
			if kept, err := greet(a, port, "relay.test"); err != nil || kept != first {
				t.Errorf("after a restart: got certificate %s, %v, want the one that was kept", kept, err)
			}
		})
	}
}
