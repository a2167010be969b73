//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentnet/app/cluster/redistest"
	"agentnet/app/wire"
)

// post asks a node by HTTP as one agent and reads its answer into reply.
func (p *process) post(path string, body map[string]any, reply any) {
	p.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	req, err := http.NewRequest("POST", p.url+path, bytes.NewReader(text))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		p.t.Fatalf("post %s: %v", path, err)
	}
	defer res.Body.Close()
	text, err = io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusOK {
		err = json.Unmarshal(text, reply)
	}
	if err != nil || res.StatusCode != http.StatusOK {
		p.t.Fatalf("post %s: %s %v %.300s", path, res.Status, err, text)
	}
}

// A position is the place of a publication in its channel.
type position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// TestClusterStop stops all nodes together. None waits for another to take its
// sessions; what is parked and what a channel keeps is there when they are back.
func TestClusterStop(t *testing.T) {
	clients, messages := number(t, "E2E_CLIENTS", 60), number(t, "E2E_MESSAGES", 6)
	redis := redistest.Single(t)
	own := "redis: " + redis.URL() + "\n"
	w := newTown(t, strings.Replace(townConfig, "recent_count: 4096", "recent_count: 4096, keep_count: 1000", 1), own, own, own)
	all := make([]drained, clients)
	var watching sync.WaitGroup
	started, first := time.Now(), make(chan struct{}, 1)
	for i := range all {
		s := w.node(i%3).join(fmt.Sprintf("stop/%d", i), wire.Encoding(i%wire.Encodings))
		if err := s.subscribe("stop/news"); err != nil {
			t.Fatal(err)
		}
		watching.Go(func() { all[i].watch(s, started, first) })
	}
	var last position
	for i := range messages {
		p, sent := w.node(i%3), struct{ Outcome wire.Outcome }{}
		p.post("/v1/send", map[string]any{"agent": "stop/sender", "to": "stop/absent", "data": i, "ttl_ms": 600_000}, &sent)
		if sent.Outcome != wire.Parked {
			t.Fatalf("got %q, want parked", sent.Outcome)
		}
		p.post("/v1/publish", map[string]any{"agent": "stop/sender", "channel": "stop/news", "data": i}, &last)
	}

	asked := time.Now()
	var nodes []*process
	for i := range w.houses {
		p := w.empty(i)
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, p)
	}
	const limit = 8 * time.Second // the window of 1 s; before, nodes waited 10 s for each other
	for _, p := range nodes {
		p.endsWell(limit - time.Since(asked))
	}
	took := time.Since(asked)
	watching.Wait()
	closed, codes, noticed := time.Duration(0), map[int64]int{}, 0
	for i := range all {
		closed = max(closed, time.Duration(all[i].at.Load())-asked.Sub(started))
		codes[all[i].code.Load()]++
		if all[i].notice.Load() {
			noticed++
		}
	}
	if codes[int64(wire.CloseDrain)] != clients || noticed != clients {
		t.Errorf("%d clients: %d got the notice, closed with %v, want all with 4004", clients, noticed, codes)
	}

	for i := range w.houses {
		w.start(i)
	}
	for i := range w.houses {
		w.ready(i, 15*time.Second)
	}
	got := w.node(1).inbox("stop/absent", messages)
	for i := range messages {
		if text := fmt.Sprint(i); got[text] != 1 {
			t.Errorf("parked message %s came %d times: %v", text, got[text], got)
		}
	}
	var next position
	w.node(2).post("/v1/publish", map[string]any{"agent": "stop/sender", "channel": "stop/news", "data": 0}, &next)
	if want := (position{last.Epoch, last.Offset + 1}); next != want {
		t.Errorf("the channel goes on at %+v, want %+v", next, want)
	}
	figure(t, "SIGTERM to all of 3 nodes with %d clients: last client closed after %v with 4004, all ended after %v; after the restart %d of %d parked messages came once, the channel went on at offset %d of its epoch",
		clients, closed.Round(10*time.Millisecond), took.Round(10*time.Millisecond), len(got), messages, next.Offset)
	w.abandon()
}

// inbox joins as an agent and counts what waited for it, by payload, until count
// different messages came and a moment more for those that come twice.
func (p *process) inbox(agent string, count int) map[string]int {
	p.t.Helper()
	s := p.join(agent, wire.JSON)
	came := make(chan string, 1024)
	var reading sync.WaitGroup
	reading.Go(func() {
		readAll(s, func(ev *wire.Event) {
			if ev.Kind == wire.KindMessage {
				_ = s.write(&wire.Command{Kind: wire.KindAck, Seq: ev.Message.Seq, Class: wire.Normal})
				came <- string(ev.Message.Payload.Data)
			}
		})
	})
	defer reading.Wait()
	defer s.conn.Close()
	got, end := map[string]int{}, time.After(10*time.Second)
	for {
		select {
		case text := <-came:
			if got[text]++; len(got) == count {
				end = time.After(300 * time.Millisecond)
			}
		case <-end:
			return got
		}
	}
}
