package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Papers are an authority of a test and what it signed, as PEM files.
type Papers struct {
	CA                     string
	ServerCert, ServerKey  string // for 127.0.0.1 and localhost
	ClientCert, ClientKey  string
	ExpiredCert, OtherCert string // a client's that has expired; a server's for another name
	ExpiredKey, OtherKey   string

	t    testing.TB
	dir  string
	ca   *x509.Certificate
	sign *ecdsa.PrivateKey
	last int64
}

// NewPapers makes an authority and its certificates.
func NewPapers(t testing.TB) *Papers {
	t.Helper()
	p := &Papers{t: t, dir: t.TempDir()}
	p.sign = p.key()
	p.ca = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority " + rand.Text()}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	p.last = 1
	p.CA = p.write("ca.crt", "CERTIFICATE", p.signed(p.ca, p.ca, &p.sign.PublicKey))
	day := time.Now().Add(24 * time.Hour)
	here := []net.IP{net.IPv4(127, 0, 0, 1)}
	p.ServerCert, p.ServerKey = p.issue("server", day, []string{"localhost"}, here)
	p.OtherCert, p.OtherKey = p.issue("other", day, []string{"redis.invalid"}, nil)
	p.ClientCert, p.ClientKey = p.issue("client", day, nil, nil)
	p.ExpiredCert, p.ExpiredKey = p.issue("expired", time.Now().Add(-time.Minute), nil, nil)
	return p
}

func (p *Papers) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

func (p *Papers) signed(c, by *x509.Certificate, key *ecdsa.PublicKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, c, by, key, p.sign)
	if err != nil {
		p.t.Fatal(err)
	}
	return der
}

func (p *Papers) write(name, kind string, der []byte) string {
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// issue signs a certificate for a new key.
func (p *Papers) issue(name string, until time.Time, hosts []string, ips []net.IP) (cert, key string) {
	p.last++
	own := p.key()
	c := &x509.Certificate{SerialNumber: big.NewInt(p.last), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until, DNSNames: hosts, IPAddresses: ips,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.write(name+".crt", "CERTIFICATE", p.signed(c, p.ca, &own.PublicKey)), p.write(name+".key", "EC PRIVATE KEY", der)
}

// client speaks TLS over a connection to a server.
func (p *Papers) client(c net.Conn) (net.Conn, error) {
	pair, err := tls.LoadX509KeyPair(p.ClientCert, p.ClientKey)
	if err != nil {
		return nil, err
	}
	// Who the server is, the nodes check: a test may have given it a wrong certificate.
	secure := tls.Client(c, &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return secure, secure.Handshake()
}

// Secure starts a server that speaks TLS only and asks clients for a certificate.
func Secure(t testing.TB, p Program, options ...string) *Server {
	t.Helper()
	s := prepare(t, p, append([]string{"--save", "", "--appendonly", "no"}, options...)...)
	s.Papers = NewPapers(t)
	s.args = append(s.args, "--port", "0", "--tls-port", strconv.Itoa(s.Port), "--tls-ca-cert-file", s.Papers.CA, "--tls-cert-file", s.Papers.ServerCert, "--tls-key-file", s.Papers.ServerKey)
	s.Start()
	return s
}

// Show has the server show another certificate from now on.
func (s *Server) Show(cert, key string) {
	s.t.Helper()
	s.Must("CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key)
}
