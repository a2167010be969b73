package cluster

import (
	"slices"
	"strings"
	"testing"

	"agentnet/app/redis"
)

func TestURL(t *testing.T) {
	type want struct {
		addresses              string
		user, password, master string
		db                     int
		cluster, tls           bool
	}
	tests := map[string]want{
		"redis://h":                          {addresses: "h:6379"},
		"redis://:s%40cret@h:1/3":            {addresses: "h:1", password: "s@cret", db: 3},
		"rediss://u:p@h":                     {addresses: "h:6379", user: "u", password: "p", tls: true},
		"redis://[::1]:7000":                 {addresses: "[::1]:7000"},
		"redis+cluster://u:p@a,b:7001,[::1]": {addresses: "a:6379 b:7001 [::1]:6379", user: "u", password: "p", cluster: true},
		"rediss+cluster://a:1,b:2":           {addresses: "a:1 b:2", cluster: true, tls: true},
		"redis+sentinel://:p@a,b:2/main":     {addresses: "a:26379 b:2", password: "p", master: "main"},
		"redis+sentinel://a/main?db=4":       {addresses: "a:26379", master: "main", db: 4},
		"redis+sentinel://u:p@a/m?sentinel_password=x&sentinel_user=y": {addresses: "a:26379", user: "u", password: "p", master: "m"},
	}
	for text, w := range tests {
		opt, err := parseURL(text, redis.TLS{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := want{strings.Join(opt.InitAddress, " "), opt.Username, opt.Password, opt.Sentinel.MasterSet, opt.SelectDB, opt.cluster, opt.TLSConfig != nil}
		if got != w {
			t.Errorf("%s: got %+v, want %+v", text, got, w)
		}
	}
	for _, text := range []string{"", "h:6379", "http://h", "redis+x://h", "redis://", "redis://a,b", "redis+cluster://a,,b", "redis+cluster://a/1", "redis+sentinel://a",
		"redis+sentinel://a/m/n", "redis://h/x", "redis://h?db=1", "redis://h#f", "redis://h:99999", "redis://u:se%cret@h", "redis+sentinel://a/m?db=-1"} {
		err := CheckURL(text)
		if err == nil {
			t.Errorf("%q was taken", text)
		} else if strings.Contains(err.Error(), "se%cret") {
			t.Errorf("%q: the error repeats it: %v", text, err)
		}
	}
}

func TestBreaker(t *testing.T) {
	var b breaker
	for i := range tripAfter {
		if !b.allow() {
			t.Fatalf("call %d was kept away", i)
		}
		b.done(false)
	}
	if b.allow() || !b.tripped.Load() || b.word() != "open" {
		t.Errorf("after %d failures it is %s", tripAfter, b.word())
	}
	b.until = b.until.Add(-openMost)
	if !b.allow() || b.allow() || b.word() != "half_open" {
		t.Errorf("it lets more or less than one try: %s", b.word())
	}
	first := b.wait
	b.done(false)
	if b.allow() || b.wait != 2*first {
		t.Errorf("after a failed try it waits %v, want %v", b.wait, 2*first)
	}
	b.until = b.until.Add(-openMost)
	b.allow()
	b.done(true)
	if !b.allow() || b.word() != "closed" || b.openings() != 1 {
		t.Errorf("after a success it is %s, opened %d times", b.word(), b.openings())
	}
	if !slices.Contains(reasons[:], ReasonCut) {
		t.Error("a reason is not counted")
	}
}
