package notify

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"agentnet/app/egress"
)

// mailer sends by SMTP, over TLS from the start (smtps) or by STARTTLS (smtp).
type mailer struct {
	c     *Channel
	rules egress.Rules
	text  *Text
	roots *tls.Config // nil: the system's
}

// mailTime bounds one delivery to a mail server.
const mailTime = 30 * time.Second

func (c *Channel) validateMail() error {
	var errs []error
	if _, err := mail.ParseAddress(c.From); err != nil {
		errs = append(errs, fmt.Errorf("from: %.80q is no mail address", c.From))
	}
	if len(c.To) == 0 || len(c.To) > 50 {
		errs = append(errs, fmt.Errorf("to: %d receivers given, want 1 to 50", len(c.To)))
	}
	for _, to := range c.To {
		if _, err := mail.ParseAddress(to); err != nil {
			errs = append(errs, fmt.Errorf("to: %.80q is no mail address", to))
		}
	}
	if c.Plain && c.Password != "" {
		errs = append(errs, errors.New("plain: a password is never sent without TLS"))
	}
	if c.Plain && strings.HasPrefix(c.URL, "smtps:") {
		errs = append(errs, errors.New("plain: smtps is TLS from the start"))
	}
	return errors.Join(errs...)
}

func (s *mailer) send(ctx context.Context, m *Message) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, mailTime)
	defer cancel()
	u, err := url.Parse(s.c.URL)
	if err != nil {
		return "", errors.New("the address cannot be read")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"smtp": "587", "smtps": "465"}[u.Scheme]
	}
	answer, err := s.deliver(ctx, u.Scheme == "smtps", u.Hostname(), port, m)
	if err != nil {
		return "", s.fault(u.Hostname(), err)
	}
	return answer, nil
}

func (s *mailer) deliver(ctx context.Context, implicit bool, host, port string, m *Message) (string, error) {
	secure := &tls.Config{}
	if s.roots != nil {
		secure = s.roots.Clone()
	}
	secure.ServerName, secure.MinVersion = host, tls.VersionTLS12
	conn, err := s.rules.Dial(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("set the deadline: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if implicit {
		conn = tls.Client(conn, secure)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return "", fmt.Errorf("greeting: %w", err)
	}
	defer c.Close()
	if err := s.secure(c, implicit, host, secure); err != nil {
		return "", err
	}
	return s.submit(c, m)
}

// secure turns TLS on and proves who we are.
func (s *mailer) secure(c *smtp.Client, implicit bool, host string, secure *tls.Config) error {
	if err := c.Hello("localhost"); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	encrypted := implicit
	if offered, _ := c.Extension("STARTTLS"); !implicit && offered {
		if err := c.StartTLS(secure); err != nil {
			return fmt.Errorf("starttls: %w", err)
		}
		encrypted = true
	}
	if !encrypted && !s.c.Plain {
		return errNoTLS
	}
	if s.c.User == "" {
		return nil
	}
	offered, methods := c.Extension("AUTH")
	if !offered {
		return errors.New("the server takes no login, but a user is configured")
	}
	var auth smtp.Auth = smtp.PlainAuth("", s.c.User, s.c.Password, host)
	if !strings.Contains(" "+methods+" ", " PLAIN ") && strings.Contains(" "+methods+" ", " LOGIN ") {
		auth = &loginAuth{s.c.User, s.c.Password}
	}
	if err := c.Auth(auth); err != nil {
		return fmt.Errorf("login: %w", err)
	}
	return nil
}

func (s *mailer) submit(c *smtp.Client, m *Message) (string, error) {
	from, err := mail.ParseAddress(s.c.From)
	if err != nil {
		return "", fmt.Errorf("from: %w", err)
	}
	if err := c.Mail(from.Address); err != nil {
		return "", fmt.Errorf("sender: %w", err)
	}
	var to []string
	for _, text := range s.c.To {
		addr, err := mail.ParseAddress(text)
		if err != nil {
			return "", fmt.Errorf("receiver: %w", err)
		}
		if err := c.Rcpt(addr.Address); err != nil {
			return "", fmt.Errorf("receiver %s: %w", addr.Address, err)
		}
		to = append(to, addr.String())
	}
	w, err := c.Data()
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	if _, err := w.Write(s.compose(from, to, m)); err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	if err := w.Close(); err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	_ = c.Quit() // it was taken, whatever comes now
	return "250 accepted for " + fmt.Sprint(len(to)) + " receivers", nil
}

// compose writes the mail: headers of one line each, the text quoted.
func (s *mailer) compose(from *mail.Address, to []string, m *Message) []byte {
	var b bytes.Buffer
	line := func(name, value string) {
		fmt.Fprintf(&b, "%s: %s\r\n", name, strings.Join(strings.Fields(value), " "))
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	line("From", from.String())
	line("To", strings.Join(to, ", "))
	line("Subject", mime.QEncoding.Encode("utf-8", egress.Shorten(m.Title(), 200)))
	line("Date", m.At.Format(time.RFC1123Z))
	line("Message-ID", "<"+m.ID+"."+nonce()+"@"+domain+">")
	line("Auto-Submitted", "auto-generated") // no answers of absent people
	line("X-Agentnet-Status", m.Status())
	line("MIME-Version", "1.0")
	line("Content-Type", "text/plain; charset=utf-8")
	line("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write([]byte(strings.ReplaceAll(s.text.String(m), "\n", "\r\n"))) // into memory
	_ = q.Close()
	b.WriteString("\r\n")
	return b.Bytes()
}

func nonce() string {
	var raw [8]byte
	rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

var errNoTLS = errors.New("the server offers no TLS: use smtps://, or allow plain if nothing secret is in the alerts")

// fault makes an error that says whether to try again: a 5xx of SMTP is final, a
// missing TLS too.
func (s *mailer) fault(host string, err error) error {
	out := &egress.Error{Host: host, Err: err}
	if e, ok := errors.AsType[*textproto.Error](err); ok && e.Code >= 500 || errors.Is(err, errNoTLS) {
		out.Err = final{err}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		out.Err = final{fmt.Errorf("its certificate is not valid for %s: %w", host, err)}
	}
	return out
}

// final marks an error that trying again will not cure.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// loginAuth is AUTH LOGIN, which some servers offer alone. It is used on an
// encrypted connection only.
type loginAuth struct{ user, password string }

func (a *loginAuth) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS {
		return "", nil, errors.New("the password is not sent without TLS")
	}
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(ask []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	switch strings.ToLower(strings.TrimRight(string(ask), ": ")) {
	case "username", "user name":
		return []byte(a.user), nil
	case "password":
		return []byte(a.password), nil
	}
	return nil, fmt.Errorf("login: the server asks %.40q", ask)
}
