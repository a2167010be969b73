package doctor

import (
	"context"
	"strings"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
	"agentnet/app/redis"
)

var redisLooks = map[string]func(context.Context, *Config) outcome{
	"server": redisServer, "memory": redisMemory, "latency": redisLatency, "pubsub": redisPubSub, "clock": redisClock,
}

// TestEveryRedis: the doctor looks at each kind of Redis, with the rights that the
// manual gives to its user.
func TestEveryRedis(t *testing.T) {
	secure := redistest.Secure(t, redistest.Redis, "--requirepass", "secret")
	cluster, sentinel := redistest.StartCluster(t), redistest.StartSentinel(t)
	valkey, six := redistest.SingleOf(t, redistest.Valkey), redistest.SingleOf(t, redistest.Redis6)
	old := redistest.StartClusterOf(t, redistest.Redis6)
	for name, tt := range map[string]struct {
		cfg  Config
		want Result
		says string
	}{
		"tls and a user": {Config{Redis: secure.User(), RedisTLS: redis.TLS{CA: secure.Papers.CA, Cert: secure.Papers.ClientCert, Key: secure.Papers.ClientKey}}, OK, "Redis 7"},
		"cluster":        {Config{Redis: cluster.URL()}, OK, "cluster"},
		"sentinel":       {Config{Redis: sentinel.URL()}, OK, "role master"},
		"valkey":         {Config{Redis: valkey.URL()}, OK, ", standalone, role master"},
		"redis 6":        {Config{Redis: six.URL()}, OK, "Redis 6.0"},
		"old cluster":    {Config{Redis: old.URL()}, Warn, "no sharded Pub/Sub"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Now = time.Now
			if got := redisServer(t.Context(), &tt.cfg); got.result != tt.want || !strings.Contains(got.evidence, tt.says) {
				t.Errorf("got %+v, want %s with %q", got, tt.want, tt.says)
			}
			for look, f := range redisLooks {
				if got := f(t.Context(), &tt.cfg); got.result == Fail {
					t.Errorf("%s: got %+v", look, got)
				}
			}
		})
	}
	if refused := secure.Refused(); len(refused) > 0 {
		t.Errorf("the user of the manual was refused %q", refused)
	}
}

// TestRedisFaultsAreTold: what only a person can mend comes with what to do.
func TestRedisFaultsAreTold(t *testing.T) {
	s := redistest.Secure(t, redistest.Redis, "--requirepass", "secret")
	url, papers := s.User(), redis.TLS{CA: s.Papers.CA, Cert: s.Papers.ClientCert, Key: s.Papers.ClientKey}
	for name, tt := range map[string]struct {
		cfg           Config
		evidence, fix string
	}{
		"no authority":   {Config{Redis: url}, "unknown authority", "redis_tls.ca"},
		"no certificate": {Config{Redis: url, RedisTLS: redis.TLS{CA: papers.CA}}, "certificate required", "redis_tls.cert"},
		"no TLS":         {Config{Redis: strings.Replace(url, "rediss:", "redis:", 1)}, "speaks TLS", "rediss://"},
		"wrong password": {Config{Redis: s.URLAs("agentnet", "wrong"), RedisTLS: papers}, "WRONGPASS", "user or password"},
		"no such file":   {Config{Redis: url, RedisTLS: redis.TLS{CA: "/gone"}}, "redis_tls.ca", ""},
	} {
		if got := redisServer(t.Context(), &tt.cfg); got.result != Fail || !strings.Contains(got.evidence, tt.evidence) || !strings.Contains(got.fix, tt.fix) || strings.Contains(got.evidence+got.fix, "agents-secret") {
			t.Errorf("%s: got %+v, want evidence %q and fix %q", name, got, tt.evidence, tt.fix)
		}
	}
	cfg := &Config{Redis: url, RedisTLS: papers}
	s.User("-time")
	if got := redisClock(t.Context(), cfg); got.result != Fail || !strings.Contains(got.fix, redis.Manual) {
		t.Errorf("without the right to TIME: got %+v", got)
	}
	s.User("+time", "resetchannels", "&other:*")
	if got := redisPubSub(t.Context(), cfg); got.result != Fail || !strings.Contains(got.fix, "&agentnet:*") {
		t.Errorf("without a right to channels: got %+v", got)
	}
}
