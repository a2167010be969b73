package scale

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Who is written as the actor of what nobody asked for.
const actorEngine = "engine"

// DecisionData is the data of a decision entry: all arguments of Decide, and
// what it answered.
type DecisionData struct {
	Policy   Policy   `json:"policy"`
	State    State    `json:"state"` // before
	Inputs   Inputs   `json:"inputs"`
	Decision Decision `json:"decision"`
}

// WalkData is the data of a walk entry.
type WalkData struct {
	Question Question `json:"question"`
	Walk     Walk     `json:"walk"`
}

// decisionEntry writes down one decision.
func decisionEntry(region string, data DecisionData) (Entry, error) {
	return entryOf(KindDecision, data.Inputs.At.UTC(), region, data.Decision.Mode.String()+": "+data.Decision.Reason, data)
}

func walkEntry(region string, data WalkData) (Entry, error) {
	w := &data.Walk
	return entryOf(KindWalk, data.Question.At.UTC(), region, fmt.Sprintf("%s: %s. %s", w.Alert, BoxText(w.Leaf), w.Advice), data)
}

func alertEntry(region string, j Judgement) (Entry, error) {
	last := j.Events[len(j.Events)-1]
	return entryOf(KindAlert, j.Observation.At.UTC(), region, fmt.Sprintf("%s (%v): %v, %s", last.Alert, j.Rule.Severity, last.To, last.Why), j)
}

// ErrNoReplay is returned for entries that record what happened, not what was computed.
var ErrNoReplay = errors.New("an entry of this kind holds no computation")

// Replay computes an entry anew from the inputs that it holds, with the code of
// this program. The result equals the entry unless the code decides otherwise
// today. Entries that hold no computation give ErrNoReplay.
func Replay(e Entry) (Entry, error) {
	again, err := replay(&e)
	if err != nil {
		return Entry{}, fmt.Errorf("replay entry %d: %w", e.Seq, err)
	}
	again.Seq, again.Prev, again.Cause, again.Actor = e.Seq, e.Prev, e.Cause, e.Actor
	if again.Hash, err = again.sum(); err != nil {
		return Entry{}, fmt.Errorf("replay entry %d: %w", e.Seq, err)
	}
	return again, nil
}

func replay(e *Entry) (Entry, error) {
	switch e.Kind {
	case KindDecision:
		var d DecisionData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return Entry{}, fmt.Errorf("read its data: %w", err)
		}
		d.Decision, _ = Decide(&d.Policy, d.State, d.Inputs)
		return decisionEntry(e.Region, d)
	case KindWalk:
		var d WalkData
		if err := json.Unmarshal(e.Data, &d); err != nil {
			return Entry{}, fmt.Errorf("read its data: %w", err)
		}
		d.Walk = Take(&d.Question)
		return walkEntry(e.Region, d)
	case KindAlert:
		var j Judgement
		if err := json.Unmarshal(e.Data, &j); err != nil {
			return Entry{}, fmt.Errorf("read its data: %w", err)
		}
		if j.After, j.Events = Judge(&j.Rule, j.Before, j.Observation); len(j.Events) == 0 {
			return Entry{}, errors.New("the alert does not change any more")
		}
		return alertEntry(e.Region, j)
	}
	return Entry{}, fmt.Errorf("kind %v: %w", e.Kind, ErrNoReplay)
}
