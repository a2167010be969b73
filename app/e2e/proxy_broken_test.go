//go:build linux

package e2e

import (
	"strings"
	"testing"
	"time"

	"agentnet/app"
	"agentnet/app/apptest"
	"agentnet/app/doctor"
)

// TestDoctorSeesABrokenProxy spoils the packaged file for nginx in the ways in which
// people do it, and asks the doctor: it finds that fault, and names the cure.
func TestDoctorSeesABrokenProxy(t *testing.T) {
	tests := []struct {
		name   string
		spoil  []replacement
		change func(*app.Config)
		check  string
		cure   string
	}{
		{"no upgrade headers", []replacement{{"proxy_set_header Upgrade $http_upgrade;", ""}, {"proxy_set_header Connection $agentnet_connection;", ""}}, nil,
			"websocket", "proxy_set_header Upgrade"},
		{"buffered events", []replacement{{"proxy_http_version 1.1;", "proxy_http_version 1.1; proxy_ignore_headers X-Accel-Buffering;"}}, nil,
			"stream", "proxy_buffering off"},
		{"short idle time", []replacement{{"proxy_read_timeout 90s;", "proxy_read_timeout 1s;"}}, nil,
			"websocket", "proxy_read_timeout"},
		{"appended addresses", []replacement{{"X-Forwarded-For $remote_addr;", "X-Forwarded-For $proxy_add_x_forwarded_for;"}}, nil,
			"proxy_headers", "replace the header"},
		{"a proxy that is not trusted", nil, func(c *app.Config) { c.TrustedProxies = nil },
			"proxy_headers", "trusted_proxies: [127.0.0.1]"},
		{"a path that is cut off", []replacement{{"proxy_pass http://agentnet;", "proxy_pass http://agentnet/;"}}, nil,
			"proxy_headers", "base_path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, kind := proxies()[0], "root"
			if tt.name == "a path that is cut off" {
				kind = "subpath"
			}
			s := newStage(t, kind)
			s.node = apptest.Start(t, func(c *app.Config) {
				s.configure(c)
				if tt.change != nil {
					tt.change(c)
				}
			})
			s.backend = strings.TrimPrefix(s.node.URL, "http://")
			s.patient = kind == "subpath" // its health is not found either
			s.run(p, kind, tt.spoil)
			found := doctor.Run(t.Context(), doctor.Config{URL: s.url, PublicURL: s.url, BasePath: s.base, Token: s.node.Token("**", admin), CA: s.path("cert.pem"),
				TrustedProxies: []string{"127.0.0.1"}, Idle: 3 * time.Second})
			for _, f := range found {
				if f.Check == tt.check && (f.Result != doctor.Fail || !strings.Contains(f.Fix, tt.cure)) {
					t.Errorf("got %+v, want a failure with the cure %q", f, tt.cure)
				}
			}
		})
	}
}
