package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// A Fault is an error of Redis, or of the way to it, that only a person can mend.
type Fault struct {
	Err error
	Do  string // what to do, a sentence without a full stop
}

func (f *Fault) Error() string { return f.Err.Error() + "; " + f.Do }
func (f *Fault) Unwrap() error { return f.Err }

// Manual is where the rights of a user stand.
const Manual = `packaging/MANUAL.md, "A user and TLS for Redis"`

// refusals are words of Redis with what they mean. The first that fits counts.
var refusals = []struct{ word, do string }{
	{"WRONGPASS", "user or password in the redis URL are wrong, or the user is off: ACL LIST shows the users; special characters of a password are written as %XX"},
	{"NOAUTH", "write redis://user:password@host:port, or redis://:password@host:port for the user default"},
	{"invalid password", "the password in the redis URL is wrong; special characters are written as %XX"},
	{"without any password configured", "the Redis asks for no password: take it out of the redis URL, or give the Redis one (requirepass)"},
	{"access a key", "allow the user the keys ~agn:*; the whole rule stands in " + Manual},
	{"access one of the keys", "allow the user the keys ~agn:*; the whole rule stands in " + Manual},
	{"access a channel", "allow the user the channels &agentnet:*; the whole rule stands in " + Manual},
	{"access one of the channels", "allow the user the channels &agentnet:*; the whole rule stands in " + Manual},
	{"NOPERM", "allow the user that command; the whole rule stands in " + Manual},
	{"DB index is out of range", "the Redis has fewer databases: take the number out of the redis URL"},
	{"SELECT is not allowed in cluster mode", "a Redis Cluster has no databases: take the number out of the redis URL"},
	{"cluster support disabled", "it is no Redis Cluster: write redis://host:port"},
	{"certificate required", "the Redis asks for a certificate of this node: give redis_tls.cert and redis_tls.key, signed by an authority that it knows (tls-ca-cert-file)"},
	{"unknown certificate authority", "the Redis does not know who signed redis_tls.cert: sign it by the authority in its tls-ca-cert-file"},
	{"error decrypting message", "the Redis does not take redis_tls.cert: its signature does not fit the authority in its tls-ca-cert-file"},
	{"bad certificate", "the Redis refuses redis_tls.cert: is it signed by the authority in its tls-ca-cert-file, for client authentication, and not expired?"},
	{"expired certificate", "redis_tls.cert has expired: renew it"},
}

// Explain returns err with what to do about it when only a person can mend it: a
// *Fault. Any other error comes back as it is.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	var known *Fault
	if errors.As(err, &known) {
		return err
	}
	if do := explainTLS(err); do != "" {
		return &Fault{err, do}
	}
	text := err.Error()
	for _, r := range refusals {
		if strings.Contains(text, r.word) {
			return &Fault{err, r.do}
		}
	}
	return err
}

// explainTLS knows what a handshake fails of on our side.
func explainTLS(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errSpeaksTLS):
		return "write rediss:// instead of redis://, with the keys redis_tls for its certificates"
	case errors.Is(err, errPlain):
		return "write redis:// instead of rediss://, or give its tls-port"
	case errors.As(err, &authority):
		return "nobody that is trusted signed the certificate of the Redis: give the PEM file of its authority as redis_tls.ca"
	case errors.As(err, &name):
		return "the certificate of the Redis is for another name: write that name into the redis URL, or make a certificate for this one (subjectAltName)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate of the Redis is not valid now: renew it, or set this machine's clock"
	case errors.As(err, &invalid):
		return "the Redis needs another certificate (key usage, names, chain)"
	case errors.As(err, &record):
		return "the Redis does not speak TLS on that port: write redis:// instead of rediss://, or give its tls-port"
	}
	return ""
}
