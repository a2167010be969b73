package ws

import "strings"

const deflateAnswer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// negotiateDeflate looks through the values of Sec-WebSocket-Extensions for an
// offer of permessage-deflate that we can keep, and returns the answer to it.
func negotiateDeflate(values []string) (answer string, ok bool) {
	for _, v := range values {
		for _, offer := range splitQuoted(v, ',') {
			if answer, ok := acceptDeflate(splitQuoted(offer, ';')); ok {
				return answer, true
			}
		}
	}
	return "", false
}

// acceptDeflate judges one offer: the name of the extension, then its parameters.
// An offer with a parameter that is unknown, doubled or has a wrong value is
// declined, as RFC 7692 asks for.
func acceptDeflate(offer []string) (string, bool) {
	if !strings.EqualFold(strings.TrimSpace(offer[0]), "permessage-deflate") {
		return "", false
	}
	answer := deflateAnswer
	seen := make(map[string]bool, 4)
	for _, param := range offer[1:] {
		name, value, given := strings.Cut(param, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if seen[name] {
			return "", false
		}
		seen[name] = true
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if given {
				return "", false
			}
		case "client_max_window_bits":
			// A hint: a client may keep its window small; ours is always the largest.
			if given && !windowBits(value) {
				return "", false
			}
		case "server_max_window_bits":
			// Our compressor uses the largest window, so that no smaller one can be promised.
			if value != "15" {
				return "", false
			}
			answer += "; server_max_window_bits=15"
		default:
			return "", false
		}
	}
	return answer, true
}

func windowBits(s string) bool {
	switch s {
	case "8", "9", "10", "11", "12", "13", "14", "15":
		return true
	}
	return false
}

// splitQuoted splits s at sep where it is not within a quoted string.
func splitQuoted(s string, sep byte) (parts []string) {
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}
