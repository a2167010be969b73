package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// acmeDir is where account key and certificates are kept, below the data directory.
const acmeDir = "acme"

// certificates are what the listener shows: from files, taken in anew at a reload,
// or from an ACME authority, renewed by themselves.
type certificates struct {
	files atomic.Pointer[tls.Certificate]
	acme  *autocert.Manager // nil: files
}

// Encrypts says that the listener speaks TLS.
func (c *Config) Encrypts() bool { return c.TLS.Cert != "" || len(c.TLS.ACME.Domains) > 0 }

// newCertificates reads the files, or prepares for the authority, which is asked
// when the first client comes. It returns nil where there is no TLS.
func newCertificates(c *Config, log *slog.Logger) (*certificates, error) {
	if !c.Encrypts() {
		return nil, nil
	}
	out := &certificates{}
	if len(c.TLS.ACME.Domains) == 0 {
		return out, out.load(c)
	}
	client, err := acmeClient(&c.TLS.ACME)
	if err != nil {
		return nil, fmt.Errorf("tls.acme: %w", err)
	}
	dir := filepath.Join(c.Data, acmeDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("tls.acme: %w", err)
	}
	out.acme = &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: loggedCache{autocert.DirCache(dir), log},
		HostPolicy: onlyNames(c.TLS.ACME.Domains), Email: c.TLS.ACME.Email, Client: client,
	}
	return out, nil
}

// onlyNames lets the given names have certificates. In a challenge over HTTP the
// name may come with a port.
func onlyNames(names []string) autocert.HostPolicy {
	known := autocert.HostWhitelist(names...)
	return func(ctx context.Context, host string) error {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		return known(ctx, host)
	}
}

func acmeClient(c *ACME) (*acme.Client, error) {
	client := &acme.Client{DirectoryURL: c.Directory, UserAgent: "agentnet"}
	if c.CA == "" {
		return client, nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", c.CA)
	}
	client.HTTPClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	return client, nil
}

// loggedCache tells when a certificate was obtained or renewed.
type loggedCache struct {
	autocert.Cache
	log *slog.Logger
}

// Put implements autocert.Cache.
func (l loggedCache) Put(ctx context.Context, key string, data []byte) error {
	err := l.Cache.Put(ctx, key, data)
	if err != nil {
		l.log.Error("a certificate cannot be kept; it is lost at the next restart", "name", key, "error", err)
	} else if key != "acme_account+key" {
		l.log.Info("a certificate was kept", "name", key)
	}
	return err
}

// load reads the files. On an error what was there stays.
func (t *certificates) load(c *Config) error {
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	t.files.Store(&pair)
	return nil
}

// config is for the listener. The server behind it speaks HTTP/1.1 only.
func (t *certificates) config() *tls.Config {
	if t.acme == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.files.Load(), nil }}
	}
	cfg := t.acme.TLSConfig()
	cfg.MinVersion, cfg.NextProtos = tls.VersionTLS12, []string{"http/1.1", acme.ALPNProto}
	return cfg
}

// challenges serves the authority's questions over plain HTTP (HTTP-01) and leads
// everybody else to https, until ctx ends.
func (a *App) challenges(ctx context.Context) error {
	listen := a.cfg.TLS.ACME.HTTPListen
	if a.certificates == nil || a.certificates.acme == nil || listen == "" {
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("tls.acme.http_listen: %w", err)
	}
	server := &http.Server{Handler: a.certificates.acme.HTTPHandler(nil), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer challenges: %w", err)
	}
	return nil
}
