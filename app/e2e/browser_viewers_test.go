//go:build linux

package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agentnet/app/wire"
)

// TestViewersDoNotDisturb has pairs talk through a node in a process of its own,
// first alone and then while many look at the Overview: the page is drawn once for
// all of them and must not be felt by agents. It says what the viewers cost.
func TestViewersDoNotDisturb(t *testing.T) {
	viewers, pairs := number(t, "E2E_VIEWERS", 40), number(t, "E2E_PAIRS", 20)
	span := time.Duration(number(t, "E2E_SECONDS", 3)) * time.Second
	p := newHouse(t, "log: {level: error, format: text}\n").start()
	talk := talkApart(t, p, pairs, 10*time.Millisecond, wire.Normal)
	measure := func() (spread, float64) {
		time.Sleep(time.Second)
		talk.take()
		before, began := p.usage().cpu, time.Now()
		time.Sleep(span)
		cores := (p.usage().cpu - before).Seconds() / time.Since(began).Seconds()
		took := spread(talk.take().Took)
		slices.Sort(took)
		return took, cores
	}
	alone, cpuAlone := measure()
	cookies := p.signIn("watcher")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	got := make(chan seenLive, viewers)
	begun := make(chan struct{}, viewers)
	transport := &http.Transport{MaxIdleConnsPerHost: viewers}
	for range viewers {
		go func() { got <- look(ctx, transport, p.url, cookies, begun) }()
	}
	for i := range viewers {
		select {
		case <-begun:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d viewers see something after 30 s", i, viewers)
		}
	}
	watched, cpuWatched := measure()
	stop()
	var size, ticks int64
	for range viewers {
		one := <-got
		size, ticks = size+one.bytes, ticks+one.ticks
		if most := int64(span.Seconds()); one.ticks < most/2 {
			t.Errorf("a viewer saw %d renderings in more than %v", one.ticks, span)
		}
	}
	transport.CloseIdleConnections()
	if end := talk.end(); end.Got != end.Sent || end.Refused > 0 {
		t.Errorf("sent %d, got %d, refused %d", end.Sent, end.Got, end.Refused)
	}
	figure(t, "%d pairs, alone: %v; server CPU %.1f%% of a core", pairs, alone, 100*cpuAlone)
	figure(t, "with %d viewers of the Overview: %v; server CPU %.1f%% of a core; each viewer got %.1f KB a second", viewers, watched, 100*cpuWatched, float64(size)/float64(max(ticks, 1))/1000)
	slack := 100 * time.Millisecond // on a machine that does other things too
	if long() {
		slack = alone.at(.99)/4 + time.Millisecond
	}
	if got, most := watched.at(.99), alone.at(.99)+slack; got > most && !raced() {
		t.Errorf("got p99 %v with %d viewers, want at most %v: %v without", got, viewers, most, alone.at(.99))
	}
	p.stop(20 * time.Second)
}

// formWord finds the word by which the server knows its own forms.
var formWord = regexp.MustCompile(`name="form" value="([^"]*)"`)

// signIn makes an account that may look, signs in to it as a browser does, and
// returns the cookies of the session.
func (p *process) signIn(name string) []*http.Cookie {
	p.t.Helper()
	const password = "four words and more"
	file := filepath.Join(p.t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if out, err := program(p.t, "admin", "create", "--data", filepath.Join(p.dir, "data"), "--role", "viewer", "--password-file", file, name).CombinedOutput(); err != nil {
		p.t.Fatalf("make an account: %v: %s", err, out)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	client := &http.Client{Timeout: patience, Jar: jar}
	at, err := url.Parse(p.url)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := client.Get(p.url + "/login")
	if err != nil {
		p.t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	word := formWord.FindSubmatch(page)
	if err != nil || word == nil {
		p.t.Fatalf("the page to sign in has no form: %v: %.300s", err, page)
	}
	req, err := http.NewRequest("POST", p.url+"/login", strings.NewReader(url.Values{"form": {string(word[1])}, "name": {name}, "password": {password}}.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", p.url)
	if resp, err = client.Do(req); err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Request.URL.Path == "/login" {
		p.t.Fatalf("sign in: got %s at %s", resp.Status, resp.Request.URL.Path)
	}
	return jar.Cookies(at)
}

// seenLive is what one viewer got.
type seenLive struct{ bytes, ticks int64 }

// look reads the stream of the Overview until ctx ends; begun is told of the first
// rendering.
func look(ctx context.Context, transport *http.Transport, url string, cookies []*http.Cookie, begun chan<- struct{}) (s seenLive) {
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/live?page=/", nil)
	if err != nil {
		return s
	}
	for _, c := range cookies {
		req.AddCookie(c)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return s
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buffer)
		s.bytes += int64(n)
		if here := int64(countTicks(buffer[:n])); here > 0 {
			if s.ticks == 0 {
				begun <- struct{}{}
			}
			s.ticks += here
		}
		if err != nil { // ends with ctx
			return s
		}
	}
}

// countTicks counts the renderings that end within what was read. One that is cut
// in two by a reading is missed, which makes the count a little too low.
func countTicks(text []byte) int { return bytes.Count(text, []byte("event: tick\n")) }
