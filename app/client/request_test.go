package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

func text(s string) wire.Payload { return RawJSON(fmt.Appendf(nil, "%q", s)) }

func TestRequestAndReply(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		ask := start(func() (Reply, error) {
			return s.client.Request(s.Context(), "bob", "book", text("15:30"), Timeout(5*time.Second), Header("h", "v"))
		})
		cmd := s.peer.nextOf(wire.KindRequest)
		if got := fmt.Sprint(string(cmd.To), string(cmd.Method), string(cmd.Payload.Data), cmd.TimeoutMS, cmd.Headers); got != `bobbook"15:30"5000 [{h v}]` {
			s.Errorf("got request %s", got)
		}
		s.peer.reply(wire.Reply{ID: cmd.ID, Seq: 1, From: "bob", Payload: text("ok")})
		if r, err := ask(); err != nil || string(r.Payload.Data) != `"ok"` || r.From != "bob" {
			s.Errorf("got %+v, %v", r, err)
		}
		if acks := s.peer.acks(time.Second); !slices.Equal(acks, []uint64{1}) {
			s.Errorf("got acks %v, want the reply's", acks)
		}

		for name, refuse := range map[string]func(wire.Command){
			"by the relay": func(cmd wire.Command) { s.peer.refuse(cmd, wire.Error{Code: wire.AgentOffline}) },
			"by the agent": func(cmd wire.Command) {
				s.peer.reply(wire.Reply{ID: cmd.ID, Seq: 2, From: "bob", Err: &wire.Error{Code: wire.AgentOffline}})
			},
		} {
			ask := start(func() (Reply, error) { return s.client.Request(s.Context(), "bob", "book", text("x")) })
			refuse(s.peer.nextOf(wire.KindRequest))
			_, err := ask()
			if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.AgentOffline {
				s.Errorf("refused %s: got %v, want agent_offline", name, err)
			}
		}
		s.peer.quiet(time.Second) // nothing is cancelled that has ended
	})
}

func TestStreamedReply(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		stream := func(limit int) func() ([]string, error) {
			return start(func() (got []string, err error) {
				for r, err := range s.client.RequestStream(s.Context(), "bob", "tell", text("x")) {
					if err != nil {
						return got, err
					}
					if got = append(got, string(r.Payload.Data)); len(got) == limit {
						break
					}
				}
				return got, nil
			})
		}
		result := stream(-1)
		cmd := s.peer.nextOf(wire.KindRequest)
		for i := range 3 {
			s.peer.reply(wire.Reply{ID: cmd.ID, Seq: uint64(i + 1), From: "bob", Payload: text(fmt.Sprint(i)), More: i < 2})
		}
		if got, err := result(); err != nil || !slices.Equal(got, []string{`"0"`, `"1"`, `"2"`}) {
			s.Errorf("got %v, %v", got, err)
		}

		result = stream(1) // leaves early: the agent must be told
		cmd = s.peer.nextOf(wire.KindRequest)
		s.peer.reply(wire.Reply{ID: cmd.ID, Seq: 4, From: "bob", Payload: text("a"), More: true})
		if c := s.peer.nextOf(wire.KindCancel); c.Request != cmd.ID {
			s.Errorf("got cancel of %d, want %d", c.Request, cmd.ID)
		}
		if got, err := result(); err != nil || len(got) != 1 {
			s.Errorf("got %v, %v", got, err)
		}

		result = stream(-1) // resumed in the middle: the rest comes
		cmd = s.peer.nextOf(wire.KindRequest)
		s.peer.reply(wire.Reply{ID: cmd.ID, Seq: 5, From: "bob", Payload: text("a"), More: true})
		synctest.Wait()
		s.peer.drop()
		s.rejoin("s_1", true)
		s.peer.reply(wire.Reply{ID: cmd.ID, Seq: 5, From: "bob", Payload: text("a"), More: true})
		s.peer.reply(wire.Reply{ID: cmd.ID, Seq: 6, From: "bob", Payload: text("b")})
		if got, err := result(); err != nil || !slices.Equal(got, []string{`"a"`, `"b"`}) {
			s.Errorf("got %v, %v over a resume, want a and b", got, err)
		}

		result = stream(-1) // the session is gone: nobody knows
		s.peer.nextOf(wire.KindRequest)
		s.peer.drop()
		s.rejoin("s_2", false)
		if _, err := result(); !errors.Is(err, ErrUncertain) {
			s.Errorf("got %v when the session was gone, want ErrUncertain", err)
		}
		s.peer.quiet(time.Second)
	})
}

func TestAnswerThatRunsAwayIsCancelled(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		release := make(chan struct{})
		result := start(func() (n int, err error) {
			for _, err := range s.client.RequestStream(s.Context(), "bob", "flood", text("x"), Timeout(time.Minute)) {
				if err != nil {
					return n, err
				}
				n++
				<-release
			}
			return n, nil
		})
		cmd := s.peer.nextOf(wire.KindRequest)
		for i := range maxPieces + 2 {
			s.peer.reply(wire.Reply{ID: cmd.ID, Seq: uint64(i + 1), From: "bob", Payload: text("a"), More: true})
		}
		if c := s.peer.nextOf(wire.KindCancel); c.Request != cmd.ID {
			s.Errorf("got cancel of %d, want %d", c.Request, cmd.ID)
		}
		close(release)
		if n, err := result(); !errors.Is(err, errTooFast) || n > maxPieces+2 {
			s.Errorf("got %d pieces and %v, want an end", n, err)
		}
	})
}

func TestRequestTimesOut(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		begin := time.Now()
		ask := start(func() (Reply, error) {
			return s.client.Request(s.Context(), "bob", "book", text("x"), Timeout(5*time.Second))
		})
		cmd := s.peer.nextOf(wire.KindRequest)
		_, err := ask()
		if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != wire.Timeout || time.Since(begin) != 7*time.Second {
			s.Errorf("got %v after %v, want timeout after 5 s and the grace", err, time.Since(begin))
		}
		if c := s.peer.nextOf(wire.KindCancel); c.Request != cmd.ID {
			s.Errorf("got cancel of %d, want %d", c.Request, cmd.ID)
		}
		// The context's deadline is told to the relay when it is the earlier one.
		ctx, cancel := context.WithTimeout(s.Context(), 2*time.Second)
		defer cancel()
		ask = start(func() (Reply, error) { return s.client.Request(ctx, "bob", "book", text("x")) })
		if cmd := s.peer.nextOf(wire.KindRequest); cmd.TimeoutMS != 2000 {
			s.Errorf("got timeout_ms %d, want 2000", cmd.TimeoutMS)
		}
		if _, err := ask(); !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("got %v, want DeadlineExceeded", err)
		}
		s.peer.nextOf(wire.KindCancel)
	})
}

// ask makes the relay send a request to the client.
func (p *peer) ask(seq, number uint64, method string, deadline time.Duration) {
	p.send(wire.AppendRequest(nil, p.encoding, &wire.Request{
		Seq: seq, Request: number, From: "bob", Method: method, Payload: text("q"), DeadlineMS: deadline.Milliseconds(),
	}))
}

func TestAnswering(t *testing.T) {
	cfg := Config{OnRequest: func(ctx context.Context, r *Request) (wire.Payload, error) {
		switch r.Method {
		case "echo":
			return r.Payload, nil
		case "count":
			for i := range 3 {
				if err := r.Reply(ctx, text(fmt.Sprint(i))); err != nil {
					return wire.Payload{}, err
				}
			}
			return text("end"), nil
		case "refuse":
			return wire.Payload{}, fmt.Errorf("book: %w", &wire.Error{Code: wire.Conflict, Message: "taken"})
		case "nonsense":
			return RawJSON([]byte("{")), nil
		}
		return wire.Payload{}, errors.New("secret internals")
	}}
	play(t, cfg, func(s *scene) {
		for i, tc := range []struct{ method, want string }{
			{"echo", `"q"`}, {"count", `"0"+"1"+"2"+"end"`}, {"refuse", "conflict: taken"},
			{"fail", "internal: the agent failed to answer"}, {"nonsense", "bad_frame: data is not valid JSON; quote text, or send it as bytes"},
		} {
			s.peer.ask(uint64(i+1), uint64(100+i), tc.method, time.Minute)
			got := ""
			for more := true; more; {
				cmd := s.peer.nextOf(wire.KindReply)
				if cmd.Request != uint64(100+i) {
					s.Errorf("%s: got a reply to %d, want %d", tc.method, cmd.Request, 100+i)
				}
				got += string(cmd.Payload.Data)
				if cmd.Err != nil {
					got += cmd.Err.Error()
				}
				if more = cmd.More; more {
					got += "+"
				}
			}
			if got != tc.want {
				s.Errorf("%s: got %s, want %s", tc.method, got, tc.want)
			}
		}
		if acks := s.peer.acks(time.Second); len(acks) == 0 || acks[len(acks)-1] != 5 {
			s.Errorf("got acks %v, want up to 5", acks)
		}
	})
}

func TestNoHandlerRefuses(t *testing.T) {
	play(t, Config{}, func(s *scene) {
		s.peer.ask(1, 7, "x", time.Minute)
		if cmd := s.peer.nextOf(wire.KindReply); cmd.Err == nil || cmd.Err.Code != wire.NotFound {
			s.Errorf("got %+v, want not_found", cmd.Err)
		}
	})
}

func TestHandlersAreBoundedAndCancelled(t *testing.T) {
	var ended *inbasket
	cfg := Config{MaxRequests: 2, OnRequest: func(ctx context.Context, r *Request) (wire.Payload, error) {
		<-ctx.Done()
		ended.put(r.Method + ": " + context.Cause(ctx).Error())
		return text("late"), nil
	}}
	play(t, cfg, func(s *scene) {
		ended = &inbasket{}
		s.peer.ask(1, 1, "cancelled", time.Hour)
		s.peer.ask(2, 2, "expired", 10*time.Second)
		s.peer.ask(3, 3, "excess", time.Hour)
		if cmd := s.peer.nextOf(wire.KindReply); cmd.Request != 3 || cmd.Err == nil || cmd.Err.Code != wire.Overloaded {
			s.Errorf("got reply to %d with %+v, want 3 overloaded", cmd.Request, cmd.Err)
		}
		s.peer.send(wire.AppendCancel(nil, s.peer.encoding, 1))
		s.peer.send(wire.AppendCancel(nil, s.peer.encoding, 99)) // of something unknown
		synctest.Wait()
		if got := ended.all(); !slices.Equal(got, []string{"cancelled: the asker no longer waits"}) {
			s.Errorf("got %q", got)
		}
		cmd := s.peer.nextOf(wire.KindReply) // no answer to the cancelled one
		if cmd.Request != 2 {
			s.Errorf("got a reply to %d, want only to 2", cmd.Request)
		}
		if got := ended.all(); len(got) != 2 || got[1] != "expired: context deadline exceeded" {
			s.Errorf("got %q", got)
		}
		// A session that is gone takes its requests along; Close ends the rest.
		s.peer.ask(4, 4, "of the old session", time.Hour)
		synctest.Wait()
		s.peer.drop()
		s.rejoin("s_2", false)
		synctest.Wait()
		if got := ended.all(); len(got) != 3 || got[2] != "of the old session: the asker no longer waits" {
			s.Errorf("got %q", got)
		}
		s.peer.quiet(time.Second)
		s.peer.ask(1, 1, "at close", time.Hour)
		synctest.Wait()
		s.client.Close()
		<-s.client.Done()
		if got := ended.all(); len(got) != 4 || got[3] != "at close: context canceled" {
			s.Errorf("got %q", got)
		}
	})
}

func TestReplySurvivesADrop(t *testing.T) {
	step := make(chan struct{})
	cfg := Config{OnRequest: func(ctx context.Context, r *Request) (wire.Payload, error) {
		if r.Method == "stream" {
			if err := r.Reply(ctx, text("piece")); err != nil {
				return wire.Payload{}, err
			}
			<-step
			err := r.Reply(ctx, text("piece 2"))
			if !errors.Is(err, errStreamBroken) && !errors.Is(err, errAskerGone) {
				t.Errorf("got %v for a piece after the break, want an error that says so", err)
			}
			return text("end"), nil
		}
		return text("answer"), nil
	}}
	play(t, cfg, func(s *scene) {
		step = make(chan struct{})
		s.peer.ask(1, 1, "once", time.Hour)
		s.peer.nextOf(wire.KindReply)
		s.peer.drop()
		s.rejoin("s_1", true)
		if cmd := s.peer.nextOf(wire.KindReply); cmd.Request != 1 || string(cmd.Payload.Data) != `"answer"` {
			s.Errorf("got reply to %d %s, want the lost answer again", cmd.Request, cmd.Payload.Data)
		}
		// A piece of a streamed answer may not come twice: the stream ends instead.
		s.peer.ask(2, 2, "stream", time.Hour)
		s.peer.nextOf(wire.KindReply)
		synctest.Wait()
		s.peer.quiet(time.Minute) // a heartbeat: all before it is known to be read
		s.peer.ask(3, 3, "stream", time.Hour)
		s.peer.nextOf(wire.KindReply)
		s.peer.drop()
		s.rejoin("s_1", true)
		cmd := s.peer.nextOf(wire.KindReply)
		if cmd.Request != 3 || cmd.Err == nil || cmd.Err.Code != wire.Unavailable {
			s.Errorf("got reply to %d %s %v, want unavailable for 3", cmd.Request, cmd.Payload.Data, cmd.Err)
		}
		s.peer.send(wire.AppendCancel(nil, s.peer.encoding, 2))
		synctest.Wait()
		close(step) // both handlers go on; nothing of theirs may reach the relay
		s.peer.quiet(time.Minute)
	})
}
