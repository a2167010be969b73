package redis

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// TLS names the files for a Redis behind rediss://. All may be empty: then the
// authorities that this system trusts prove the server, and it asks for no
// certificate of ours.
type TLS struct {
	CA   string // PEM file with the authorities that prove the server
	Cert string // PEM file with this node's own certificate
	Key  string // PEM file with the private key of Cert
}

// Given says that any file is named.
func (t TLS) Given() bool { return t != TLS{} }

// Check reads the files and says what is wrong, by key: ca, cert or key.
func (t TLS) Check() map[string]error {
	faults := map[string]error{}
	if _, err := t.authorities(); err != nil {
		faults["ca"] = err
	}
	if key, err := t.pair(nil); err != nil {
		faults[key] = err
	}
	return faults
}

// Config is for connections to a Redis. The name of the server is that of the
// address which is dialed. The own certificate is read anew at each connection, so
// that one which was renewed is used without a restart.
func (t TLS) Config() (*tls.Config, error) {
	pool, err := t.authorities()
	if err != nil {
		return nil, fmt.Errorf("redis_tls.ca: %w", err)
	}
	if key, err := t.pair(nil); err != nil {
		return nil, fmt.Errorf("redis_tls.%s: %w", key, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	if t.Cert != "" {
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair := &tls.Certificate{}
			if key, err := t.pair(pair); err != nil {
				return nil, fmt.Errorf("redis_tls.%s: %w", key, err)
			}
			return pair, nil
		}
	}
	return out, nil
}

// authorities returns nil for those that the system trusts.
func (t TLS) authorities() (*x509.CertPool, error) {
	if t.CA == "" {
		return nil, nil
	}
	text, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", t.CA)
	}
	return pool, nil
}

// pair reads the own certificate into it, and names the key that is wrong.
func (t TLS) pair(into *tls.Certificate) (key string, err error) {
	switch {
	case t.Cert == "" && t.Key == "":
		return "", nil
	case t.Cert == "":
		return "cert", fmt.Errorf("needed with key: the certificate that belongs to %s", t.Key)
	case t.Key == "":
		return "key", fmt.Errorf("needed with cert: the private key of %s", t.Cert)
	}
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return "cert", err
	}
	if into != nil {
		*into = pair
	}
	return "", nil
}
