package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"agentnet/app/scale"
)

// A Verdict is what an admin said to a piece of advice.
type Verdict string

// The verdicts.
const (
	Snooze  Verdict = "snooze"  // not before a time
	Dismiss Verdict = "dismiss" // no, for a reason
	Reopen  Verdict = "reopen"  // show it again
)

// An Answer is the last word on one piece of advice. It holds while the evidence is
// what it was: Weight stands for that, and another one brings the advice back.
type Answer struct {
	Advice  string    `json:"advice"` // such as memory@n1
	Verdict Verdict   `json:"verdict" enum:"snooze,dismiss,reopen"`
	Weight  string    `json:"weight,omitempty"`
	Until   time.Time `json:"until,omitzero"` // of a snooze
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

// Holds says whether the advice stays out of sight.
func (a *Answer) Holds(weight string, now time.Time) bool {
	return a.Weight == weight && (a.Verdict == Dismiss || a.Verdict == Snooze && now.Before(a.Until))
}

// A Piece is one piece of advice: a change that would help, with what speaks for it.
// It is made from the present numbers each time that it is asked for.
type Piece struct {
	Advice   string       `json:"advice" doc:"What it is about, such as memory@n1; stays the same."`
	Weight   string       `json:"weight" doc:"Stands for the evidence: an answer holds while it is the same."`
	Urgency  string       `json:"urgency" enum:"now,soon,later"`
	Title    string       `json:"title"`
	Evidence []AdviceFact `json:"evidence"`
	Effect   []AdviceFact `json:"effect" doc:"What is expected of the change."`
	Change   []string     `json:"change" doc:"The exact change, as lines of a diff: those to add begin with a plus, those to remove with a minus."`
	Risk     string       `json:"risk"`
	Applies  bool         `json:"applies" doc:"The change can be made while the server runs, by scaling.advice.apply."`
	State    string       `json:"state" enum:"open,snoozed,dismissed"`
	Answer   *Answer      `json:"answer,omitempty" doc:"What put it away."`

	Apply *Command `json:"-"` // the change, where Applies
}

// An AdviceFact is a name and a value with its unit.
type AdviceFact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

const (
	// maxAnswers bounds the answers that are kept; the oldest go first.
	maxAnswers = 100
	// maxSnooze bounds a snooze.
	maxSnooze = 90 * 24 * time.Hour
	// maxAnswerText bounds each text of an answer, in bytes.
	maxAnswerText = 200
)

// settingAdvice keeps what admins said to advice.
const settingAdvice = "scaling.advice"

// Answers are the last words on advice, the newest first.
func (s *Service) Answers() []Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.answers)
}

// answer takes an admin's word on a piece of advice.
func (s *Service) answer(ctx context.Context, now time.Time, c *Command) (scale.Entry, error) {
	if c.Answer == nil {
		return scale.Entry{}, fault(FaultInvalid, "the answer is missing")
	}
	a := *c.Answer
	a.By, a.At, a.Until = c.Actor, now.UTC().Round(0), a.Until.UTC().Round(0)
	if a.Advice == "" || max(len(a.Advice), len(a.Weight), len(a.Reason)) > maxAnswerText {
		return scale.Entry{}, fault(FaultInvalid, "advice: name one; no text is longer than %d bytes", maxAnswerText)
	}
	var words string
	switch a.Verdict {
	case Snooze:
		if !a.Until.After(now) || a.Until.Sub(now) > maxSnooze {
			return scale.Entry{}, fault(FaultInvalid, "until: expected a time within the next 90 days")
		}
		words = "snoozed until " + a.Until.Format(time.RFC3339)
	case Dismiss:
		if a.Reason == "" {
			return scale.Entry{}, fault(FaultInvalid, "reason: say why, whoever comes next must understand it")
		}
		words = "dismissed"
	case Reopen:
		words = "opened again"
	default:
		return scale.Entry{}, fault(FaultInvalid, "verdict: expected snooze, dismiss or reopen")
	}
	s.mu.Lock()
	next := append([]Answer{a}, slices.DeleteFunc(slices.Clone(s.answers), func(x Answer) bool { return x.Advice == a.Advice })...)
	s.mu.Unlock()
	next = next[:min(len(next), maxAnswers)]
	raw, err := json.Marshal(next)
	if err != nil {
		return scale.Entry{}, fmt.Errorf("encode the answers: %w", err)
	}
	if err := s.cfg.Store.PutSetting(ctx, settingAdvice, string(raw)); err != nil {
		return scale.Entry{}, fault(FaultUnavailable, "the answer could not be stored and does not hold: %v", err)
	}
	s.mu.Lock()
	s.answers = next
	s.mu.Unlock()
	text := "advice " + a.Advice + " " + words
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	entry, err := scale.Note(now, c.Actor, text)
	entry.Region = s.cfg.Region
	return entry, err
}

// newest is when the last answer was given.
func newest(all []Answer) (at time.Time) {
	for i := range all {
		if all[i].At.After(at) {
			at = all[i].At
		}
	}
	return at
}

// takeAnswers takes over what the leader was told since.
func (s *Service) takeAnswers(all []Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(all) == 0 || len(all) > maxAnswers || !newest(all).After(newest(s.answers)) {
		return
	}
	s.answers = all
	if raw, err := json.Marshal(all); err == nil {
		s.hand.put(settingAdvice, string(raw))
	}
}
