package dash

import (
	"sync"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/web/ui"
)

// notices is what every page says of the whole: the verdict and the alerts.
type notices struct {
	firing, pending, critical int
	worst                     string
	verdict                   ui.Badge
	alerts                    []scale.Alert // firing and told, the worst first
}

// cache keeps what every page needs, so that many viewers ask once. mu guards all.
type cache struct {
	mu      sync.Mutex
	at      time.Time
	notices notices
}

// outlookFor is how long an outlook is told again; it is learnt anew far less often.
const outlookFor = 10 * time.Second

// outlook is what the forecast says; empty without an engine.
func (b *Board) outlook() watch.Outlook {
	if b.cfg.Sources.Scaling == nil {
		return watch.Outlook{}
	}
	c := &b.learnt
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > outlookFor {
		c.outlook, c.at = b.cfg.Sources.Scaling.Outlook(), time.Now()
	}
	return c.outlook
}

// learnt keeps the outlook; it has a lock of its own, since the verdict asks for
// it while notices are made. mu guards all.
type learnt struct {
	mu      sync.Mutex
	at      time.Time
	outlook watch.Outlook
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
