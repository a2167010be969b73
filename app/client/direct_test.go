package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentnet/app/wire"
)

// acks returns the seqs acknowledged within d.
func (p *peer) acks(d time.Duration) (seqs []uint64) {
	timer := time.After(d)
	for {
		select {
		case cmd, ok := <-p.commands:
			switch {
			case !ok:
				return seqs
			case cmd.Kind == wire.KindAck:
				seqs = append(seqs, cmd.Seq)
			case cmd.Kind == wire.KindPing:
				p.pong(cmd)
			}
		case <-timer:
			return seqs
		}
	}
}

// TestReplayComesOnce replays what was received already, as a relay does that had
// no acknowledgement, and some of it under new seqs, as after a restart.
func TestReplayComesOnce(t *testing.T) {
	var got *inbasket
	cfg := Config{OnMessage: func(ctx context.Context, m *Message) { got.message(ctx, m) }}
	play(t, cfg, func(s *scene) {
		got = &inbasket{}
		s.peer.send(s.peer.direct(1, "m1", "a"), s.peer.direct(2, "m2", "b"), s.peer.direct(3, "m3", "c"))
		synctest.Wait()
		s.peer.drop()
		cmd := s.rejoin("s_1", true)
		if r := cmd.Connect.Resume; r == nil || r.Seq != 3 || r.Session != "s_1" {
			s.Fatalf("got resume %+v, want s_1 up to 3", cmd.Connect.Resume)
		}
		s.peer.send(s.peer.direct(2, "m2", "b"), s.peer.direct(3, "m3", "c"), s.peer.direct(4, "m4", "d"))
		synctest.Wait()
		s.peer.drop()
		s.rejoin("s_2", false) // seqs begin anew; the mailbox delivers m4 again
		s.peer.send(s.peer.direct(1, "m4", "d"), s.peer.direct(2, "m5", "e"))
		synctest.Wait()
		if want := []string{`"a"`, `"b"`, `"c"`, `"d"`, `"e"`}; !slices.Equal(got.all(), want) {
			s.Errorf("got messages %v, want %v", got.all(), want)
		}
		if acks := s.peer.acks(time.Second); len(acks) == 0 || acks[len(acks)-1] != 2 {
			s.Errorf("got acks %v, want up to 2: a duplicate is handled too", acks)
		}
	})
}

// TestFramesTogetherWithConnected sends the replay in the same WebSocket message
// as the answer to connect.
func TestFramesTogetherWithConnected(t *testing.T) {
	got := &inbasket{}
	play(t, Config{OnMessage: got.message}, func(s *scene) {
		s.peer.drop()
		p := s.nextPeer()
		cmd := p.nextOf(wire.KindConnect)
		p.send(wire.AppendConnected(nil, p.encoding, &wire.Connected{
			ID: cmd.ID, Session: "s_1", Resumed: true, Agent: "alice", HeartbeatMS: 25000, Limits: wire.DefaultLimits(),
		}), p.direct(1, "m1", "a"), p.direct(2, "m2", "b"))
		synctest.Wait()
		if all := got.all(); len(all) < 2 || all[len(all)-2] != `"a"` || all[len(all)-1] != `"b"` {
			s.Errorf("got messages %v, want a and b", all)
		}
	})
}

func TestAcksAreCoalesced(t *testing.T) {
	play(t, Config{OnMessage: func(context.Context, *Message) {}}, func(s *scene) {
		var frames [][]byte
		for i := range uint64(64) {
			frames = append(frames, s.peer.direct(i+1, fmt.Sprint("m", i), "x"))
		}
		s.peer.send(frames...)
		if acks := s.peer.acks(200 * time.Millisecond); !slices.Equal(acks, []uint64{64}) {
			s.Errorf("got acks %v within 200 ms of 64 messages, want [64]", acks)
		}
		s.peer.send(s.peer.direct(65, "n1", "x"), s.peer.direct(66, "n2", "x"))
		if acks := s.peer.acks(200 * time.Millisecond); len(acks) != 0 {
			s.Errorf("got acks %v at once for two messages, want them later", acks)
		}
		if acks := s.peer.acks(100 * time.Millisecond); !slices.Equal(acks, []uint64{66}) {
			s.Errorf("got acks %v after 250 ms, want [66]", acks)
		}
		// A command that leaves anyway does not hurry it, Close does.
		s.peer.send(s.peer.direct(67, "n3", "x"))
		synctest.Wait()
		go s.client.Close()
		if acks := s.peer.acks(10 * time.Millisecond); !slices.Equal(acks, []uint64{67}) {
			s.Errorf("got acks %v at Close, want [67]", acks)
		}
	})
}

func TestManualAck(t *testing.T) {
	var held []*Message
	cfg := Config{ManualAck: true, OnMessage: func(_ context.Context, m *Message) { held = append(held, m) }}
	play(t, cfg, func(s *scene) {
		held = nil
		s.peer.send(s.peer.direct(1, "m1", "a"), s.peer.direct(2, "m2", "b"), s.peer.direct(3, "m3", "c"))
		if acks := s.peer.acks(time.Second); len(acks) != 0 {
			s.Fatalf("got acks %v before Ack was called", acks)
		}
		synctest.Wait()
		held[1].Ack()
		if acks := s.peer.acks(time.Second); len(acks) != 0 {
			s.Fatalf("got acks %v although 1 is not handled", acks)
		}
		held[0].Ack()
		held[0].Ack()
		if acks := s.peer.acks(time.Second); !slices.Equal(acks, []uint64{2}) {
			s.Fatalf("got acks %v, want [2]", acks)
		}
		// An ack from a former session means nothing in the next.
		s.peer.drop()
		s.rejoin("s_2", false)
		s.peer.send(s.peer.direct(1, "n1", "x"), s.peer.direct(2, "n2", "x"), s.peer.direct(3, "n3", "x"))
		synctest.Wait()
		held[2].Ack()
		if acks := s.peer.acks(time.Second); len(acks) != 0 {
			s.Errorf("got acks %v for a message of the former session", acks)
		}
	})
}

// TestGapDoesNotHoldUpAcks loses direct frames; those after them are acknowledged.
func TestGapDoesNotHoldUpAcks(t *testing.T) {
	var gaps *inbasket
	cfg := Config{
		OnMessage: func(context.Context, *Message) {},
		OnGap:     func(g Gap) { gaps.put(fmt.Sprintf("%+v", g)) },
	}
	play(t, cfg, func(s *scene) {
		gaps = &inbasket{}
		gap := func(n uint64) []byte { return wire.AppendGap(nil, s.peer.encoding, &wire.Gap{Missed: n}) }
		s.peer.send(s.peer.direct(1, "m1", "a"), gap(2), s.peer.direct(4, "m4", "d")) // told before the hole is seen
		if acks := s.peer.acks(time.Second); !slices.Equal(acks, []uint64{4}) {
			s.Errorf("got acks %v, want [4]", acks)
		}
		s.peer.send(s.peer.direct(6, "m6", "f"), gap(1)) // told after
		if acks := s.peer.acks(time.Second); !slices.Equal(acks, []uint64{6}) {
			s.Errorf("got acks %v, want [6]", acks)
		}
		if want := []string{"{Channel: Missed:2 SessionLost:false}", "{Channel: Missed:1 SessionLost:false}"}; !slices.Equal(gaps.all(), want) {
			s.Errorf("got gaps %v, want %v", gaps.all(), want)
		}
	})
}

// TestOverrun fills the inbox while the handler waits for an answer that stands
// behind what does not fit. Nothing may be lost, doubled, or stuck.
func TestOverrun(t *testing.T) {
	var (
		got *inbasket
		at  *scene
	)
	cfg := Config{InboxFrames: 4, OnMessage: func(ctx context.Context, m *Message) {
		if m.Seq == 1 {
			if _, err := at.client.Send(ctx, "bob", RawJSON([]byte(`"from the handler"`))); err != nil {
				at.Errorf("send from a handler: %v", err)
			}
		}
		got.message(ctx, m)
	}}
	play(t, cfg, func(s *scene) {
		got, at = &inbasket{}, s
		first := s.peer
		first.send(first.direct(1, "m1", "1"))
		cmd := first.nextOf(wire.KindSend)
		var want []string
		frames := [][]byte{}
		for i := uint64(2); i <= 30; i++ {
			frames = append(frames, first.direct(i, fmt.Sprint("m", i), fmt.Sprint(i)))
		}
		first.send(frames...)
		first.ok(cmd, wire.OK{Outcome: wire.Delivered})
		for from := uint64(0); from < 30; {
			connect := s.rejoin("s_1", true) // each time some more fit in
			seq := connect.Connect.Resume.Seq
			if seq <= from {
				s.Fatalf("resumed from %d after %d: no progress", seq, from)
			}
			from = seq
			for i := seq + 1; i <= 30; i++ {
				s.peer.send(s.peer.direct(i, fmt.Sprint("m", i), fmt.Sprint(i)))
			}
			synctest.Wait()
			if len(got.all()) == 30 {
				break
			}
		}
		for i := 1; i <= 30; i++ {
			want = append(want, fmt.Sprintf("%q", fmt.Sprint(i)))
		}
		if !slices.Equal(got.all(), want) {
			s.Errorf("got %v, want 1 to 30 in order", got.all())
		}
		if n := strings.Count(strings.Join(got.all(), ""), `"1"`); n != 1 {
			s.Errorf("message 1 came %d times", n)
		}
	})
}

func TestReceipts(t *testing.T) {
	var got *inbasket
	cfg := Config{
		OnReceipt: func(r wire.Receipt) { got.put(fmt.Sprint(r.MessageID, " ", r.State, " ", r.From)) },
		OnMessage: func(ctx context.Context, m *Message) { _ = m.Receipt(ctx, wire.ReceiptDone, "read") },
	}
	play(t, cfg, func(s *scene) {
		got = &inbasket{}
		s.peer.send(wire.AppendReceipt(nil, s.peer.encoding, &wire.Receipt{Seq: 1, MessageID: "x", From: "bob", State: wire.ReceiptDelivered}))
		synctest.Wait()
		if !slices.Equal(got.all(), []string{"x delivered bob"}) {
			s.Errorf("got receipts %v", got.all())
		}
		s.peer.send(s.peer.direct(2, "m2", "a"))
		cmd := s.peer.nextOf(wire.KindReceipt)
		if string(cmd.MessageID) != "m2" || cmd.State != wire.ReceiptDone || string(cmd.Note) != "read" {
			s.Errorf("got receipt %s %s %s", cmd.MessageID, cmd.State, cmd.Note)
		}
		// The connection is lost before anything shows that the relay has read it.
		s.peer.drop()
		s.rejoin("s_1", true)
		if cmd := s.peer.nextOf(wire.KindReceipt); string(cmd.MessageID) != "m2" {
			s.Errorf("got receipt of %s, want m2 again", cmd.MessageID)
		}
		// After a heartbeat it is known to have been read, and not repeated.
		s.peer.quiet(time.Minute)
		s.peer.drop()
		s.rejoin("s_1", true)
		s.peer.quiet(time.Minute)
	})
}
