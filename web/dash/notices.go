package dash

import (
	"sync"
	"time"

	"agentnet/app/scale"
	"agentnet/web/ui"
)

// notices is what every page says of the whole: the verdict and the alerts.
type notices struct {
	firing, pending, critical int
	worst                     string
	verdict                   ui.Badge
	alerts                    []scale.Alert // firing and told, the worst first
}

// cache keeps what every page needs, so that many viewers ask once.
type cache struct {
	mu      sync.Mutex
	at      time.Time
	notices notices
}

// noticesFor is how long notices are told again.
const noticesFor = 500 * time.Millisecond

func (b *Board) notices() notices {
	b.cache.mu.Lock()
	defer b.cache.mu.Unlock()
	if time.Since(b.cache.at) > noticesFor {
		b.cache.notices, b.cache.at = b.readNotices(), time.Now()
	}
	return b.cache.notices
}

func (b *Board) readNotices() notices {
	var n notices
	if s := b.cfg.Sources.Scaling; s != nil {
		rules, _ := s.Rules()
		critical := map[string]bool{}
		for i := range rules {
			critical[rules[i].Name] = rules[i].Severity == scale.Critical
		}
		for _, a := range s.Alerts() {
			switch {
			case a.State == scale.Pending:
				n.pending++
			case a.State == scale.Firing && !a.Quiet():
				n.firing++
				if critical[a.Rule] {
					n.critical++
					n.alerts = append([]scale.Alert{a}, n.alerts...)
				} else {
					n.alerts = append(n.alerts, a)
				}
			}
		}
	}
	switch {
	case n.critical > 0:
		n.worst = "crit"
	case n.firing > 0:
		n.worst = "warn"
	}
	v := b.judge(&n)
	n.verdict = ui.Badge{Kind: v.kind, Word: v.word}
	return n
}

// framed are the parts of the frame that live.
func framed(p *ui.Page) []part {
	return []part{{"top-state", ui.TopState(p)}, {"top-bell", ui.TopBell(p)}}
}
