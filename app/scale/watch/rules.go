package watch

import (
	"context"
	"slices"
	"time"

	"agentnet/app/scale"
)

// An Origin says where a rule in force comes from.
type Origin string

// The origins of rules.
const (
	Configured Origin = "configuration" // as the configuration or the program has it
	Changed    Origin = "changed"       // an admin put it in the place of the configured one
	Stored     Origin = "stored"        // an admin made it; the configuration has none of the name
)

// Origins says where each rule in force comes from, by name.
func (s *Service) Origins() map[string]Origin {
	rules, _ := s.engine.Rules()
	out := make(map[string]Origin, len(rules))
	for i := range rules {
		out[rules[i].Name] = s.ruleOrigin(&rules[i])
	}
	return out
}

func (s *Service) ruleOrigin(r *scale.Rule) Origin {
	at := slices.IndexFunc(s.configured.Rules, func(c scale.Rule) bool { return c.Name == r.Name })
	switch {
	case at < 0:
		return Stored
	case sameRules(s.configured.Rules[at:at+1], []scale.Rule{*r}):
		return Configured
	}
	return Changed
}

// setRule puts one rule beside the others, or in the place of its namesake.
func (s *Service) setRule(ctx context.Context, now time.Time, c *Command) (scale.Entry, error) {
	if c.Rule == nil {
		return scale.Entry{}, fault(FaultInvalid, "the rule is missing")
	}
	if err := c.Rule.Validate(); err != nil {
		return scale.Entry{}, err
	}
	rules, _ := s.engine.Rules()
	what := "changed"
	if at := slices.IndexFunc(rules, func(r scale.Rule) bool { return r.Name == c.Rule.Name }); at < 0 {
		rules, what = append(rules, *c.Rule), "new"
	} else {
		if was := rules[at].Disabled; was != c.Rule.Disabled {
			what = map[bool]string{true: "disabled", false: "enabled"}[c.Rule.Disabled]
		}
		rules[at] = *c.Rule
	}
	return s.replaceRules(ctx, now, c, rules, "rule "+c.Rule.Name+" "+what)
}

// dropRule takes a rule back to what the configuration says of it, or away.
func (s *Service) dropRule(ctx context.Context, now time.Time, c *Command) (scale.Entry, error) {
	rules, _ := s.engine.Rules()
	at := slices.IndexFunc(rules, func(r scale.Rule) bool { return r.Name == c.ID })
	if at < 0 {
		return scale.Entry{}, fault(FaultNotFound, "there is no rule %.100q", c.ID)
	}
	what := ""
	switch s.ruleOrigin(&rules[at]) {
	case Configured:
		return scale.Entry{}, fault(FaultInvalid, "%s is as the configuration has it: disable or silence it here, or take it out of the configuration", c.ID)
	case Changed:
		i := slices.IndexFunc(s.configured.Rules, func(r scale.Rule) bool { return r.Name == c.ID })
		rules[at], what = s.configured.Rules[i], " as configured again"
	default:
		rules, what = slices.Delete(rules, at, at+1), " removed"
	}
	return s.replaceRules(ctx, now, c, rules, "rule "+c.ID+what)
}

// replaceRules puts all rules in place; those of the configuration alone are stored
// as none.
func (s *Service) replaceRules(ctx context.Context, now time.Time, c *Command, rules []scale.Rule, words string) (scale.Entry, error) {
	all := Command{Op: OpRules, Actor: c.Actor, Reason: c.Reason}
	if !sameRules(rules, s.configured.Rules) {
		all.Rules = rules
	}
	entry, err := s.setRules(ctx, now, &all)
	if err == nil {
		entry.Summary = words + "; " + entry.Summary
	}
	return entry, err
}
