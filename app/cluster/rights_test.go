package cluster

import (
	"strings"
	"testing"

	"agentnet/app/cluster/redistest"
	"agentnet/app/redis"
)

// startSecure is a Redis that speaks TLS only, wants a certificate, and has a user
// with the rights that the manual gives; it may refuse that user nothing.
func startSecure(t *testing.T) *store {
	s := redistest.Secure(t, redistest.Redis, "--requirepass", "secret")
	t.Cleanup(func() {
		if refused := s.Refused(); len(refused) > 0 {
			t.Errorf("the user of the manual was refused %q", refused)
		}
	})
	return &store{config: BrokerConfig{URL: s.User(), TLS: papersOf(s)}}
}

func papersOf(s *redistest.Server) redis.TLS {
	return redis.TLS{CA: s.Papers.CA, Cert: s.Papers.ClientCert, Key: s.Papers.ClientKey}
}

// wantFault tries to start a node, which must end in a fault that says each word and
// no password.
func wantFault(t *testing.T, cfg Config, words ...string) {
	t.Helper()
	cfg.Name, cfg.Region = "a", "local"
	n, err := New(within(t), cfg)
	if err == nil {
		_ = n.Close()
		t.Errorf("the node started, want a fault with %q", words)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
}

// TestEveryRightIsNeeded takes from the user one right after the other: a node must
// not start, and must name it.
func TestEveryRightIsNeeded(t *testing.T) {
	for _, program := range []redistest.Program{redistest.Redis, redistest.Valkey, redistest.Redis6} {
		t.Run(string(program), func(t *testing.T) {
			t.Parallel()
			s := redistest.SingleOf(t, program, "--requirepass", "secret")
			url := s.User()
			// Without these a node can live: they are the doctor's, of a URL with a
			// database, always allowed, and of the end of a subscription.
			spared := map[string]bool{"ping": true, "hello": true, "time": true, "select": true, "auth": true, "unsubscribe": true}
			for word := range strings.FieldsSeq(redis.Rights(redis.Single)) {
				command, ok := strings.CutPrefix(word, "+")
				if !ok || spared[command] {
					continue
				}
				s.User("-" + command)
				wantFault(t, Config{URL: url}, command, "packaging/MANUAL.md")
			}
			s.User("resetkeys", "~other:*")
			wantFault(t, Config{URL: url}, "get", "set", "~agn:*")
			if program != redistest.Redis6 {
				s.User("resetkeys", "~agn:*", "resetchannels", "&other:*")
				wantFault(t, Config{URL: url}, "publish", "subscribe", "&agentnet:*")
			}
			wantFault(t, Config{URL: strings.Replace(url, "agents-secret", "secret2", 1)}, "WRONGPASS", "user or password")
			if !strings.HasPrefix(s.Must("ACL", "LIST"), "user") {
				t.Error("the server has no users")
			}
		})
	}
}

// TestClusterRights is the same for what a Redis Cluster needs besides.
func TestClusterRights(t *testing.T) {
	c := redistest.StartCluster(t, "--requirepass", "secret")
	allow := func(words ...string) {
		for _, s := range c.Servers {
			s.User(words...)
		}
	}
	besides := strings.Fields(strings.TrimPrefix(redis.Rights(redis.Cluster), redis.Rights(redis.Single)))
	allow(besides...)
	url := strings.Replace(c.URL(), "default:secret@", "agentnet:agents-secret@", 1)
	for _, lacks := range []string{"spublish", "ssubscribe"} {
		allow(append(besides, "-"+lacks)...)
		wantFault(t, Config{URL: url}, lacks, "packaging/MANUAL.md")
	}
	allow(besides...)
	for _, s := range c.Servers {
		s.Must("ACL", "LOG", "RESET")
	}
	nodes := startNodes(t, &store{config: BrokerConfig{URL: url}}, "a", "b")
	flood(t, nodes, 500)
	wantHistory(t, nodes[0].Broker(), nodes[1].Broker())
	for _, s := range c.Servers {
		if refused := s.Refused(); len(refused) > 0 {
			t.Errorf("the user of the manual was refused %q", refused)
		}
	}
}

// TestWrongPapers: each certificate that does not fit is told at the start.
func TestWrongPapers(t *testing.T) {
	s := redistest.Secure(t, redistest.Redis, "--requirepass", "secret")
	other := redistest.NewPapers(t)
	url, good := s.User(), papersOf(s)
	stranger := good
	stranger.Cert, stranger.Key = other.ClientCert, other.ClientKey
	old := good
	old.Cert, old.Key = s.Papers.ExpiredCert, s.Papers.ExpiredKey
	for name, tt := range map[string]struct {
		url   string
		files redis.TLS
		words []string
	}{
		"no authority":        {url, redis.TLS{Cert: good.Cert, Key: good.Key}, []string{"unknown authority", "redis_tls.ca"}},
		"another authority":   {url, redis.TLS{CA: other.CA, Cert: good.Cert, Key: good.Key}, []string{"unknown authority", "redis_tls.ca"}},
		"no certificate":      {url, redis.TLS{CA: good.CA}, []string{"redis_tls.cert and redis_tls.key"}},
		"a stranger's":        {url, stranger, []string{"redis_tls.cert"}},
		"an expired one":      {url, old, []string{"redis_tls.cert", "expired"}},
		"a file that is gone": {url, redis.TLS{CA: good.CA + ".gone"}, []string{"redis_tls.ca", "no such file"}},
		"a key as authority":  {url, redis.TLS{CA: good.Key}, []string{"redis_tls.ca", "holds no PEM certificate"}},
		"half a pair":         {url, redis.TLS{CA: good.CA, Cert: good.Cert}, []string{"redis_tls.key", "needed"}},
		"no TLS":              {strings.Replace(url, "rediss:", "redis:", 1), redis.TLS{}, []string{"rediss://"}},
	} {
		t.Run(name, func(t *testing.T) { wantFault(t, Config{URL: tt.url, TLS: tt.files}, tt.words...) })
	}
	plain := redistest.Single(t)
	wantFault(t, Config{URL: "rediss://" + plain.Addr(), TLS: good}, "does not speak TLS", "redis://")
	misnamed := redistest.Secure(t, redistest.Redis)
	misnamed.Show(misnamed.Papers.OtherCert, misnamed.Papers.OtherKey)
	wantFault(t, Config{URL: misnamed.URL(), TLS: papersOf(misnamed)}, "another name")
}

// TestClusterWithoutShards: a server that lacks sharded Pub/Sub serves as well,
// and a Cluster that lacks it says what is lost.
func TestClusterWithoutShards(t *testing.T) {
	c := redistest.StartCluster(t, "--rename-command", "SPUBLISH", "", "--rename-command", "SSUBSCRIBE", "")
	m := newRedisMedium(c.URL(), &Config{})
	defer m.close()
	if err := m.connect(within(t)); err != nil {
		t.Fatal(err)
	}
	if m.sharded || !strings.Contains(m.shortcoming(), "no sharded Pub/Sub") {
		t.Errorf("sharded is %v, the shortcoming %q", m.sharded, m.shortcoming())
	}
	nodes := startNodes(t, &store{config: BrokerConfig{URL: c.URL()}}, "a", "b")
	flood(t, nodes, 500)
	single := redistest.Single(t, "--rename-command", "SPUBLISH", "", "--rename-command", "SSUBSCRIBE", "")
	alone := newRedisMedium(single.URL(), &Config{})
	defer alone.close()
	if err := alone.connect(within(t)); err != nil || alone.shortcoming() != "" {
		t.Errorf("a single server: %v, shortcoming %q", err, alone.shortcoming())
	}
	nodes = startNodes(t, &store{config: BrokerConfig{URL: single.URL()}}, "a", "b")
	flood(t, nodes, 500)
}
