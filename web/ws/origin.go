package ws

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// parseOrigins reads the configured origins and reports every fault among them.
func parseOrigins(list []string) (map[string]bool, error) {
	out := make(map[string]bool, len(list))
	var errs []error
	for _, o := range list {
		scheme, host, ok := splitOrigin(o)
		if !ok {
			errs = append(errs, fmt.Errorf("origins: %q is not scheme://host[:port]", o))
			continue
		}
		out[scheme+"://"+host] = true
	}
	return out, errors.Join(errs...)
}

// splitOrigin reads an origin, as browsers send it: a scheme and a host, in lower
// case, the port left out when it is the scheme's own.
func splitOrigin(s string) (scheme, host string, ok bool) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Opaque != "" ||
		u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Hostname() == "" {
		return "", "", false
	}
	scheme = strings.ToLower(u.Scheme)
	return scheme, trimPort(scheme, strings.ToLower(u.Host)), true
}

func trimPort(scheme, host string) string {
	switch scheme {
	case "http", "ws":
		host = strings.TrimSuffix(host, ":80")
	case "https", "wss":
		host = strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":")
}

// originAllowed tells whether a page of origin may connect to host: its own server
// always, others when they are listed. "null" is never listed.
func (s *Server) originAllowed(origin, host string) bool {
	scheme, from, ok := splitOrigin(origin)
	if !ok {
		return false
	}
	if s.origins[scheme+"://"+from] {
		return true
	}
	web := scheme == "http" || scheme == "https"
	return web && host != "" && from == trimPort(scheme, strings.ToLower(host))
}
