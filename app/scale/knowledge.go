package scale

import (
	"slices"
	"time"
)

// Knowledge is what an engine must not forget over a restart or a change of the
// leader: where the policy stands, every alert that is not at rest, the silences.
type Knowledge struct {
	At       time.Time `json:"at"`
	State    State     `json:"state"`
	Decision Decision  `json:"decision"` // the last one, for those who only look
	Alerts   []Alert   `json:"alerts,omitempty"`
	Silences []Silence `json:"silences,omitempty"`
}

// Knowledge returns a copy of what the engine knows.
func (e *Engine) Knowledge(now time.Time) Knowledge {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Knowledge{At: now.UTC().Round(0), State: e.state.clone(), Decision: e.desired, Alerts: e.alerts.known(), Silences: e.alerts.Silences(now)}
}

// Recall replaces what the engine knows by what was known earlier. A breach that nobody watched
// since then has not held, so what was pending begins anew; what
// fired goes on firing until a value says otherwise. Alerts of rules that are gone
// are left out.
func (e *Engine) Recall(now time.Time, m Knowledge) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state, e.desired = m.State.clone(), m.Decision
	e.alerts.recall(now.UTC(), &m)
}

// known lists every alert that has something to remember, by key.
func (s *Alerts) known() []Alert {
	var out []Alert
	for _, a := range s.all {
		if a.State == Inactive && !a.NoData && len(a.Turns) == 0 {
			continue
		}
		c := *a
		c.Turns = slices.Clone(a.Turns)
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Alert) int { return compareNames(a.Key(), b.Key()) })
	return out
}

func (s *Alerts) recall(now time.Time, m *Knowledge) {
	clear(s.all)
	clear(s.silences)
	watched := now.Sub(m.At) <= maxGap && !now.Before(m.At)
	for _, a := range m.Alerts {
		if _, known := s.Rule(a.Rule); !known || len(s.all) >= maxAlerts {
			continue
		}
		a.Turns = slices.Clone(a.Turns)
		if !watched {
			if a.State == Pending {
				a.State, a.Since, a.Began = Inactive, now, time.Time{}
			}
			a.Seen, a.Calm = now, time.Time{} // the times without data and without breach begin
		}
		s.all[a.Key()] = &a
	}
	for _, q := range m.Silences {
		if now.Before(q.Until) && len(s.silences) < maxSilences {
			s.silences[q.ID] = q
		}
	}
}
