package roster

import (
	"fmt"
	"slices"

	"agentnet/app/wire"
)

// MaxRows bounds the rows that one node tells.
const MaxRows = 5000

// A Query chooses rows.
type Query struct {
	Filter string `json:"filter,omitempty"` // such as queue>50 state:slow !ci/
	Sort   string `json:"sort,omitempty"`   // a column; a minus before it turns the order round
	Limit  int    `json:"limit"`            // rows, 1 to MaxRows
}

// Quick are the filters that a page offers at once; a List counts what each finds.
var quick = []string{"", "!state:offline", "state:slow", "queue>0", "state:offline"}

// Quick lists the filters whose results a List counts, in its order.
func Quick() []string { return slices.Clone(quick) }

// A List is the first rows of those that match, with counts of all agents.
type List struct {
	Rows    []Row    `json:"rows"`
	Matched int      `json:"matched" doc:"Rows that match, of which rows has the first."`
	Online  int      `json:"online" doc:"Agents with a socket, whatever the filter."`
	Slow    int      `json:"slow"`
	Away    int      `json:"away"`
	Quick   []int    `json:"quick,omitempty"`
	Missing []string `json:"missing,omitempty" doc:"Nodes that did not answer: their agents are not in the list."`
}

// Find lists agents of this node. An error says what is wrong with the query.
func (b *Book) Find(q Query) (List, error) {
	rows := b.now().rows
	found, err := filter(rows, q.Filter)
	if err != nil {
		return List{}, err
	}
	l := List{Matched: len(found)}
	order(found, q.Sort)
	l.Rows = found[:min(len(found), max(q.Limit, 0), MaxRows)]
	for i := range rows {
		switch rows[i].State {
		case string(wire.Offline):
			continue
		case "slow":
			l.Slow++
		case string(wire.Away):
			l.Away++
		}
		l.Online++
	}
	for _, text := range quick {
		some, err := filter(rows, text)
		if err != nil {
			return List{}, fmt.Errorf("%q: %w", text, err)
		}
		l.Quick = append(l.Quick, len(some))
	}
	return l, nil
}

// Check says what is wrong with a filter.
func Check(text string) error {
	_, err := filter(nil, text)
	return err
}

// Merge makes one list of those of several nodes, in the order asked for.
func Merge(q Query, lists ...List) List {
	all := List{Quick: make([]int, len(quick))}
	for i := range lists {
		l := &lists[i]
		all.Rows = append(all.Rows, l.Rows...)
		all.Matched, all.Online, all.Slow, all.Away = all.Matched+l.Matched, all.Online+l.Online, all.Slow+l.Slow, all.Away+l.Away
		for k := range min(len(l.Quick), len(all.Quick)) {
			all.Quick[k] += l.Quick[k]
		}
		all.Missing = append(all.Missing, l.Missing...)
	}
	order(all.Rows, q.Sort)
	all.Rows = all.Rows[:min(len(all.Rows), max(q.Limit, 0))]
	return all
}
