// Package monitor writes what other programs need to watch a node: a Grafana
// dashboard and alert rules for Prometheus. Both are made from the list of metrics
// that the code itself has, so that no panel and no rule names one that is not
// there, and none is forgotten: what has no panel of its own gets a plain one.
//
// It collects nothing and knows no node. What it writes is the same for the same
// list, byte for byte.
package monitor

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a metric is.
type Kind string

const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
)

// A Metric is one that a node tells at /metrics.
type Metric struct {
	Name, Help string
	Kind       Kind
	Label      string // "" for none
}

// A List is all metrics, by name, each once.
type List []Metric

// NewList sorts metrics and refuses one that is there twice in two ways.
func NewList(metrics []Metric) (List, error) {
	list := List(slices.Clone(metrics))
	slices.SortFunc(list, func(a, b Metric) int { return cmp.Compare(a.Name, b.Name) })
	list = slices.Compact(list)
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			return nil, fmt.Errorf("the metric %s is described in two ways", list[i].Name)
		}
	}
	return list, nil
}

func (l List) find(name string) (Metric, bool) {
	i, ok := slices.BinarySearchFunc(l, name, func(m Metric, name string) int { return cmp.Compare(m.Name, name) })
	if !ok {
		return Metric{}, false
	}
	return l[i], true
}

// ours are the names of our metrics within an expression.
var ours = regexp.MustCompile(`\bagentnet_[a-z0-9_]+`)

// check finds names in an expression that no metric has.
func (l List) check(where, expr string) error {
	for _, name := range ours.FindAllString(expr, -1) {
		_, plain := l.find(name)
		_, bucket := l.find(strings.TrimSuffix(name, "_bucket"))
		_, count := l.find(strings.TrimSuffix(name, "_count"))
		if !plain && !bucket && !count {
			return fmt.Errorf("%s: there is no metric %s", where, name)
		}
	}
	return nil
}
