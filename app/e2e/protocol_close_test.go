package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentnet/app"
)

// TestProtocolCloseByMessage: what closes a connection at once, and with which code.
func TestProtocolCloseByMessage(t *testing.T) {
	n := calmNode(t, nil)
	bothWays(t, func(t *testing.T, d dialect) {
		for _, c := range []struct {
			name string
			do   func(s *speaker)
			code int
		}{
			{"1000", func(s *speaker) { s.push(frameBytes(0x80|opClose, []byte{0x03, 0xe8})) }, 1000},
			{"1001 of the client", func(s *speaker) { s.push(frameBytes(0x80|opClose, []byte{0x03, 0xe9})) }, 1001},
			{"1002 unmasked", func(s *speaker) { s.push([]byte{0x80 | d.opcode, 1, 'x'}) }, 1002},
			{"1003 other type", func(s *speaker) { s.push(frameBytes(0x80|d.other().opcode, []byte("{}"))) }, 1003},
			{"1008 malformed frames", func(s *speaker) {
				bad := d.join([]byte("\x08\x05"))
				if d == inJSON {
					bad = []byte(`{"id":5}`)
				}
				for range 50 {
					s.say(bad)
				}
			}, 1008},
			{"1009 message too big", func(s *speaker) { s.push(append([]byte{0x80 | d.opcode, 0xff}, 0, 0, 0, 0, 0, 0x10, 0, 1, 1, 2, 3, 4)) }, 1009},
		} {
			t.Run(c.name, func(t *testing.T) {
				s := join(t, n, d, "cls/a")
				c.do(s)
				s.wantClose(c.code)
				for _, h := range s.kept {
					if h.code() != "bad_frame" {
						t.Errorf("got %v", h)
					}
				}
			})
		}
	})
	t.Run("1007 not UTF-8", func(t *testing.T) {
		s := join(t, n, inJSON, "cls/a")
		s.say([]byte("{\"ping\":{\"x\":\"\xff\"}}"))
		s.wantClose(1007)
	})
	for name, prefix := range map[string][]byte{"too long": {0x7f, 1}, "endless": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "cut": {0x80}} {
		t.Run("1002 bad length prefix/"+name, func(t *testing.T) {
			s := join(t, n, inProtobuf, "cls/a")
			s.say(append(inProtobuf.join(inProtobuf.encode(t, obj{"id": 5, "ping": obj{}})), prefix...))
			if got := s.next("pong"); got.Id != 5 { // what stood before it counts
				t.Errorf("got %v", got)
			}
			s.wantClose(1002)
		})
	}
}

// TestProtocolCloseByTime: authentication, expiry and heartbeat.
func TestProtocolCloseByTime(t *testing.T) {
	n := calmNode(t, func(c *app.Config) {
		s := &c.Session
		s.AuthTimeout, s.Heartbeat, s.HeartbeatMin = app.Duration(300*time.Millisecond), app.Duration(time.Second), app.Duration(time.Second)
	})
	bothWays(t, func(t *testing.T, d dialect) {
		quiet := dialRaw(t, n.URL, d)
		// The token runs out on a live session: exp is in whole seconds and the leeway one more.
		expires := joinWith(t, n, d, obj{"token": jwt(t, time.Second, obj{"agents": "exp/a"})})
		mute, living := join(t, n, d, "hb/mute"), join(t, n, d, "hb/living")
		if mute.hello.HeartbeatMs != 1000 {
			t.Errorf("got %v", mute.hello)
		}
		for living.pinged < 2 { // it answers them, and lives longer than the mute one
			if !living.pump(time.Now().Add(patience)) {
				t.Fatalf("a living connection ended with %v", living.ended)
			}
		}
		quiet.wantClose(4000)
		expires.wantClose(4001)
		mute.nc.SetReadDeadline(time.Now().Add(patience))
		pinged := false
		for { // reads, but does not answer the pings
			first, p, err := mute.frame()
			if err != nil {
				t.Fatal(err)
			}
			if first&0x0f == opPing {
				pinged = true
				continue
			}
			if code := int(p[0])<<8 | int(p[1]); first&0x0f != opClose || code != 4006 || !pinged {
				t.Errorf("got frame %#x %q after a ping: %v, want 4006", first, p, pinged)
			}
			break
		}
		if got := mute.resume(n, d, 0); !got.hello.Resumed {
			t.Errorf("after 4006: got %v", got.hello)
		}
	})
}

// TestProtocolCloseSlow: one that does not read is closed with 4002 and resumes.
func TestProtocolCloseSlow(t *testing.T) {
	rules := func(c *app.Config) {
		c.Queue.SlowAfter, c.Queue.Bytes, c.Queue.TotalBytes = app.Duration(time.Minute), 1<<20, 512<<20
		c.Session.ReplayBytes, c.Session.ReplayFrames = 64<<20, 1<<16
		c.Channels = []app.ChannelRule{
			{Match: []string{"cut/**"}, Policy: "disconnect", RecentCount: 1000, RecentBytes: 64 << 20, RecentAge: app.Duration(time.Minute)},
			{Match: []string{"old/**"}, Policy: "drop_oldest", RecentCount: 10, RecentBytes: 1 << 20, RecentAge: app.Duration(time.Minute)},
			{Match: []string{"new/**"}, Policy: "drop_newest", RecentCount: 10, RecentBytes: 1 << 20, RecentAge: app.Duration(time.Minute)},
		}
	}
	slow := calmNode(t, rules)
	hasty := calmNode(t, func(c *app.Config) {
		rules(c)
		c.Queue.SlowAfter = app.Duration(300 * time.Millisecond)
	})
	fill := raw(`"` + strings.Repeat("x", 60000) + `"`)
	bothWays(t, func(t *testing.T, d dialect) {
		t.Run("direct", func(t *testing.T) {
			n := hasty
			a := join(t, n, d, "slw/a")
			b := join(t, n, d, "slw/"+d.name)
			sent, closed := 0, n.App.Hub().Stats().Closed[4002]
			for n.App.Hub().Stats().QueueFrames == 0 {
				a.ok(obj{"send": obj{"to": "slw/" + d.name, "data": fill}})
				sent++
			}
			eventually(t, "the relay to give the socket up", func() bool { return n.App.Hub().Stats().Closed[4002] > closed })
			b.end()
			seq := uint64(0)
			for _, h := range b.kept {
				seq = h.GetMessage().Seq
			}
			if b.ended.code != 4002 && b.ended.code != 0 { // the close frame stands behind what the socket does not take
				t.Errorf("closed with %v", b.ended)
			}
			r := b.resume(n, d, seq)
			for range uint64(sent) - seq {
				if seq++; r.next("message").GetMessage().Seq != seq {
					t.Errorf("seq %d is not replayed", seq)
				}
			}
			r.quiet()
			r.leave()
		})
		for _, policy := range []string{"old", "new", "cut"} {
			t.Run(policy, func(t *testing.T) {
				n := slow
				a := join(t, n, d, "slw/a")
				ch := policy + "/" + d.name
				b := join(t, n, d, "slw/"+policy+d.name)
				epoch := b.ok(obj{"subscribe": obj{"channel": ch}}).Epoch
				sent := uint64(0)
				dropped := func() uint64 { return n.App.Hub().Stats().Dropped["queue_full"] }
				before, closed := dropped(), n.App.Hub().Stats().Closed[4002]
				for dropped() == before && n.App.Hub().Stats().Closed[4002] == closed && sent < 2000 {
					a.ok(obj{"publish": obj{"channel": ch, "data": fill}})
					sent++
				}
				var got, missed, last uint64
				if policy == "cut" {
					b.end()
					for _, h := range b.kept {
						last = h.GetMessage().Offset
					}
					b = b.resume(n, d, 0, obj{"channel": ch, "epoch": epoch, "offset": last})
					for last < sent {
						if last++; b.next("message").GetMessage().Offset != last {
							t.Fatalf("offset %d is not replayed", last)
						}
					}
					return
				}
				for last < sent { // what waited leaves now, and gaps stand where the rest was
					h := b.await("the rest of the channel", func(heard) bool { return true })
					if g := h.GetGap(); g != nil && g.Channel == ch {
						missed, last = missed+g.Missed, last+g.Missed
						continue
					}
					if got, last = got+1, last+1; h.GetMessage().GetOffset() != last {
						t.Fatalf("got %.200s, want offset %d", h, last)
					}
				}
				if got+missed != sent || missed == 0 {
					t.Errorf("got %d and gaps of %d, want %d together", got, missed, sent)
				}
			})
		}
	})
}

// TestProtocolCloseUnavailable: a token that cannot be checked now is 1011.
func TestProtocolCloseUnavailable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	keys := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })}
	done := make(chan struct{})
	go func() { defer close(done); keys.Serve(ln) }()
	defer func() { keys.Close(); <-done }()
	n := calmNode(t, func(c *app.Config) {
		c.Auth.JWT = []app.Issuer{{Issuer: "https://keys.test", Audience: []string{"a"}, JWKSURL: "http://" + ln.Addr().String(), Leeway: app.Duration(time.Second), Claim: "agentnet"}}
	})
	token := jwtOf(obj{"alg": "RS256", "typ": "JWT", "kid": "k1"}, obj{"iss": "https://keys.test", "aud": "a", "sub": "x", "exp": time.Now().Add(time.Hour).Unix()}, "none")
	bothWays(t, func(t *testing.T, d dialect) {
		s := dialRaw(t, n.URL, d)
		if e := s.refused("unavailable", obj{"connect": obj{"token": token, "agent": "x"}}); e.RetryAfterMs == 0 {
			t.Errorf("got %v", e)
		}
		s.wantClose(1011)
		res := knock(t, n.URL, "Sec-WebSocket-Protocol: "+d.subprotocol, "Authorization: Bearer "+token).answer()
		if wantProblem(t, res, 503, "unavailable"); res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
	problem(t, n, "GET", "/v1/agents", token, nil, 503, "unavailable")
}

// TestProtocolDrain: a notice, then 4004, and nobody new.
func TestProtocolDrain(t *testing.T) {
	bothWays(t, func(t *testing.T, d dialect) {
		n := calmNode(t, func(c *app.Config) { c.Drain.Window = app.Duration(400 * time.Millisecond) })
		var all []*speaker
		for i := range 4 {
			all = append(all, join(t, n, d, fmt.Sprint("drn/", i)))
		}
		half := knockWith(t, n.URL, "GET /ws HTTP/1.1", "Host: x") // its first line is there; more is sent while draining
		stopped := make(chan struct{})
		go func() { defer close(stopped); n.Stop() }()
		for _, s := range all {
			m := s.next("notice").GetNotice()
			if m.Kind != "drain" || m.ReconnectInMs == 0 || m.Message == "" {
				t.Errorf("got %v", m)
			}
		}
		half.nc.Close()
		for _, s := range all {
			if got := s.end(); got.code != 4004 {
				t.Errorf("got %v", got)
			}
			s.nc.Close()
		}
		<-stopped
		if c, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://")); err == nil {
			io.Copy(io.Discard, c)
			c.Close()
			t.Error("it still accepts connections")
		}
	})
}

// TestProtocolOverload fills the queues: notices name the level and what is off,
// refusals say when to try again, critical messages pass, and all ends by itself.
func TestProtocolOverload(t *testing.T) {
	n := calmNode(t, func(c *app.Config) {
		o := &c.Overload
		o.UpHold, o.DownHold = 0, app.Duration(200*time.Millisecond)
		o.QueueElevated, o.QueueDegraded, o.QueueCritical = 0.1, 0.2, 0.3
		c.Queue.Bytes, c.Queue.TotalBytes, c.Queue.SlowAfter = 8<<20, 8<<20, app.Duration(time.Minute)
		c.Session.ReplayBytes, c.Session.ReplayFrames = 64<<20, 1<<16
	})
	fill := raw(`"` + strings.Repeat("x", 60000) + `"`)
	bothWays(t, func(t *testing.T, d dialect) {
		a, b := join(t, n, d, "ovl/a-"+d.name), join(t, n, d, "ovl/b-"+d.name)
		full := join(t, n, d, "ovl/full-"+d.name)
		for n.App.Hub().Stats().QueueBytes < 3<<20 {
			a.ok(obj{"send": obj{"to": "ovl/full-" + d.name, "data": fill, "priority": "critical"}})
		}
		told := a.await("the level critical", func(h heard) bool { return h.GetNotice().GetLevel() == "critical" }).GetNotice()
		if told.Kind != "degraded" || told.Until == 0 || !strings.Contains(told.Message, "low") {
			t.Errorf("got %v", told)
		}
		for what, cmd := range map[string]obj{
			"history": {"history": obj{"channel": "x"}}, "low": {"send": obj{"to": "ovl/b-" + d.name, "priority": "low"}}, "publish": {"publish": obj{"channel": "x"}},
		} {
			if e := a.refused("overloaded", cmd); e.RetryAfterMs == 0 {
				t.Errorf("%s: got %v", what, e)
			}
		}
		a.ok(obj{"send": obj{"to": "ovl/b-" + d.name, "priority": "critical", "data": raw(`1`)}})
		b.want("message")
		res := knock(t, n.URL, "Sec-WebSocket-Protocol: "+d.subprotocol).answer()
		if wantProblem(t, res, 503, "overloaded"); res.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if res, got := call(t, n, "GET", "/readyz", "", nil); res.StatusCode != 503 || got["ready"] != false {
			t.Errorf("readyz: got %s %v", res.Status, got)
		}
		full.fence() // it reads again
		if told := a.await("the level normal", func(h heard) bool { return h.GetNotice().GetLevel() == "normal" }).GetNotice(); told.Kind != "degraded" {
			t.Errorf("got %v", told)
		}
		a.ok(obj{"publish": obj{"channel": "x", "priority": "low"}})
	})
}
