package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"agentnet/app/wire"
)

// A topView turns readings into text. It knows no terminal.
type topView struct {
	sort    string
	reverse bool
	fault   error // of the last reading; the one before is shown

	last *reading
	rate struct{ in, out, bytesIn, bytesOut, dropped, refused float64 }
}

// topOrders are what s goes through.
var topOrders = []string{"queue", "name", "active", "sessions"}

// press handles a key and says whether to go on.
func (v *topView) press(key byte) bool {
	switch key {
	case 'q', 'Q', 3, 4: // ^C and ^D come as bytes from a raw terminal
		return false
	case 's':
		v.sort = topOrders[(slices.Index(topOrders, v.sort)+1)%len(topOrders)]
	case 'r':
		v.reverse = !v.reverse
	}
	return true
}

// take goes on to a newer reading. Rates are 0 where the relay was restarted
// between the two.
func (v *topView) take(now *reading) {
	before, seconds := v.last, float64(now.stats.TimeMS-v.last.stats.TimeMS)/1000
	v.last, v.fault = now, nil
	if seconds <= 0 || now.stats.StartedMS != before.stats.StartedMS {
		v.rate = struct{ in, out, bytesIn, bytesOut, dropped, refused float64 }{}
		return
	}
	a, b := &before.stats.Counters, &now.stats.Counters
	per := func(from, to uint64) float64 { return float64(to-min(from, to)) / seconds }
	v.rate.in, v.rate.out = per(a.Messages, b.Messages), per(a.Delivered, b.Delivered)
	v.rate.bytesIn, v.rate.bytesOut = per(a.BytesIn, b.BytesIn), per(a.BytesOut, b.BytesOut)
	v.rate.dropped, v.rate.refused = per(total(a.Dropped), total(b.Dropped)), per(total(a.Refused), total(b.Refused))
}

func total(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// line is a reading in one line.
func (v *topView) line() string {
	s, g := &v.last.stats, &v.last.stats.Gauges
	return fmt.Sprintf("%s %s agents %d connections %d in/s %.1f out/s %.1f dropped/s %.1f refused/s %.1f queued %s parked %d p95 %.2f ms level %s nodes %d",
		time.UnixMilli(s.TimeMS).UTC().Format(time.RFC3339), s.Node, g.Agents, g.Connections, v.rate.in, v.rate.out, v.rate.dropped, v.rate.refused,
		size(float64(g.QueueBytes)), g.MailboxMessages, s.Delivery.P95MS, s.Level, len(v.last.nodes))
}

// draw is the screen: lines of at most width columns, at most height of them.
func (v *topView) draw(width, height int) []string {
	s, g := &v.last.stats, &v.last.stats.Gauges
	state := "level " + s.Level
	if s.Draining {
		state += ", draining"
	}
	lines := []string{
		fmt.Sprintf("agentnet top · %s (%s) · version %s · up %s · %s · %s", s.Node, s.Region, s.Version,
			upFor(time.Duration(s.TimeMS-s.StartedMS)*time.Millisecond), state, time.UnixMilli(s.TimeMS).Format(time.TimeOnly)),
		fmt.Sprintf("agents %d   connections %d   sessions %d (%d away)   channels %d   subscriptions %d   requests waiting %d",
			g.Agents, g.Connections, g.Sessions, g.Resumable, g.Channels, g.Subscriptions, g.Requests),
		fmt.Sprintf("messages %.1f/s in, %.1f/s out   bytes %s/s in, %s/s out   dropped %.1f/s   refused %.1f/s   gaps %d",
			v.rate.in, v.rate.out, size(v.rate.bytesIn), size(v.rate.bytesOut), v.rate.dropped, v.rate.refused, s.Counters.Gaps),
		fmt.Sprintf("delivery since the start p50 %.2f ms, p95 %.2f ms, p99 %.2f ms   queues %d frames, %s   parked %d",
			s.Delivery.P50MS, s.Delivery.P95MS, s.Delivery.P99MS, g.QueueFrames, size(float64(g.QueueBytes)), g.MailboxMessages),
		"",
	}
	if v.fault != nil {
		lines[4] = "! " + strings.ReplaceAll(v.fault.Error(), "\n", "; ")
	}
	if len(v.last.nodes) > 1 {
		lines = append(lines, fmt.Sprintf("%-20s %-12s %-9s %11s %6s %6s %12s %9s", "NODE", "REGION", "STATE", "CONNECTIONS", "CPU", "MEMORY", "MESSAGES/S", "RTT"))
		for _, n := range v.last.nodes {
			name := n.Node
			if n.Leader {
				name += " *"
			}
			lines = append(lines, fmt.Sprintf("%-20s %-12s %-9s %11d %5.0f%% %5.0f%% %12.1f %6.1f ms", name, n.Region, n.State, n.Connections, 100*n.CPU, 100*n.Memory, n.MessagesPerS, n.RTTMS))
		}
		lines = append(lines, "")
	}
	const foot = 1
	lines = append(lines, fmt.Sprintf("%-40s %-8s %8s %14s %8s", "AGENT", "STATE", "SESSIONS", "LAST ACTIVE", "QUEUE"))
	agents := v.sorted()
	for i, a := range agents {
		if room := height - len(lines) - foot - 1; room <= 0 && i < len(agents) {
			lines = append(lines, fmt.Sprintf("… and %d more", len(agents)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%-40s %-8s %8d %14s %8d", cut(a.Agent, 40), a.State, a.Sessions, ago(a.LastActiveMS), a.Queue))
	}
	if len(agents) == 0 {
		lines = append(lines, "none that this token may send to")
	}
	way := "↓"
	if v.reverse {
		way = "↑"
	}
	lines = lines[:min(len(lines), max(height-foot, 1))]
	for len(lines) < height-foot {
		lines = append(lines, "")
	}
	lines = append(lines, fmt.Sprintf("q quit   s sort (%s)   r reverse (%s)", v.sort, way))
	for i := range lines {
		lines[i] = cut(tame(lines[i]), width)
	}
	return lines
}

// sorted is the agents in the order that was chosen.
func (v *topView) sorted() []wire.AgentInfo {
	list := slices.Clone(v.last.agents)
	slices.SortStableFunc(list, func(a, b wire.AgentInfo) int {
		n := 0
		switch v.sort {
		case "queue":
			n = cmp.Compare(b.Queue, a.Queue)
		case "active":
			n = cmp.Compare(b.LastActiveMS, a.LastActiveMS)
		case "sessions":
			n = cmp.Compare(b.Sessions, a.Sessions)
		}
		if n == 0 {
			n = cmp.Compare(a.Agent, b.Agent)
		}
		if v.reverse {
			n = -n
		}
		return n
	})
	return list
}

// tame takes out what a terminal would obey: names come from agents.
func tame(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
}

// cut shortens text to n columns.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:max(n-1, 0)]) + "…"
}

func size(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	u := 0
	for n >= 1024 && u < len(units)-1 {
		n, u = n/1024, u+1
	}
	if u == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[u])
}

func upFor(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}
