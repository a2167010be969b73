package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

func TestConnectTellsWhoAndWhere(t *testing.T) {
	for name, encoding := range map[string]wire.Encoding{"json": wire.JSON, "protobuf": wire.Protobuf} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeRelay(t)
				defer f.stop()
				dial := start(func() (*Client, error) {
					return Dial(t.Context(), Config{
						URL: "http://relay.test/base/", NetDial: f.dial, Encoding: encoding,
						Token: "agn_secret", Agent: "alice/cal", Name: "tester", Version: "1.2",
					})
				})
				p := <-f.peers
				cmd := p.accept("s_1", false)
				c, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				want := wire.Connect{Token: "agn_secret", Agent: "alice/cal", Client: wire.ClientInfo{Name: "tester", Version: "1.2"}}
				if got := *cmd.Connect; got != want {
					t.Errorf("got connect %+v, want %+v", got, want)
				}
				if p.encoding != encoding || p.path != "/base/ws" {
					t.Errorf("got encoding %v at %s, want %v at /base/ws", p.encoding, p.path, encoding)
				}
				if i := c.Info(); i.Agent != "alice" || i.Node != "n1" || i.Heartbeat != 25*time.Second || i.Limits.FrameBytes != 65536 {
					t.Errorf("got info %+v", i)
				}
			})
		})
	}
}

func TestSendAndItsOutcomes(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		send := start(func() (Sent, error) {
			return s.client.Send(s.Context(), "bob", RawJSON([]byte(`{"text":"hi"}`)),
				Priority(wire.High), TTL(time.Minute), Key("k1"), Header("trace", "7"), Receipts())
		})
		cmd := s.peer.nextOf(wire.KindSend)
		got := fmt.Sprintf("%s %s %v %d %s %v %v", cmd.To, cmd.Payload.Data, cmd.Class, cmd.TTLMS, cmd.Key, cmd.Headers, cmd.Receipts)
		if want := `bob {"text":"hi"} high 60000 k1 [{trace 7}] true`; got != want {
			s.Errorf("got send %s, want %s", got, want)
		}
		s.peer.ok(cmd, wire.OK{MessageID: "01J", Outcome: wire.Delivered, Sessions: 2})
		if sent, err := send(); err != nil || sent != (Sent{"01J", wire.Delivered, 2}) {
			s.Errorf("got %+v, %v", sent, err)
		}

		send = start(func() (Sent, error) { return s.client.Send(s.Context(), "carol", Bytes([]byte{0, 255})) })
		cmd = s.peer.nextOf(wire.KindSend)
		if !cmd.Payload.Binary || string(cmd.Payload.Data) != "\x00\xff" || cmd.Class != wire.Normal || len(cmd.Key) < 16 {
			s.Errorf("got binary send %+v with key %q", cmd.Payload, cmd.Key)
		}
		s.peer.refuse(cmd, wire.Error{Code: wire.AgentOffline, Message: "carol is away", RetryAfterMS: 5})
		_, err := send()
		if e, ok := errors.AsType[*wire.Error](err); !ok || *e != (wire.Error{Code: wire.AgentOffline, Message: "carol is away", RetryAfterMS: 5}) {
			s.Errorf("got error %v, want the relay's", err)
		}
	})
}

func TestSendRefusesWhatTheRelayWould(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		_, err := s.client.Send(s.Context(), "bob", RawJSON([]byte(`{"a":1}} {"ack":{"seq":9}}`)))
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.BadFrame {
			s.Errorf("got %v for data that is no JSON, want bad_frame", err)
		}
		_, err = s.client.Send(s.Context(), "bob", Bytes(make([]byte, 70000)))
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.TooLarge {
			s.Errorf("got %v for 70,000 bytes, want too_large", err)
		}
		s.peer.quiet(time.Second)
	})
}

// TestWaitingCommandsShareAMessage queues many sends while the connection is down;
// they must arrive in order and in few WebSocket messages.
func TestWaitingCommandsShareAMessage(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		s.relay.setCut(true)
		s.peer.drop()
		synctest.Wait()
		var pending []*Pending
		for i := range 500 {
			p, err := s.client.SendAsync(s.Context(), "bob", RawJSON(fmt.Appendf(nil, "%d", i)))
			if err != nil {
				s.Fatal(err)
			}
			pending = append(pending, p)
		}
		s.relay.setCut(false)
		s.rejoin("s_1", true)
		for i := range 500 {
			cmd := s.peer.nextOf(wire.KindSend)
			if got := string(cmd.Payload.Data); got != fmt.Sprint(i) {
				s.Fatalf("got message %s in place %d", got, i)
			}
			s.peer.ok(cmd, wire.OK{Outcome: wire.Delivered, Sessions: 1})
		}
		for i, p := range pending {
			if sent, err := p.Sent(s.Context()); err != nil || sent.Outcome != wire.Delivered {
				s.Fatalf("send %d: %+v, %v", i, sent, err)
			}
		}
		s.client.Close()
		for range s.peer.commands {
		}
		if s.peer.messages > 5 {
			s.Errorf("500 waiting sends took %d WebSocket messages, want a few", s.peer.messages)
		}
	})
}

func TestLostAnswerIsAskedForAgainWithTheSameKey(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		send := start(func() (Sent, error) { return s.client.Send(s.Context(), "bob", RawJSON([]byte(`1`))) })
		first := s.peer.nextOf(wire.KindSend)
		publish := start(func() (wire.Since, error) { return s.client.Publish(s.Context(), "news", RawJSON([]byte(`2`))) })
		s.peer.nextOf(wire.KindPublish)
		s.peer.drop()
		connect := s.rejoin("s_1", true)
		if r := connect.Connect.Resume; r == nil || r.Session != "s_1" {
			s.Fatalf("got resume %+v, want of s_1", connect.Connect.Resume)
		}
		again := s.peer.nextOf(wire.KindSend)
		if string(again.Key) != string(first.Key) || len(again.Key) == 0 {
			s.Errorf("got key %q the second time, want %q", again.Key, first.Key)
		}
		pub := s.peer.nextOf(wire.KindPublish)
		s.peer.ok(again, wire.OK{MessageID: "m", Outcome: wire.Parked})
		s.peer.ok(pub, wire.OK{Epoch: "e", Offset: 9})
		if sent, err := send(); err != nil || sent.Outcome != wire.Parked {
			s.Errorf("send: got %+v, %v", sent, err)
		}
		if at, err := publish(); err != nil || at != (wire.Since{Epoch: "e", Offset: 9}) {
			s.Errorf("publish: got %+v, %v", at, err)
		}
		s.peer.quiet(time.Minute)
	})
}

// TestTooLateToRepeat keeps the relay away for longer than it knows dedup keys:
// what may have been accepted must not be repeated, what was never sent must be.
func TestTooLateToRepeat(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		written := start(func() (Sent, error) { return s.client.Send(s.Context(), "bob", RawJSON([]byte(`"written"`))) })
		s.peer.nextOf(wire.KindSend)
		s.relay.setCut(true)
		s.peer.drop()
		time.Sleep(time.Second)
		waiting := start(func() (Sent, error) { return s.client.Send(s.Context(), "bob", RawJSON([]byte(`"waiting"`))) })
		time.Sleep(3 * time.Minute)
		s.relay.setCut(false)
		s.rejoin("s_2", false)
		cmd := s.peer.nextOf(wire.KindSend)
		if string(cmd.Payload.Data) != `"waiting"` {
			s.Fatalf("got %s repeated after three minutes", cmd.Payload.Data)
		}
		s.peer.ok(cmd, wire.OK{Outcome: wire.Delivered})
		if _, err := written(); !errors.Is(err, ErrUncertain) {
			s.Errorf("got %v for the lost answer, want ErrUncertain", err)
		}
		if _, err := waiting(); err != nil {
			s.Errorf("got %v for the send that waited", err)
		}
	})
}

func TestContextEndsAWait(t *testing.T) {
	play(t, Config{QueueFrames: 2}, func(s *scene) {
		s.relay.setCut(true)
		s.peer.drop()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
		defer cancel()
		var waits []func() (Sent, error)
		for range 4 { // two fit into the queue, two wait for room
			waits = append(waits, start(func() (Sent, error) { return s.client.Send(ctx, "bob", RawJSON([]byte(`1`))) }))
		}
		for _, wait := range waits {
			if _, err := wait(); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.DeadlineExceeded) {
				s.Errorf("got %v, want ErrNotSent and DeadlineExceeded", err)
			}
		}
		s.relay.setCut(false)
		s.rejoin("s_1", true)
		s.peer.quiet(time.Minute) // what was given up must not be sent

		ctx2, cancel2 := context.WithTimeout(s.Context(), time.Minute)
		defer cancel2()
		send := start(func() (Sent, error) { return s.client.Send(ctx2, "bob", RawJSON([]byte(`1`))) })
		s.peer.nextOf(wire.KindSend)
		if _, err := send(); !errors.Is(err, ErrUncertain) {
			s.Errorf("got %v for a send without an answer, want ErrUncertain", err)
		}
	})
}

func TestQueueBoundsWhatWaits(t *testing.T) {
	play(t, Config{QueueFrames: 10}, func(s *scene) {
		done := start(func() (int, error) {
			for i := range 100 {
				if _, err := s.client.SendAsync(s.Context(), "bob", RawJSON(fmt.Appendf(nil, "%d", i))); err != nil {
					return i, err
				}
			}
			return 100, nil
		})
		for i := range 100 {
			cmd := s.peer.nextOf(wire.KindSend)
			if string(cmd.Payload.Data) != fmt.Sprint(i) {
				s.Fatalf("got %s in place %d", cmd.Payload.Data, i)
			}
			synctest.Wait()
			if n := len(s.peer.commands); n > 10 {
				s.Fatalf("%d sends are unanswered, want at most 10", n)
			}
			s.peer.ok(cmd, wire.OK{Outcome: wire.Delivered})
		}
		if n, err := done(); n != 100 || err != nil {
			s.Errorf("got %d, %v", n, err)
		}
	})
}

func TestCloseCodesDecideWhetherToReturn(t *testing.T) {
	for code, back := range map[wire.CloseCode]bool{
		wire.CloseGoingAway: true, wire.CloseNormal: true, wire.ClosePolicy: true, wire.CloseInternal: true,
		wire.CloseSlowConsumer: true, wire.CloseDrain: true, wire.CloseOverloaded: true, wire.CloseHeartbeatMissed: true,
		wire.CloseAuthFailed: false, wire.CloseTokenExpired: false, wire.CloseReplaced: false,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			play(t, Config{}, func(s *scene) {
				s.peer.close(code)
				if back {
					s.rejoin("s_1", true)
					synctest.Wait()
					if got := s.client.State(); got != Connected {
						s.Errorf("got state %v, want connected", got)
					}
					return
				}
				<-s.client.Done()
				if e, ok := errors.AsType[*CloseError](s.client.Err()); !ok || e.Code != code || !errors.Is(s.client.Err(), ErrClosed) {
					s.Errorf("got error %v, want close code %d", s.client.Err(), code)
				}
				all := s.changes()
				if last := all[len(all)-1]; last.State != Closed || last.Cause == nil {
					s.Errorf("got last state %+v, want closed with a cause", last)
				}
				if _, err := s.client.Send(s.Context(), "bob", RawJSON([]byte(`1`))); !errors.Is(err, ErrClosed) {
					s.Errorf("got %v from a closed client, want ErrClosed", err)
				}
				if n := len(s.relay.dialled()); n != 1 {
					s.Errorf("got %d dials, want 1", n)
				}
			})
		})
	}
}

func TestRefusedConnect(t *testing.T) {
	for _, tc := range []struct {
		code  wire.Code
		final bool
	}{
		{wire.Unauthorized, true}, {wire.Forbidden, true}, {wire.BadFrame, true},
		{wire.RateLimited, false}, {wire.Overloaded, false}, {wire.Unavailable, false}, {wire.Internal, false},
	} {
		t.Run(string(tc.code), func(t *testing.T) {
			play(t, Config{}, func(s *scene) {
				s.peer.drop()
				p := s.nextPeer()
				cmd := p.nextOf(wire.KindConnect)
				asked := time.Now()
				p.refuse(cmd, wire.Error{Code: tc.code, Message: "no", RetryAfterMS: 90000})
				p.close(wire.ClosePolicy)
				if tc.final {
					<-s.client.Done()
					if e, ok := errors.AsType[*wire.Error](s.client.Err()); !ok || e.Code != tc.code {
						s.Errorf("got %v, want %s", s.client.Err(), tc.code)
					}
					return
				}
				s.rejoin("s_1", true)
				if waited := time.Since(asked); waited < 90*time.Second {
					s.Errorf("came back after %v, want 90 s at least, as told", waited)
				}
			})
		})
	}
}

func TestRetryAfterOfTheHandshake(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		refused := 0
		s.relay.setRefuse(func(w http.ResponseWriter) bool {
			if refused++; refused > 3 {
				return false
			}
			w.Header().Set("Retry-After", "40")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"status":503,"code":"overloaded","detail":"too many connections at a time"}`)
			return true
		})
		begin := time.Now()
		s.peer.drop()
		s.rejoin("s_1", true)
		if waited := time.Since(begin); waited < 120*time.Second || waited > 240*time.Second {
			s.Errorf("came back after %v, want three times 40 s and a little", waited)
		}
		var told []string
		for _, st := range s.changes() {
			if e, ok := errors.AsType[*HandshakeError](st.Cause); ok {
				told = append(told, e.Error())
			}
		}
		if len(told) != 3 || !strings.Contains(told[0], "503") || !strings.Contains(told[0], "too many connections at a time") {
			s.Errorf("got causes %q, want three that name 503 and the detail", told)
		}
	})
}

func TestDialFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeRelay(t)
		defer f.stop()
		cfg := Config{URL: "http://relay.test", NetDial: f.dial, Token: "agn_x"}
		f.setCut(true)
		if _, err := Dial(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "relay.test") {
			t.Errorf("got %v, want an error that names the address", err)
		}
		cfg.Patient = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		if _, err := Dial(ctx, cfg); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("got %v after %v, want DeadlineExceeded after 1 m", err, time.Since(begin))
		}
		if n := len(f.dialled()); n < 5 || n > 40 {
			t.Errorf("got %d dials in a minute, want the backoff to grow", n)
		}
		f.setCut(false)
		f.setRefuse(func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusNotFound); return true })
		if _, err := Dial(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("got %v, want the 404 at once although patient", err)
		}
		f.setRefuse(nil)
		// A relay that upgrades and then says nothing.
		go func() { <-f.peers }()
		cfg.Patient = false
		begin = time.Now()
		if _, err := Dial(t.Context(), cfg); err == nil || time.Since(begin) != 15*time.Second {
			t.Errorf("got %v after %v, want an error after 15 s", err, time.Since(begin))
		}
		// The same, and the caller gives up first.
		go func() { <-f.peers }()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin = time.Now()
		if _, err := Dial(ctx, cfg); !errors.Is(err, context.Canceled) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v, want Canceled after 1 s", err, time.Since(begin))
		}
		for _, bad := range []Config{{}, {URL: "http://x"}, {URL: "x", Token: "t"}, {URL: "http://x", Token: "t", Encoding: 7},
			{URL: "http://x", Token: "t", Backoff: Backoff{Min: 2, Max: 1}}} {
			if c, err := Dial(t.Context(), bad); err == nil {
				c.Close()
				t.Errorf("Dial(%+v) took a bad config", bad)
			}
		}
	})
}

func TestDrainNotice(t *testing.T) {
	var notices inbasket
	cfg := Config{OnNotice: func(n wire.Notice) { notices.put(n.Kind + " " + n.Message) }}
	play(t, cfg, func(s *scene) {
		s.peer.send(wire.AppendNotice(nil, s.peer.encoding, &wire.Notice{
			Kind: "drain", Message: "restarting", ReconnectInMS: 20000,
			Endpoints: []string{"http://node2.test/base", "nonsense"},
		}))
		synctest.Wait()
		told := time.Now()
		s.peer.close(wire.CloseDrain)
		s.rejoin("s_1", true)
		if waited := time.Since(told); waited < 20*time.Second || waited > 21*time.Second {
			s.Errorf("came back after %v, want 20 s and at most half a second", waited)
		}
		if hosts := s.relay.dialled(); hosts[1] != "node2.test:80" {
			s.Errorf("dialled %v, want the named endpoint the second time", hosts)
		}
		// The next loss is an ordinary one: the session is at the second node now.
		s.peer.drop()
		s.rejoin("s_1", true)
		if hosts := s.relay.dialled(); hosts[2] != "node2.test:80" {
			s.Errorf("dialled %v, want the second node once more", hosts)
		}
		// When that is gone, the first address is as good as any.
		s.relay.setDown("node2.test:80")
		s.peer.drop()
		s.rejoin("s_1", true)
		if hosts := s.relay.dialled(); hosts[3] != "node2.test:80" || hosts[4] != "relay.test:80" {
			s.Errorf("dialled %v, want the second node and then the first address", hosts)
		}
	})
	if got := notices.all(); len(got) != 2 || got[0] != "drain restarting" {
		t.Errorf("got notices %q, want one for each encoding", got)
	}
}

func TestEndpointsNeverWeakenTheScheme(t *testing.T) {
	var p plan
	p.note(wire.Notice{Endpoints: []string{"http://a", "ws://b", "wss://c", "https://d"}}, "wss://relay.test/ws")
	if got := strings.Join(p.endpoints, " "); got != "wss://c/ws wss://d/ws" {
		t.Errorf("got endpoints %s, want only those with TLS", got)
	}
}

func TestExpiredTokenIsFetchedAnew(t *testing.T) {
	tokens := 0
	cfg := Config{TokenSource: func(context.Context) (string, error) {
		tokens = min(tokens+1, 4)
		return fmt.Sprint("token", tokens), nil
	}}
	play(t, cfg, func(s *scene) {
		tokens = 1
		s.peer.close(wire.CloseTokenExpired)
		if cmd := s.rejoin("s_1", true); cmd.Connect.Token == "token1" {
			s.Errorf("came back with the expired %s", cmd.Connect.Token)
		}
		tokens = 4 // from now on the source has nothing new
		s.peer.drop()
		s.rejoin("s_1", true)
		s.peer.close(wire.CloseTokenExpired)
		<-s.client.Done()
		if e, ok := errors.AsType[*CloseError](s.client.Err()); !ok || e.Code != wire.CloseTokenExpired {
			s.Errorf("got %v, want the client to end when there is no other token", s.client.Err())
		}
		tokens = 0
	})
}

func TestHeartbeat(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		for i := range 4 {
			begin := time.Now()
			ping := s.peer.any()
			if ping.Kind != wire.KindPing {
				s.Fatalf("got %v, want ping", ping.Kind)
			}
			if waited := time.Since(begin); i < 2 && (waited < 22*time.Second || waited > 25*time.Second) {
				s.Errorf("ping %d came after %v, want nearly 25 s", i, waited)
			} else if i == 3 && waited > 10*time.Second {
				s.Errorf("ping %d came after %v, want the new interval of 10 s", i, waited)
			}
			if i > 0 && ping.RTTMS != 300 {
				s.Errorf("got rtt %d ms with ping %d, want 300", ping.RTTMS, i)
			}
			time.Sleep(300 * time.Millisecond)
			pong := wire.Pong{ID: ping.ID, TimeMS: 1}
			if i == 1 {
				pong.HeartbeatMS = 10000
			}
			s.peer.send(wire.AppendPong(nil, s.peer.encoding, &pong))
			synctest.Wait()
			if got := s.client.RTT(); got != 300*time.Millisecond {
				s.Errorf("got RTT %v, want 300ms", got)
			}
		}
		// The relay falls silent: pings go unanswered, the connection is given up.
		begin := time.Now()
		s.peer.silent(time.Hour, false)
		if waited := time.Since(begin); waited > 21*time.Second {
			s.Errorf("the silent connection was kept for %v, want heartbeat and grace, 20 s", waited)
		}
		s.rejoin("s_1", true)
		if all := s.changes(); !errors.Is(all[len(all)-2].Cause, errHeartbeat) {
			s.Errorf("got cause %v, want the heartbeat", all[len(all)-2].Cause)
		}
	})
}

func TestCloseHandsOverWhatWaits(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		var pending []*Pending
		for range 50 {
			p, err := s.client.SendAsync(s.Context(), "bob", RawJSON([]byte(`1`)))
			if err != nil {
				s.Fatal(err)
			}
			pending = append(pending, p)
		}
		closed := start(func() (int, error) { return 0, s.client.Close() })
		for range 50 {
			cmd := s.peer.nextOf(wire.KindSend)
			time.Sleep(10 * time.Millisecond)
			s.peer.ok(cmd, wire.OK{Outcome: wire.Delivered})
		}
		for range s.peer.commands {
		}
		if s.peer.closed != 1000 {
			s.Errorf("got close code %d, want 1000", s.peer.closed)
		}
		if _, err := closed(); err != nil {
			s.Error(err)
		}
		for _, p := range pending {
			if _, err := p.Sent(s.Context()); err != nil {
				s.Fatalf("a send that waited at Close: %v", err)
			}
		}
		if err := s.client.Err(); err != ErrClosed {
			s.Errorf("got %v, want exactly ErrClosed", err)
		}
		<-s.client.Done()
	})
}

// TestCloseIsBounded closes while the relay does not answer, and while there is
// none.
func TestCloseIsBounded(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		send := start(func() (Sent, error) { return s.client.Send(s.Context(), "bob", RawJSON([]byte(`1`))) })
		s.peer.nextOf(wire.KindSend)
		begin := time.Now()
		s.client.Close()
		if took := time.Since(begin); took > 3*time.Second {
			s.Errorf("Close took %v, want 3 s at most", took)
		}
		if _, err := send(); !errors.Is(err, ErrUncertain) || !errors.Is(err, ErrClosed) {
			s.Errorf("got %v, want ErrUncertain and ErrClosed", err)
		}
	})
	play(t, Config{}, func(s *scene) {
		s.relay.setCut(true)
		s.peer.drop()
		time.Sleep(time.Minute)
		begin := time.Now()
		s.client.Close()
		if took := time.Since(begin); took > 0 {
			s.Errorf("Close took %v without a connection, want no time", took)
		}
	})
}

func TestUnreadableFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, relay: newFakeRelay(t)}
		defer s.relay.stop()
		s.connect(Config{})
		defer s.client.Close()
		// A kind of a later version is passed over, the frame after it is not.
		s.peer.send([]byte(`{"sparkle":{"n":1}}`), []byte(`{"pong":{"time":1,"heartbeat_ms":7000}}`))
		synctest.Wait()
		if got := s.client.Info().Heartbeat; got != 7*time.Second {
			t.Errorf("got heartbeat %v, want the frame after the unknown one to count: 7s", got)
		}
		if s.client.State() != Connected {
			t.Errorf("got state %v, want connected", s.client.State())
		}
	})
}
