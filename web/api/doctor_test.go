package api

import (
	"bufio"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDoctorExaminesOnceForAllWhoAskAtOneTime(t *testing.T) {
	n := newNode(t)
	var asking sync.WaitGroup
	for range 10 {
		asking.Go(func() {
			if got := n.do("GET", "/v1/doctor", adminToken, ""); got.status != 200 || !strings.Contains(got.body, `"check":"disk_space"`) || !strings.HasPrefix(got.body, `{"result":"warn"`) {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	asking.Wait()
	if got := n.examined.Load(); got != 1 {
		t.Errorf("got %d examinations, want 1", got)
	}
	without := newNode(t, func(c *Config, _ *node) { c.Doctor = nil })
	if got := without.do("GET", "/v1/doctor", adminToken, ""); got.status != 503 {
		t.Errorf("without a doctor: got %d, want 503", got.status)
	}
}

func TestProbeTellsTheProxysAddressToThoseWhoMayKnow(t *testing.T) {
	n := newNode(t)
	for token, want := range map[string]bool{"": false, goodToken: false, viewerToken: true, adminToken: true} {
		got := n.do("GET", "/v1/probe", token, "")
		if got.status != 200 || !strings.Contains(got.body, `"client":"203.0.113.9","forwarded":true,"trusted":false`) {
			t.Errorf("got %d %s", got.status, got.body)
		}
		if strings.Contains(got.body, "10.9.8.7") != want {
			t.Errorf("token %q: got %s, want the peer told = %v", token, got.body, want)
		}
	}
}

func TestProbeStreamComesBitByBit(t *testing.T) {
	n := newNode(t)
	resp, err := http.Get(n.url + "/v1/probe/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("X-Accel-Buffering"); got != "no" || resp.Header.Get("Content-Type") != mimeEvents {
		t.Errorf("got X-Accel-Buffering %q and type %q", got, resp.Header.Get("Content-Type"))
	}
	var at []time.Time
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") {
			at = append(at, time.Now())
		}
	}
	if len(at) != probeEvents || at[len(at)-1].Sub(at[0]) < probeEvery {
		t.Errorf("got %d events over %v", len(at), at[len(at)-1].Sub(at[0]))
	}
}

func TestProbeStreamIsBoundedAndSilenceNeedsARole(t *testing.T) {
	n := newNode(t)
	for path, want := range map[string]int{"idle_ms=5": 401, "idle_ms=-1": 400, "idle_ms=x": 400, "idle_ms=600001": 400} {
		if got := n.do("GET", "/v1/probe/stream?"+path, "", ""); got.status != want {
			t.Errorf("%s: got %d %s, want %d", path, got.status, got.body, want)
		}
	}
	if got := n.do("GET", "/v1/probe/stream?idle_ms=5", goodToken, ""); got.status != 403 {
		t.Errorf("without a role: got %d, want 403", got.status)
	}
	if got := n.do("GET", "/v1/probe/stream?idle_ms=30", viewerToken, ""); got.status != 200 || strings.Count(got.body, "data:") != 2 {
		t.Errorf("got %d %q, want two events", got.status, got.body)
	}
	for range probeStreams {
		n.api.probing <- struct{}{}
	}
	if got := n.do("GET", "/v1/probe/stream", "", ""); got.status != 503 {
		t.Errorf("too many: got %d %s, want 503", got.status, got.body)
	}
	for range probeStreams {
		<-n.api.probing
	}
}
