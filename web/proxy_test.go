package web

import (
	"net/netip"
	"strings"
	"testing"
)

func TestClientAddress(t *testing.T) {
	const xff, std = "", ForwardedHeader
	trusted := []string{"10.0.0.0/8", "::1", "fd00::/8", "192.0.2.7"}
	tests := []struct {
		name, header string
		peer         string
		values       []string
		want         string
	}{
		{"no proxy", xff, "203.0.113.5", nil, "203.0.113.5"},
		{"a stranger's header", xff, "203.0.113.5", []string{"198.51.100.1"}, "203.0.113.5"},
		{"one proxy", xff, "10.1.1.1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"a client that forges", xff, "10.1.1.1", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		{"a client that forges a trusted one", xff, "10.1.1.1", []string{"10.9.9.9, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", xff, "10.1.1.1", []string{"1.1.1.1, 198.51.100.1, 10.2.2.2"}, "198.51.100.1"},
		{"two headers are one list", xff, "10.1.1.1", []string{"1.1.1.1", "198.51.100.1,10.2.2.2"}, "198.51.100.1"},
		{"all are trusted", xff, "10.1.1.1", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		{"no header", xff, "10.1.1.1", nil, "10.1.1.1"},
		{"rubbish on the right", xff, "10.1.1.1", []string{"198.51.100.1, unknown"}, "10.1.1.1"},
		{"rubbish on the left", xff, "10.1.1.1", []string{"<script>, 198.51.100.1"}, "198.51.100.1"},
		{"rubbish behind a trusted one", xff, "10.1.1.1", []string{"1.1.1.1, x, 10.2.2.2"}, "10.2.2.2"},
		{"empty", xff, "10.1.1.1", []string{""}, "10.1.1.1"},
		{"commas", xff, "10.1.1.1", []string{",,,"}, "10.1.1.1"},
		{"with port", xff, "10.1.1.1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6", xff, "::1", []string{"2001:db8::5"}, "2001:db8::5"},
		{"IPv6 with brackets", xff, "::1", []string{"[2001:db8::5]"}, "2001:db8::5"},
		{"IPv6 with port", xff, "::1", []string{"[2001:db8::5]:80"}, "2001:db8::5"},
		{"IPv6 with a zone", xff, "fd00::1", []string{"fe80::1%eth0"}, "fe80::1"},
		{"IPv4 in IPv6", xff, "::ffff:10.1.1.1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"a single trusted address", xff, "192.0.2.7", []string{"198.51.100.1"}, "198.51.100.1"},
		{"its neighbour", xff, "192.0.2.8", []string{"198.51.100.1"}, "192.0.2.8"},
		{"standard header", std, "10.1.1.1", []string{`for=198.51.100.1;proto=https;by=10.1.1.1`}, "198.51.100.1"},
		{"standard header, IPv6", std, "10.1.1.1", []string{`For="[2001:db8::5]:4711"`}, "2001:db8::5"},
		{"standard header, list", std, "10.1.1.1", []string{`for=1.1.1.1, for=198.51.100.1, for="10.2.2.2"`}, "198.51.100.1"},
		{"standard header, hidden", std, "10.1.1.1", []string{`for=1.1.1.1, for=_hidden`}, "10.1.1.1"},
		{"standard header, twice", std, "10.1.1.1", []string{`for=1.1.1.1;for=2.2.2.2`}, "10.1.1.1"},
		{"standard header, without for", std, "10.1.1.1", []string{`proto=https`}, "10.1.1.1"},
		{"no address at all", xff, "", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParseProxies(trusted, tt.header)
			if err != nil {
				t.Fatal(err)
			}
			var values [][]byte
			for _, v := range tt.values {
				values = append(values, []byte(v))
			}
			var peer, want netip.Addr
			if tt.peer != "" {
				peer, want = netip.MustParseAddr(tt.peer).Unmap(), netip.MustParseAddr(tt.want)
			}
			got := peer
			if p.trusts(peer) {
				got = p.walk(peer, values)
			}
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestProxiesSayWhatIsWrong(t *testing.T) {
	if _, err := ParseProxies([]string{"10.0.0.0/8", "10.0.0.0/99"}, ""); err == nil || !strings.Contains(err.Error(), `"10.0.0.0/99"`) {
		t.Errorf("got %v, want an error that names the network", err)
	}
	if _, err := ParseProxies(nil, "X-Real-IP"); err == nil || !strings.Contains(err.Error(), "X-Real-IP") {
		t.Errorf("got %v, want an error that names the header", err)
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add("1.1.1.1, 10.0.0.1", false)
	f.Add(`for="[2001:db8::5]:4711";by=x, for=_y`, true)
	f.Add(",;=\",[]:%", true)
	f.Fuzz(func(t *testing.T, value string, standard bool) {
		header := ""
		if standard {
			header = ForwardedHeader
		}
		p, err := ParseProxies([]string{"10.0.0.0/8"}, header)
		if err != nil {
			t.Fatal(err)
		}
		peer := netip.MustParseAddr("10.0.0.1")
		got := p.walk(peer, [][]byte{[]byte(value)})
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("got %v", got)
		}
		// What a client writes in front of the list changes nothing, once an address
		// that is not trusted was found.
		if !p.trusts(got) {
			if again := p.walk(peer, [][]byte{[]byte("9.9.9.9," + value)}); again != got {
				t.Fatalf("got %v, and %v with a forged entry in front", got, again)
			}
		}
	})
}
