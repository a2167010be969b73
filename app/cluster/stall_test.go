package cluster

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/embedded"
)

// TestPausedSubscriber opens the embedded store to another process, which
// subscribes and reads nothing while 100 MiB are published. A bare miniredis stops
// there for good, after about 4 MiB; here no Append waits.
func TestPausedSubscriber(t *testing.T) {
	const password = "open sesame"
	server, err := embedded.Start(t.Context(), embedded.Config{Listen: "127.0.0.1:0", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	paused, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer paused.Close()
	paused.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(paused, "*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n", len(password), password)
	if line, err := bufio.NewReader(paused).ReadString('\n'); err != nil || line != "+OK\r\n" {
		t.Fatalf("AUTH: %q, %v", line, err)
	}

	b := connect(t, BrokerConfig{Dial: server.Dial, Password: password})
	mustOpen(t, b, "c", "E", relay.Position{Epoch: "E"})
	publisher := connect(t, BrokerConfig{Dial: server.Dial, Password: password})
	published := make(chan error, 1)
	go func() { // 100 MiB, far more than the sockets take
		message := string(bytes.Repeat([]byte("x"), 64<<10))
		for range 1600 {
			if _, err := publisher.do(context.Background(), publisher.client.B().Publish().Channel("news").Message(message).Build()); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	var took []time.Duration
	for o := uint64(1); ; o++ {
		begin := time.Now()
		mustAppend(t, b, "c", "E", hour, publications(o, o, begin))
		took = append(took, time.Since(begin))
		select {
		case err := <-published:
			if err != nil {
				t.Fatalf("PUBLISH: %v", err)
			}
		default:
			continue
		}
		break
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d Appends beside it: p50 %v, p99 %v, slowest %v", len(took), took[len(took)/2], p99, took[len(took)-1])
	// The bounds leave room for a busy machine; the figures are in the log.
	if p90 := took[len(took)*90/100]; p90 > 10*time.Millisecond {
		t.Errorf("p90 of Append is %v, want 10 ms at most", p90)
	}
	if slowest := took[len(took)-1]; slowest > time.Second {
		t.Errorf("the slowest Append took %v", slowest)
	}
	if len(took) < 100 {
		t.Errorf("only %d Appends went through", len(took))
	}
}
