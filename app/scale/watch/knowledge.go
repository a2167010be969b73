package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"agentnet/app/scale"
)

// Names of settings.
const (
	settingState    = "scaling.state"    // what the policy remembers
	settingPolicy   = "scaling.policy"   // what admins changed of it at run time
	settingRules    = "scaling.rules"    // rules that were put in place of the configured ones
	settingStarted  = "scaling.started"  // the policy of the last start, to tell changes of the configuration
	settingCapacity = "scaling.capacity" // as a calibration measured it
)

// An Override is what admins changed of the policy at run time. It outlives a
// restart and holds until it is taken back.
type Override struct {
	Mode   *scale.Mode  `json:"mode,omitempty"`
	Pause  *scale.Pause `json:"pause,omitempty"`
	Pinned *int         `json:"pinned,omitempty"`
	By     string       `json:"by,omitempty"`
	At     time.Time    `json:"at,omitzero"`
}

// apply puts the override on a policy.
func (o *Override) apply(p scale.Policy) scale.Policy {
	if o.Mode != nil {
		p.Mode = *o.Mode
	}
	if o.Pause != nil {
		p.Pause = *o.Pause
	}
	if o.Pinned != nil {
		p.Pinned = *o.Pinned
	}
	return p
}

// stored is what was last written of the engine's knowledge, so that only changes
// are written.
type stored struct {
	mu       sync.Mutex
	alerts   map[string]string // key -> JSON
	silences string
}

// recall gives the engine what was stored before the restart. What cannot be read
// is told and begins anew; only a database that does not answer is an error.
func (s *Service) recall(ctx context.Context, now time.Time) error {
	alerts, err := s.cfg.Store.Alerts(ctx)
	if err != nil {
		return err
	}
	silences, err := s.cfg.Store.Silences(ctx)
	if err != nil {
		return err
	}
	k := scale.Knowledge{Alerts: alerts, Silences: silences}
	var override Override
	var rules []scale.Rule
	var capacity scale.Capacity
	var answers []Answer
	for name, into := range map[string]any{settingState: &k, settingPolicy: &override, settingRules: &rules, settingCapacity: &capacity, settingAdvice: &answers} {
		text, err := s.cfg.Store.Setting(ctx, name)
		if err != nil {
			return err
		}
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(text), into); err != nil {
			s.log.Warn("a stored setting cannot be read and is not used", "setting", name, "error", err)
		}
	}
	s.override, s.answers = override, answers
	base := s.engine.Policy()
	if p := override.apply(base); p.Validate() == nil {
		if _, err := s.engine.SetPolicy(now, "engine", p); err != nil {
			return err
		}
	}
	if len(rules) > 0 {
		_, c := s.engine.Rules()
		if _, err := s.engine.SetRules(now, "engine", rules, c); err != nil {
			s.log.Warn("the stored alert rules do not hold any more; the configured ones are used", "error", err)
		} else {
			s.ownRules = true
		}
	}
	if capacity != (scale.Capacity{}) && s.configured.Capacity == (scale.Capacity{}) {
		if _, err := s.takeCapacity(now, "engine", capacity); err != nil {
			s.log.Warn("the calibrated capacity is not used", "error", err)
		}
	}
	s.engine.Recall(now, k)
	s.stored.alerts = make(map[string]string)
	for i := range alerts {
		s.stored.alerts[alerts[i].Key()] = ""
	}
	return nil
}

// remember writes what changed of the engine's knowledge since the last time.
func (s *Service) remember(ctx context.Context, now time.Time) error {
	k := s.engine.Knowledge(now)
	s.stored.mu.Lock()
	defer s.stored.mu.Unlock()
	next := make(map[string]string, len(k.Alerts))
	var changed []scale.Alert
	var rest []string
	for i := range k.Alerts {
		a := k.Alerts[i]
		key := a.Key()
		a.Value, a.Seen = 0, time.Time{} // they change each second, and no restart needs them
		raw, err := json.Marshal(&a)
		if err != nil {
			return fmt.Errorf("encode alert %s: %w", key, err)
		}
		if next[key] = string(raw); s.stored.alerts[key] != string(raw) {
			changed = append(changed, k.Alerts[i])
		}
	}
	for key := range s.stored.alerts {
		if _, there := next[key]; !there {
			rest = append(rest, key)
		}
	}
	var errs []error
	if len(changed)+len(rest) > 0 {
		err := s.cfg.Store.PutAlerts(ctx, changed, rest)
		if err == nil {
			s.stored.alerts = next
		}
		errs = append(errs, err)
	}
	silences, err := json.Marshal(k.Silences)
	if err == nil && string(silences) != s.stored.silences {
		if err = s.cfg.Store.PutSilences(ctx, k.Silences); err == nil {
			s.stored.silences = string(silences)
		}
	}
	errs = append(errs, err)
	state, err := json.Marshal(scale.Knowledge{At: k.At, State: k.State, Decision: k.Decision})
	if err == nil {
		err = s.cfg.Store.PutSetting(ctx, settingState, string(state))
	}
	return errors.Join(append(errs, err)...)
}

// begin writes the start of this node, and what the configuration changed since
// the last one.
func (s *Service) begin(now time.Time) {
	p := s.engine.Policy()
	rules, capacity := s.engine.Rules()
	s.scribe.write(s.nodeEntry(now, fmt.Sprintf("%s started: version %s, mode %v, %d to %d instances, %d alert rules", s.cfg.Node, s.cfg.Version, p.Mode, p.Min, p.Max, len(rules)), nil))
	type effective struct {
		Policy   scale.Policy   `json:"policy"`
		Rules    []scale.Rule   `json:"rules"`
		Capacity scale.Capacity `json:"capacity"`
	}
	after, err := scale.Canonical(effective{p, rules, capacity})
	if err != nil {
		s.log.Error("the policy cannot be encoded", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeWait)
	defer cancel()
	text, err := s.cfg.Store.Setting(ctx, settingStarted)
	if err != nil || text == string(after) {
		return
	}
	if text != "" {
		e, err := scale.NewEntry(scale.KindConfig, now, "configuration", s.cfg.Region, "the configuration of scaling and alerts changed since the last start",
			map[string]json.RawMessage{"before": json.RawMessage(text), "after": after})
		if err == nil {
			s.scribe.write(e)
		}
	}
	if err := s.cfg.Store.PutSetting(ctx, settingStarted, string(after)); err != nil {
		s.log.Warn("the policy of this start could not be stored", "error", err)
	}
}

// end writes what is still in memory.
func (s *Service) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	now := time.Now()
	s.mu.Lock()
	for name, r := range s.rollers {
		if rest, ok := r.Rest(); ok {
			s.rows = append(s.rows, scale.NodeRollup{Node: name, Rollup: rest})
			s.soil(name, rest.From)
		}
	}
	s.mu.Unlock()
	s.scribe.write(s.nodeEntry(now, s.cfg.Node+" stopped in order", nil))
	s.scribe.flush(ctx)
	s.store(ctx, now, true)
}

// A word is what the leader tells the others: all that another node needs to go on
// in its place, and to show meanwhile.
type word struct {
	Fence     uint64          `json:"fence"`
	Knowledge scale.Knowledge `json:"knowledge"`
	Policy    scale.Policy    `json:"policy"`
	Override  Override        `json:"override"`
	Rules     []scale.Rule    `json:"rules,omitempty"`   // when they were changed at run time
	RulesAt   time.Time       `json:"rules_at,omitzero"` // when an admin did, in this life of the leader
	Answers   []Answer        `json:"answers,omitempty"` // to advice
	Capacity  scale.Capacity  `json:"capacity"`          // as calibrated; zero: it was not
}

// tellEvery is how often the leader tells what it knows.
const tellEvery = 2 * time.Second

func (s *Service) tellKnowledge(now time.Time) {
	if s.cfg.Others == nil || now.Sub(s.told) < tellEvery {
		return
	}
	s.told = now
	s.mu.Lock()
	w := word{Fence: s.fence, Override: s.override, RulesAt: s.rulesAt, Answers: s.answers}
	own := s.ownRules
	s.mu.Unlock()
	w.Capacity = s.capacity()
	w.Knowledge, w.Policy = s.engine.Knowledge(now), s.engine.Policy()
	if own {
		w.Rules, _ = s.engine.Rules()
	}
	raw, err := json.Marshal(w)
	if err != nil {
		s.log.Error("the engine's knowledge cannot be encoded", "error", err)
		return
	}
	s.share(append([]byte{parcelKnowledge}, raw...))
}

// adopt takes over what the leader knows. The word of a leader that has been
// replaced is not listened to.
func (s *Service) adopt(from string, raw []byte) error {
	var w word
	if err := json.Unmarshal(raw, &w); err != nil {
		return err
	}
	node, fence, mine := s.lead()
	if mine || node != from || w.Fence < fence {
		return nil
	}
	now := time.Now()
	s.mu.Lock()
	changed := s.override != w.Override && !w.Override.At.Equal(s.override.At)
	if changed {
		s.override = w.Override
	}
	s.mu.Unlock()
	p := s.engine.Policy()
	// The bounds are each node's own configuration; what admins changed is shared.
	next := w.Override.apply(s.configured.Policy)
	if next.Mode != p.Mode || next.Pause != p.Pause || next.Pinned != p.Pinned {
		if _, err := s.engine.SetPolicy(now, from, next); err != nil {
			return err
		}
	}
	if len(w.Rules) > 0 {
		if err := s.takeRules(now, from, w.Rules); err != nil {
			return err
		}
	} else if err := s.leaveRules(now, from, w.RulesAt); err != nil {
		return err
	}
	s.takeAnswers(w.Answers)
	if w.Capacity != s.capacity() && s.configured.Capacity == (scale.Capacity{}) {
		if _, err := s.takeCapacity(now, from, w.Capacity); err != nil {
			return err
		}
		if raw, err := json.Marshal(w.Capacity); err == nil {
			s.hand.put(settingCapacity, string(raw))
		}
	}
	s.engine.Recall(now, w.Knowledge)
	if changed {
		s.keepOverride()
	}
	return nil
}

// takeRules puts rules in force that were changed on another node.
func (s *Service) takeRules(now time.Time, from string, rules []scale.Rule) error {
	old, capacity := s.engine.Rules()
	if sameRules(old, rules) {
		return nil
	}
	if _, err := s.engine.SetRules(now, from, rules, capacity); err != nil {
		return err
	}
	s.mu.Lock()
	s.ownRules = true
	s.mu.Unlock()
	s.keepRules(rules)
	return nil
}

// leaveRules goes back to the configured rules when an admin did so on the leader. A
// leader that never had other rules is no reason to forget this node's.
func (s *Service) leaveRules(now time.Time, from string, at time.Time) error {
	s.mu.Lock()
	news := s.ownRules && !at.IsZero() && !at.Equal(s.rulesAt)
	s.mu.Unlock()
	if !news {
		return nil
	}
	_, capacity := s.engine.Rules()
	if _, err := s.engine.SetRules(now, from, s.configured.Rules, capacity); err != nil {
		return err
	}
	s.mu.Lock()
	s.ownRules, s.rulesAt = false, at
	s.mu.Unlock()
	s.hand.put(settingRules, "")
	return nil
}

func sameRules(a, b []scale.Rule) bool {
	return slices.EqualFunc(a, b, func(x, y scale.Rule) bool {
		by := slices.Equal(x.InhibitedBy, y.InhibitedBy)
		x.InhibitedBy, y.InhibitedBy = nil, nil
		one, err1 := json.Marshal(x)
		two, err2 := json.Marshal(y)
		return by && err1 == nil && err2 == nil && string(one) == string(two)
	})
}

// keepOverride and keepRules write a change that came from the leader, off the
// path of its parcels.
func (s *Service) keepOverride() {
	s.mu.Lock()
	raw, err := json.Marshal(s.override)
	s.mu.Unlock()
	if err == nil {
		s.hand.put(settingPolicy, string(raw))
	}
}

func (s *Service) keepRules(rules []scale.Rule) {
	if raw, err := json.Marshal(rules); err == nil {
		s.hand.put(settingRules, string(raw))
	}
}
