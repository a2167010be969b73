package roster

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A term is one word of a filter.
type term struct {
	not      bool
	key, op  string
	text     string
	number   float64
	isNumber bool
}

// parseFilter reads words such as queue>50 state:slow !ci/ bob.
func parseFilter(text string) (terms []term, err error) {
	if len(text) > 200 {
		return nil, errors.New("the filter is longer than 200 letters")
	}
	for _, word := range strings.Fields(text) {
		t := term{}
		if t.not = strings.HasPrefix(word, "!"); t.not {
			word = word[1:]
		}
		if i := strings.IndexAny(word, ":<>"); i > 0 {
			t.key, t.op, t.text = word[:i], word[i:i+1], word[i+1:]
			if t.op == ":" && t.text != "" && (t.text[0] == '<' || t.text[0] == '>') {
				t.op, t.text = t.text[:1], t.text[1:]
			}
			t.number, err = strconv.ParseFloat(t.text, 64)
			t.isNumber = err == nil && !math.IsNaN(t.number)
			if t.op != ":" && !t.isNumber {
				return nil, fmt.Errorf("%.40q: what follows %s is no number", word, t.op)
			}
		} else {
			t.text = word
		}
		terms = append(terms, t)
	}
	return terms, nil
}

// filter keeps the rows that match all words. On an error it keeps all.
func filter(rows []Row, filter string) ([]Row, error) {
	terms, err := parseFilter(filter)
	for i := range terms {
		if err == nil && terms[i].key != "" && !slices.Contains(keys, terms[i].key) {
			err = fmt.Errorf("%.40q is none of %s", terms[i].key, strings.Join(keys, ", "))
		}
	}
	if err != nil {
		return slices.Clone(rows), err
	}
	var out []Row
next:
	for i := range rows {
		for k := range terms {
			if terms[k].matches(&rows[i]) == terms[k].not {
				continue next
			}
		}
		out = append(out, rows[i])
	}
	return out, nil
}

var keys = []string{"state", "wire", "subject", "node", "region", "queue", "rtt", "in", "out", "channels", "sessions", "unacked"}

func (t *term) matches(a *Row) bool {
	number := func(v float64) bool {
		switch t.op {
		case "<":
			return v < t.number
		case ">":
			return v > t.number
		}
		return t.isNumber && v == t.number
	}
	switch t.key {
	case "":
		return strings.Contains(a.Agent, t.text)
	case "state":
		return a.State == t.text
	case "wire":
		return a.Encoding == t.text
	case "node":
		return a.Node == t.text
	case "region":
		return a.Region == t.text
	case "subject":
		return strings.Contains(a.Subject, t.text)
	case "queue":
		return number(float64(a.Queue))
	case "rtt":
		return number(float64(a.RTT.Milliseconds()))
	case "in":
		return number(a.HeardPerS)
	case "out":
		return number(a.SentPerS)
	case "channels":
		return number(float64(a.Channels))
	case "sessions":
		return number(float64(a.Sessions))
	case "unacked":
		return number(float64(a.Unacked))
	}
	return false
}

// orders are what the list can be sorted by, the largest first.
var orders = map[string]func(a, b *Row) int{
	"agent":    func(a, b *Row) int { return cmp.Compare(b.Agent, a.Agent) },
	"node":     func(a, b *Row) int { return cmp.Compare(b.Node, a.Node) },
	"state":    func(a, b *Row) int { return cmp.Compare(b.State, a.State) },
	"up":       func(a, b *Row) int { return b.Since.Compare(a.Since) },
	"rtt":      func(a, b *Row) int { return cmp.Compare(a.RTT, b.RTT) },
	"in":       func(a, b *Row) int { return cmp.Compare(a.HeardPerS, b.HeardPerS) },
	"out":      func(a, b *Row) int { return cmp.Compare(a.SentPerS, b.SentPerS) },
	"queue":    func(a, b *Row) int { return cmp.Compare(a.Queue, b.Queue) },
	"unacked":  func(a, b *Row) int { return cmp.Compare(a.Unacked, b.Unacked) },
	"channels": func(a, b *Row) int { return cmp.Compare(a.Channels, b.Channels) },
}

func order(rows []Row, by string) {
	up := strings.HasPrefix(by, "-")
	compare, ok := orders[strings.TrimPrefix(by, "-")]
	if !ok {
		compare = orders["queue"]
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		first := compare(&b, &a)
		if up {
			first = compare(&a, &b)
		}
		return cmp.Or(first, cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Node, b.Node)) // the same at each look, and on each node
	})
}
