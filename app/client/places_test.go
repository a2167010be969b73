package client

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// sockets are the hosts that were dialled one after the other, without repetition.
func sockets(hosts []string) []string { return slices.Compact(slices.Clone(hosts)) }

func TestFailOverBetweenAddresses(t *testing.T) {
	cfg := Config{URLs: []string{"http://second.test/base", "http://third.test/base"}}
	play(t, cfg, func(s *scene) {
		s.relay.setDown("relay.test:80", "second.test:80")
		began := time.Now()
		s.peer.drop()
		s.rejoin("s_1", true)
		want := []string{"relay.test:80", "second.test:80", "third.test:80"}
		if got := sockets(s.relay.dialled()); !slices.Equal(got, want) {
			s.Errorf("dialled %v, want %v", got, want)
		}
		if took := time.Since(began); took > 3*time.Second {
			s.Errorf("came back after %v: trying another address is no reason to wait long", took)
		}
		// It stays where it is well.
		s.relay.setDown()
		s.peer.drop()
		s.rejoin("s_1", true)
		if got := sockets(s.relay.dialled()); got[len(got)-1] != "third.test:80" {
			s.Errorf("dialled %v, want the third address again", got)
		}
	})
}

func TestAllAddressesAreTriedAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := newFakeRelay(t)
		defer relay.stop()
		relay.setDown("relay.test:80")
		go func() { (<-relay.peers).accept("s_1", false) }()
		c, err := Dial(t.Context(), Config{URL: "http://relay.test", URLs: []string{"http://second.test"}, Token: "agn_test", NetDial: relay.dial})
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		c.Close()
		relay.setDown("relay.test:80", "second.test:80")
		if c, err := Dial(t.Context(), Config{URL: "http://relay.test", URLs: []string{"http://second.test"}, Token: "agn_test", NetDial: relay.dial}); err == nil {
			c.Close()
			t.Error("dial found a relay where there is none")
		}
	})
}

func TestFastestRegionWithRoom(t *testing.T) {
	const regions = `{"regions":[
		{"region":"far","healthy":true,"nodes":1,"endpoints":["http://far.test"],"connections":1},
		{"region":"full","healthy":true,"nodes":2,"endpoints":["http://full.test"],"connections":4000},
		{"region":"near","healthy":true,"nodes":4,"endpoints":["http://near2.test","http://near1.test"],"connections":4000},
		{"region":"ill","healthy":false,"nodes":1,"endpoints":["http://ill.test"]},
		{"region":"odd","healthy":true,"nodes":1,"endpoints":["ftp://odd.test"]}]}`
	synctest.Test(t, func(t *testing.T) {
		relay := newFakeRelay(t)
		defer relay.stop()
		relay.pages = map[string]string{"/v1/regions": regions, "/healthz": "ok"}
		relay.lag = map[string]time.Duration{"far.test": 150 * time.Millisecond, "full.test": 11 * time.Millisecond, "near2.test": 14 * time.Millisecond}
		peers := make(chan *peer)
		go func() {
			p := <-relay.peers
			p.accept("s_1", false)
			peers <- p
		}()
		c, err := Dial(t.Context(), Config{URL: "http://relay.test", Regions: true, Token: "agn_test", NetDial: relay.dial})
		if err != nil {
			t.Fatalf("dial: %v", err)
		}
		defer c.Close()
		want := []string{"ws://near2.test/ws", "ws://near1.test/ws", "ws://full.test/ws", "ws://far.test/ws"}
		if got := c.places.found; !slices.Equal(got, want) {
			t.Errorf("got places %v, want %v", got, want)
		}
		if hosts := relay.dialled(); hosts[len(hosts)-1] != "near2.test:80" {
			t.Errorf("dialled %v, want the nearest last", hosts)
		}
		// The region fails: the next one takes over, with the session.
		relay.setDown("near2.test:80", "near1.test:80")
		(<-peers).drop()
		p := <-relay.peers
		if hello := p.accept("s_1", true); hello.Connect.Resume == nil || hello.Connect.Resume.Session != "s_1" {
			t.Errorf("got %+v, want a resume", hello.Connect)
		}
		if hosts := relay.dialled(); hosts[len(hosts)-1] != "full.test:80" {
			t.Errorf("dialled %v, want the second region last", hosts)
		}
	})
}
