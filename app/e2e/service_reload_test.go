//go:build linux

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentnet/app/client"

	"github.com/golang-jwt/jwt/v5"
)

// A manager is the service manager's end of sd_notify: a real socket.
type manager struct {
	path string
	conn *net.UnixConn

	mu   sync.Mutex
	said []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // the path of a socket has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{path: filepath.Join(dir, "n")}
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := m.conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() { m.conn.Close(); <-ended; os.RemoveAll(dir) })
	return m
}

// heard waits for a message with text among those from number from on, and returns
// the number behind it.
func (m *manager) heard(t *testing.T, text string, from int) int {
	t.Helper()
	next := 0
	waitFor(patience, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := from; i < len(m.said); i++ {
			if strings.Contains(m.said[i], text) {
				next = i + 1
				return true
			}
		}
		return false
	}, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		t.Fatalf("%q was not told; what was: %q", text, m.said)
	})
	return next
}

// writePair writes a certificate for 127.0.0.1 with a serial number.
func writePair(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "relay"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"relay.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serial is the number of the certificate that addr shows.
func serial(t *testing.T, addr string) int64 {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func (h *house) rewrite(config string) {
	h.t.Helper()
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// TestServiceLife is the life of a node under a service manager: ready, alive,
// reloads good and bad, stop.
func TestServiceLife(t *testing.T) {
	m := newManager(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, cert, key, 101)
	config := func(extra string) string {
		return fmt.Sprintf("tls: {cert: %q, key: %q}\ndrain: {window: 200ms}\n%s", cert, key, extra)
	}
	h := newHouse(t, config(""), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	p := h.start()
	addr := strings.TrimPrefix(p.url, "https://")
	at := m.heard(t, "READY=1\nSTATUS=0 agents", 0)
	at = m.heard(t, "WATCHDOG=1\nSTATUS=0 agents, 0 connections", at)
	if got := serial(t, addr); got != 101 {
		t.Fatalf("got certificate %d, want 101", got)
	}

	// A connection before the reload, which must outlive it.
	pool := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{URL: p.url, Token: h.token, Agent: "stays", TLS: &tls.Config{RootCAs: pool}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at = m.heard(t, "STATUS=1 agents, 1 connections", at)

	// A broken configuration changes nothing, whatever is broken.
	writePair(t, cert, key, 102)
	for _, broken := range []string{"log: {level: loud}", "listn: x", "auth: {jwt: [{issuer: a, secret_file: /nowhere}]}", "auth: {jwt: [{secret: short}]}"} {
		before := strings.Count(p.log.String(), "was not reloaded")
		h.rewrite(config(broken))
		_ = p.cmd.Process.Signal(syscall.SIGHUP)
		waitFor(patience, func() bool { return strings.Count(p.log.String(), "was not reloaded") > before },
			func() { t.Fatalf("%s: the refusal is not in the log:\n%s", broken, p.log) })
		if got := serial(t, addr); got != 101 {
			t.Errorf("%s: got certificate %d, want the old one", broken, got)
		}
	}
	waitFor(patience, func() bool {
		out, err := program(t, "audit", "list", "--action", "config.reload", "--outcome", "failed", "--json", "--data", filepath.Join(h.dir, "data")).Output()
		return err == nil && strings.Count(string(out), "\n") == 4
	}, func() { t.Error("the audit log does not show four reloads that failed") })

	// A good one: certificate, level, limits, issuers.
	secret := strings.Repeat("k", 40)
	signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "house", "sub": "dora", "exp": time.Now().Add(time.Hour).Unix()}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	join := func(agent, token string) (*client.Client, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return client.Dial(ctx, client.Config{URL: p.url, Token: token, Agent: agent, TLS: &tls.Config{InsecureSkipVerify: true}, Patient: false})
	}
	if c, err := join("dora", signed); err == nil {
		c.Close()
		t.Fatal("a token of an issuer that is not configured was taken")
	}
	h.rewrite(config("log: {level: debug}\nlimits: {connections: 2, subscriptions: 9}\nauth: {jwt: [{issuer: house, secret: " + secret + "}]}"))
	_ = p.cmd.Process.Signal(syscall.SIGHUP)
	at = m.heard(t, "RELOADING=1\nMONOTONIC_USEC=", at)
	at = m.heard(t, "READY=1", at)
	waitFor(patience, func() bool { return strings.Contains(p.log.String(), `"need_a_restart":"limits.subscriptions"`) },
		func() { t.Fatalf("the log does not say what needs a restart:\n%s", p.log) })
	if log := p.log.String(); !strings.Contains(log, `"changed":"limits.connections, auth.jwt, log.level"`) || strings.Contains(log, secret) {
		t.Errorf("got the log\n%s\nwant what was changed, without secrets", log)
	}
	if got := serial(t, addr); got != 102 {
		t.Errorf("got certificate %d, want the new one", got)
	}
	for _, look := range [][]string{{"audit", "list"}, {"log", "list"}} {
		waitFor(patience, func() bool {
			out, err := program(t, append(slices.Clone(look), "--data", filepath.Join(h.dir, "data"))...).CombinedOutput()
			return err == nil && strings.Contains(string(out), "limits.connections, auth.jwt, log.level")
		}, func() { t.Errorf("agentnet %s does not show the reload", strings.Join(look, " ")) })
	}
	d, err := join("dora", signed)
	if err != nil {
		t.Fatalf("the new issuer's token: %v", err)
	}
	if c, err := join("eve", h.token); err == nil { // the third connection
		c.Close()
		t.Error("the new limit of connections is not in force")
	}
	d.Close()
	if err := c.Err(); err != nil || c.State() != client.Connected {
		t.Errorf("the connection from before the reload ended: %v", err)
	}

	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	m.heard(t, "STOPPING=1\nSTATUS=asking", at)
	c.Close()
	p.endsWell(patience)
	if _, err := os.Stat(filepath.Join(h.dir, "data", "node.json")); err == nil {
		t.Error("the note of the running node is left")
	}
}
