package dash

import (
	"agentnet/app/scale"
)

// A choice is one entry of a list to choose from.
type choice struct {
	value, name string
	chosen      bool
}

// choices are the words that a field of a rule can have.
func (ed *ruleEditor) choices(field string) (out []choice) {
	add := func(value, name string, chosen bool) { out = append(out, choice{value, name, chosen}) }
	switch field {
	case "severity":
		for _, s := range []scale.Severity{scale.Warning, scale.Critical} {
			add(s.String(), s.String(), s == ed.rule.Severity)
		}
	case "class":
		for _, c := range []scale.Class{scale.ClassCapacity, scale.ClassPerformance, scale.ClassError, scale.ClassOperation} {
			add(c.String(), c.String(), c == ed.rule.Class)
		}
	case "signal":
		for s := range scale.SignalCount {
			add(s.String(), signalName(s), s == ed.rule.Signal)
		}
	case "reduce":
		for _, v := range []scale.Reduce{scale.Mean, scale.Highest, scale.Lowest, scale.Sum, scale.EachNode} {
			text, err := v.MarshalText()
			if err == nil {
				add(string(text), reduceWord(&scale.Rule{Reduce: v}), v == ed.rule.Reduce)
			}
		}
	case "of":
		add("value", "its value", !ed.rule.OfCapacity)
		add("capacity", "its share of capacity", ed.rule.OfCapacity)
	case "side":
		add("over", "over", !ed.rule.Below)
		add("under", "under", ed.rule.Below)
	}
	return out
}

// shown is a field as the form shows it, for the form that saves what was tried.
func (ed *ruleEditor) shown(field string) string {
	switch field {
	case "threshold":
		return ed.threshold
	case "clear":
		return ed.clear
	case "hold":
		return ed.hold
	case "keep":
		return ed.keep
	case "silence":
		return plain(ed.rule.NoDataAfter.Seconds())
	case "response":
		return ed.rule.Response
	}
	for _, c := range ed.choices(field) {
		if c.chosen {
			return c.value
		}
	}
	return ""
}

// reduceWord says what of the nodes' values a rule looks at.
func reduceWord(r *scale.Rule) string {
	switch r.Reduce {
	case scale.EachNode:
		return "each node by itself"
	case scale.Highest:
		return "the highest of all nodes"
	case scale.Lowest:
		return "the lowest of all nodes"
	case scale.Sum:
		return "the sum of all nodes"
	}
	return "the mean of all nodes"
}
