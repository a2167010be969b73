package bench

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A refusal is an upgrade that the server answered with something else than 101.
type refusal struct {
	status     int
	retryAfter time.Duration
}

func (r *refusal) Error() string { return fmt.Sprintf("upgrade refused with HTTP %d", r.status) }

// checkUpgrade checks the head of the answer to the upgrade request.
func checkUpgrade(head string) error {
	lines := strings.Split(head, "\r\n")
	words := strings.SplitN(lines[0], " ", 3)
	if len(words) < 2 || !strings.HasPrefix(words[0], "HTTP/1.") {
		return errors.New("upgrade: the answer is not HTTP/1")
	}
	status, err := strconv.Atoi(words[1])
	if err != nil {
		return errors.New("upgrade: the answer has no status")
	}
	accepted := false
	var retry time.Duration
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "sec-websocket-accept":
			accepted = strings.TrimSpace(value) == upgradeAccept
		case "retry-after":
			if s, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				retry = time.Duration(s) * time.Second
			}
		}
	}
	if status != 101 {
		return &refusal{status: status, retryAfter: retry}
	}
	if !accepted {
		return errors.New("upgrade: Sec-WebSocket-Accept is missing or wrong")
	}
	return nil
}
