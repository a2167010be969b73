package notify

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"agentnet/app/egress"
)

// mailServer speaks SMTP as RFC 5321, 3207 and 4954 have it, as far as a client
// that submits mail needs it.
type mailServer struct {
	t        *testing.T
	ln       net.Listener
	cert     tls.Certificate
	roots    *x509.CertPool
	implicit bool
	starttls bool
	auth     string // methods offered; "": none
	user     string
	password string
	refuse   map[string]string // answers by command, such as "RCPT": "550 no"
	wg       sync.WaitGroup

	mu   sync.Mutex
	got  []received
	said []string // commands, without what AUTH tells
}

type received struct {
	from      string
	to        []string
	data      string
	encrypted bool
	login     bool
}

func newMailServer(t *testing.T, change func(*mailServer)) *mailServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, &from, &from, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{t: t, cert: tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, roots: x509.NewCertPool(), starttls: true, auth: "PLAIN LOGIN", user: "relay", password: "pässword"}
	s.roots.AddCert(leaf)
	if change != nil {
		change(s)
	}
	if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(func() {
		for {
			conn, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { defer conn.Close(); s.serve(conn) })
		}
	})
	t.Cleanup(func() { s.ln.Close(); s.wg.Wait() })
	return s
}

func (s *mailServer) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	config := &tls.Config{Certificates: []tls.Certificate{s.cert}}
	if s.implicit {
		conn = tls.Server(conn, config)
	}
	r, m := bufio.NewReader(conn), received{encrypted: s.implicit}
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	line := func() (string, bool) {
		text, err := r.ReadString('\n')
		if err != nil || !strings.HasSuffix(text, "\r\n") {
			return "", false
		}
		return strings.TrimSuffix(text, "\r\n"), true
	}
	say("220 mail.test ESMTP")
	for {
		text, ok := line()
		if !ok {
			return
		}
		verb, rest, _ := strings.Cut(text, " ")
		verb = strings.ToUpper(verb)
		s.mu.Lock()
		s.said = append(s.said, verb)
		s.mu.Unlock()
		if no := s.refuse[verb]; no != "" {
			say("%s", no)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-mail.test")
			if s.starttls && !m.encrypted {
				say("250-STARTTLS")
			}
			if s.auth != "" {
				say("250-AUTH %s", s.auth)
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			secure := tls.Server(conn, config)
			if secure.Handshake() != nil {
				return
			}
			conn, m.encrypted = secure, true
			r = bufio.NewReader(conn)
		case "AUTH":
			m.login = s.login(rest, say, line)
			if !m.login {
				say("535 5.7.8 wrong user or password")
				continue
			}
			say("235 welcome")
		case "MAIL":
			m.from, m.to = rest, nil
			say("250 ok")
		case "RCPT":
			m.to = append(m.to, rest)
			say("250 ok")
		case "DATA":
			say("354 end with a dot")
			var data strings.Builder
			for {
				text, ok := line()
				if !ok {
					return
				}
				if text == "." {
					break
				}
				data.WriteString(strings.TrimPrefix(text, ".") + "\r\n")
			}
			m.data = data.String()
			s.mu.Lock()
			s.got = append(s.got, m)
			s.mu.Unlock()
			say("250 queued")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 not implemented")
		}
	}
}

func (s *mailServer) login(rest string, say func(string, ...any), line func() (string, bool)) bool {
	decode := func(text string) string { raw, _ := base64.StdEncoding.DecodeString(text); return string(raw) }
	method, first, _ := strings.Cut(rest, " ")
	switch method {
	case "PLAIN":
		return decode(first) == "\x00"+s.user+"\x00"+s.password
	case "LOGIN":
		say("334 %s", base64.StdEncoding.EncodeToString([]byte("Username:")))
		user, _ := line()
		say("334 %s", base64.StdEncoding.EncodeToString([]byte("Password:")))
		password, _ := line()
		return decode(user) == s.user && decode(password) == s.password
	}
	return false
}

func (s *mailServer) send(m Message, change func(*Channel)) error {
	scheme := "smtp"
	if s.implicit {
		scheme = "smtps"
	}
	c := Channel{Name: "mail", Kind: "smtp", URL: scheme + "://" + s.ln.Addr().String(), User: s.user, Password: s.password,
		From: "Relay Höhe <relay@example.org>", To: []string{"ops@example.org", "Zweite <second@example.org>"}}
	if change != nil {
		change(&c)
	}
	if err := c.Validate(); err != nil {
		return err
	}
	text, err := NewText("")
	if err != nil {
		return err
	}
	sender := &mailer{c: &c, rules: egress.Rules{Allow: here}, text: text, roots: &tls.Config{RootCAs: s.roots}}
	_, err = sender.send(context.Background(), &m)
	return err
}

func TestMailIsDelivered(t *testing.T) {
	for name, change := range map[string]func(*mailServer){
		"starttls": nil,
		"implicit": func(s *mailServer) { s.implicit = true },
		"login":    func(s *mailServer) { s.auth = "LOGIN" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newMailServer(t, change)
			m := alert()
			m.Items[0].Why = ".a line that begins with a dot\n.\nÄ and a very long line: " + strings.Repeat("x", 3000)
			m.From = "prod\r\nBcc: everybody@example.org"
			if err := s.send(m, nil); err != nil {
				t.Fatal(err)
			}
			got := s.got[0]
			if !got.encrypted || !got.login || got.from != "FROM:<relay@example.org> BODY=8BITMIME" || fmt.Sprint(got.to) != "[TO:<ops@example.org> TO:<second@example.org>]" {
				t.Errorf("envelope: got %+v", got)
			}
			parsed, err := mail.ReadMessage(strings.NewReader(got.data))
			if err != nil {
				t.Fatal(err)
			}
			if bcc := parsed.Header.Get("Bcc"); bcc != "" {
				t.Errorf("a header was smuggled in: %q", bcc)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
			if want := "CRITICAL: cpu_critical, 93.1% cpu, and 1 more (prod Bcc: everybody@example.org)"; err != nil || subject != want {
				t.Errorf("subject: got %q (%v), want %q", subject, err, want)
			}
			if _, err := parsed.Header.Date(); err != nil || parsed.Header.Get("Auto-Submitted") != "auto-generated" || parsed.Header.Get("Message-ID") == "" {
				t.Errorf("headers: got %v (%v)", parsed.Header, err)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
			text, _ := NewText("")
			if want := strings.ReplaceAll(text.String(&m), "\n", "\r\n"); err != nil || strings.TrimSpace(string(body)) != want {
				t.Errorf("body (%v): got\n%s\nwant\n%s", err, body, want)
			}
			for line := range strings.SplitSeq(got.data, "\r\n") {
				if len(line) > 998 {
					t.Errorf("a line of %d bytes", len(line))
				}
			}
		})
	}
}

func TestMailFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server func(*mailServer)
		change func(*Channel)
		want   string
		retry  bool
		never  string // a command that must not be said
	}{
		{"no TLS", func(s *mailServer) { s.starttls = false }, nil, "offers no TLS", false, "AUTH"},
		{"no TLS, allowed", func(s *mailServer) { s.starttls = false }, func(c *Channel) { c.Plain, c.User, c.Password = true, "", "" }, "", false, "AUTH"},
		{"wrong password", nil, func(c *Channel) { c.Password = "wrong" }, "535", false, "MAIL"},
		{"no login offered", func(s *mailServer) { s.auth = "" }, nil, "takes no login", true, "MAIL"},
		{"receiver refused", func(s *mailServer) { s.refuse = map[string]string{"RCPT": "550 no such user"} }, nil, "550", false, "DATA"},
		{"busy", func(s *mailServer) { s.refuse = map[string]string{"MAIL": "451 try later"} }, nil, "451", true, "DATA"},
		{"certificate of nobody", func(s *mailServer) { s.roots = x509.NewCertPool() }, nil, "certificate", false, "AUTH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newMailServer(t, tt.server)
			err := s.send(alert(), tt.change)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) || retryable(err) != tt.retry || strings.Contains(err.Error(), s.password) {
				t.Fatalf("got %v, retried %v; want %q, retried %v", err, retryable(err), tt.want, tt.retry)
			}
			s.ln.Close()
			s.wg.Wait()
			for _, verb := range s.said {
				if verb == tt.never {
					t.Errorf("the client said %s; all: %v", verb, s.said)
				}
			}
		})
	}
}

func TestMailToThisMachineIsRefused(t *testing.T) {
	s := newMailServer(t, nil)
	sender := &mailer{c: &Channel{URL: "smtp://" + s.ln.Addr().String(), From: "a@b.c", To: []string{"a@b.c"}}, text: nil}
	if _, err := sender.send(context.Background(), &Message{}); err == nil || retryable(err) || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("got %v, want the address refused", err)
	}
}
