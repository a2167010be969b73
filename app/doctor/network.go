package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// exposure says who can reach the port, and whether what they send can be read by
// others.
func exposure(ctx context.Context, c *Config) outcome {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return skip("the listener's address is not known here")
	}
	encrypted := c.TLSCert != "" || c.ACME
	if local(host) {
		if !c.Running && port != "0" {
			if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", c.Listen); err == nil {
				conn.Close()
				return warn(fmt.Sprintf("%s is taken by a program that does not belong to this data directory", c.Listen), "stop it (ss -ltnp shows which one), or give another --listen")
			}
		}
		return good("%s: this machine only", c.Listen)
	}
	switch {
	case encrypted:
		return good("%s: other machines, with TLS", c.Listen)
	case len(c.TrustedProxies) > 0 && !slices.ContainsFunc(c.TrustedProxies, local):
		return warn(fmt.Sprintf("%s: other machines, without TLS; meant for the proxies %s, but everybody who reaches it can use it", c.Listen, strings.Join(c.TrustedProxies, ", ")),
			"let only the proxies reach the port (firewall, private network)")
	case len(c.TrustedProxies) > 0:
		return fail(fmt.Sprintf("%s: other machines, without TLS, although the proxy is on this machine", c.Listen), "listen: 127.0.0.1:"+port)
	}
	return fail(fmt.Sprintf("%s: other machines, without TLS: tokens and messages can be read on the way", c.Listen),
		"give tls.cert and tls.key, or tls.acme.domains, or put a proxy with TLS in front and listen on 127.0.0.1:"+port)
}

// local says that an address, a network or a name is of this machine.
func local(host string) bool {
	if host == "localhost" {
		return true
	}
	if p, err := netip.ParsePrefix(host); err == nil {
		return p.Addr().IsLoopback()
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// publicURL finds what does not fit together: links, cookies and the OpenAPI
// document come from public_url alone.
func publicURL(_ context.Context, c *Config) outcome {
	if c.PublicURL == "" {
		if len(c.TrustedProxies) > 0 {
			return warn("trusted_proxies is set, public_url is not: pages and documents show the address of the request", "public_url: the address that clients use, such as https://relay.example"+c.BasePath)
		}
		return good("not set: pages show the address of the request")
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return fail("public_url cannot be read", "write it like https://relay.example")
	}
	path := strings.TrimSuffix(u.Path, "/")
	switch {
	case path != c.BasePath:
		return fail(fmt.Sprintf("public_url has the path %q, base_path is %q: links would lead nowhere", path, c.BasePath),
			"make them the same, and let the proxy pass the path on unchanged")
	case u.Scheme == "https" && c.TLSCert == "" && !c.ACME && len(c.TrustedProxies) == 0:
		return warn("public_url is https, this node has no certificate and no trusted_proxies: whatever encrypts in front of it hides all client addresses", "trusted_proxies: the address of that proxy, such as 127.0.0.1")
	case u.Scheme == "http" && !local(u.Hostname()):
		return warn("public_url is http: tokens can be read on the way, and browsers keep no secure cookies for it", "use https")
	}
	return good("%s", c.PublicURL)
}

const (
	warnCertificate = 21 * 24 * time.Hour
	failCertificate = 3 * 24 * time.Hour
)

// certificate looks at the configured files, and at what the URL answers with.
func certificate(ctx context.Context, c *Config) outcome {
	var found []string
	worst := outcome{result: OK}
	take := func(o outcome) {
		found = append(found, o.evidence)
		if o.result == Fail || o.result == Warn && worst.result == OK {
			worst = o
		}
	}
	if c.TLSCert != "" {
		take(c.certificateFile())
	}
	for _, address := range uniqueTexts(c.PublicURL, c.URL) {
		if u, err := url.Parse(address); err == nil && u.Scheme == "https" {
			take(c.servedCertificate(ctx, u))
		}
	}
	switch {
	case len(found) == 0:
		return skip("there is no TLS here, neither configured nor at the URL")
	case worst.result != OK:
		worst.evidence = strings.Join(found, "; ")
		return worst
	}
	return good("%s", strings.Join(found, "; "))
}

func uniqueTexts(list ...string) []string {
	list = slices.DeleteFunc(list, func(s string) bool { return s == "" })
	slices.Sort(list)
	return slices.Compact(list)
}

func (c *Config) certificateFile() outcome {
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return fail(fmt.Sprintf("tls.cert and tls.key cannot be used: %v", err), "check both files and that they belong together")
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fail(fmt.Sprintf("tls.cert: %v", err), "check the file")
	}
	if u, err := url.Parse(c.PublicURL); err == nil && u.Scheme == "https" && len(c.TrustedProxies) == 0 {
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			return fail(fmt.Sprintf("%s: %v", c.TLSCert, err), "get a certificate for "+u.Hostname())
		}
	}
	return c.judgeCertificate(c.TLSCert, leaf)
}

func (c *Config) judgeCertificate(where string, leaf *x509.Certificate) outcome {
	left := leaf.NotAfter.Sub(c.Now())
	evidence := fmt.Sprintf("%s is valid until %s (%d days)", where, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST"), int(left.Hours()/24))
	fix := "renew it; the relay takes new files in at SIGHUP, without a restart (systemctl reload agentnet)"
	switch {
	case c.Now().Before(leaf.NotBefore):
		return fail(fmt.Sprintf("%s is valid only from %s on", where, leaf.NotBefore.UTC().Format(time.RFC3339)), "check the clock, or wait")
	case left <= 0:
		return fail(fmt.Sprintf("%s expired on %s", where, leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")), fix)
	case left < failCertificate:
		return fail(evidence, fix)
	case left < warnCertificate && leaf.NotAfter.Sub(leaf.NotBefore) > 2*warnCertificate:
		return warn(evidence, fix)
	}
	return good("%s", evidence)
}

func (c *Config) servedCertificate(ctx context.Context, u *url.URL) outcome {
	pool, err := c.roots()
	if err != nil {
		return fail(err.Error(), "check --ca")
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{RootCAs: pool, ServerName: u.Hostname()}}
	conn, err := d.DialContext(ctx, "tcp", host)
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return warn(fmt.Sprintf("%s: %v", u.Host, unknown), "give clients the certificate of your authority (--ca), or use one that they know; the file must hold the whole chain")
	}
	if err != nil {
		return fail(fmt.Sprintf("%s: %v", u.Host, err), "check the certificate's names, its chain and its time")
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	return c.judgeCertificate("what "+u.Host+" shows", state.PeerCertificates[0])
}
