package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

// diagnoseTime bounds each of the two connections of Diagnose.
const diagnoseTime = time.Second

var (
	errSpeaksTLS = errors.New("the server speaks TLS on that port")
	errPlain     = errors.New("the server does not speak TLS on that port")
)

// Diagnose looks for the cause of a connection that failed with err, where a client
// cannot see it: a server that refuses a certificate closes the connection after it
// has said why, and what is written meanwhile loses that. It returns a *Fault when it
// finds one, and err else. config is nil for a connection without TLS.
func Diagnose(ctx context.Context, err error, hosts []string, config *tls.Config) error {
	err = Explain(err)
	var fault *Fault
	if err == nil || errors.As(err, &fault) || len(hosts) == 0 || errors.Is(err, context.Canceled) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*diagnoseTime)
	defer cancel()
	for _, host := range hosts {
		if found := examine(ctx, host, config); found != nil {
			return Explain(found)
		}
	}
	return err
}

// examine tries one server and returns what is wrong with the way to it; nil when it
// cannot say.
func examine(ctx context.Context, host string, config *tls.Config) error {
	dialer := &net.Dialer{Timeout: diagnoseTime}
	plain, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil // nobody is there, which the first error says
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(diagnoseTime))
	if config == nil {
		// Nothing is sent over it: whether it is the right server does not matter.
		if tls.Client(plain, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx) == nil {
			return errSpeaksTLS
		}
		return nil
	}
	own := config.Clone()
	own.ServerName, _, _ = net.SplitHostPort(host)
	secure := tls.Client(plain, own)
	if err := secure.HandshakeContext(ctx); err != nil {
		if answersPlain(ctx, dialer, host) {
			return errPlain
		}
		return err
	}
	// What the server thinks of our certificate comes behind the handshake.
	if _, err := secure.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && strings.Contains(err.Error(), "tls:") {
		return err
	}
	return nil
}

// answersPlain asks without TLS. Any line of Redis will do.
func answersPlain(ctx context.Context, dialer *net.Dialer, host string) bool {
	c, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(diagnoseTime))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	first := make([]byte, 1)
	n, _ := c.Read(first)
	return n == 1 && (first[0] == '+' || first[0] == '-')
}
