package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Severity says how soon somebody must look.
type Severity uint8

// The severities.
const (
	Warning Severity = iota
	Critical
)

// String returns the word of the severity.
func (s Severity) String() string {
	if s == Critical {
		return "critical"
	}
	return "warning"
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	switch string(text) {
	case "warning", "":
		*s = Warning
	case "critical":
		*s = Critical
	default:
		return fmt.Errorf("severity %.40q: want warning or critical", text)
	}
	return nil
}

// An Item is one alert that began or ended.
type Item struct {
	Key       string    `json:"key"` // names the alert: its rule, and the node where it has one
	Rule      string    `json:"rule"`
	Node      string    `json:"node,omitempty"`
	Severity  Severity  `json:"severity"`
	Resolved  bool      `json:"resolved"`
	At        time.Time `json:"at"`    // of the change
	Since     time.Time `json:"since"` // it began
	Value     string    `json:"value,omitempty"`
	Threshold string    `json:"threshold,omitempty"`
	Why       string    `json:"why"`
	Response  string    `json:"response,omitempty"` // what to do
	Runbook   string    `json:"runbook,omitempty"`  // name of the runbook that says how
	Link      string    `json:"link,omitempty"`     // to the runbook's page
}

// A Message is what people are told at once.
type Message struct {
	ID       string    `json:"id"` // repeats with each try
	At       time.Time `json:"at"`
	From     string    `json:"from"` // the deployment or node that speaks
	Group    string    `json:"group"`
	Severity Severity  `json:"severity"` // the highest among the items
	Resolved bool      `json:"resolved"` // every item is an end
	Reminder bool      `json:"reminder,omitempty"`
	Test     bool      `json:"test,omitempty"`
	Items    []Item    `json:"items"`
	More     int       `json:"more,omitempty"` // items that found no room
	Link     string    `json:"link,omitempty"` // to the page with the alerts
}

// maxItems bounds the items of one message.
const maxItems = 50

// settle works out what follows from the items.
func (m *Message) settle() {
	m.Severity, m.Resolved = Warning, len(m.Items) > 0
	for _, it := range m.Items {
		if !it.Resolved {
			m.Severity = max(m.Severity, it.Severity)
		}
		m.Resolved = m.Resolved && it.Resolved
	}
	if m.Resolved {
		for _, it := range m.Items {
			m.Severity = max(m.Severity, it.Severity)
		}
	}
}

// merge makes one message of several, in the order in which they came. Of an
// alert that changed several times the last change stands.
func merge(all []Message) Message {
	m := all[0]
	if len(all) == 1 && len(m.Items) <= maxItems {
		return m
	}
	last := make(map[string]int)
	items := make([]Item, 0, len(m.Items))
	for _, one := range all {
		m.More += one.More
		if one.Group != m.Group {
			m.Group = "several"
		}
		m.At, m.Reminder = one.At, m.Reminder && one.Reminder
		for _, it := range one.Items {
			if at, seen := last[it.Key]; seen {
				items[at] = it
				continue
			}
			last[it.Key] = len(items)
			items = append(items, it)
		}
	}
	m.More -= all[0].More
	// What goes on and is worst comes first, and is the last to find no room.
	slices.SortStableFunc(items, func(a, b Item) int {
		return cmp.Or(boolOrder(a.Resolved, b.Resolved), cmp.Compare(b.Severity, a.Severity), a.At.Compare(b.At))
	})
	if over := len(items) - maxItems; over > 0 {
		m.More += over
		items = items[:maxItems]
	}
	m.Items = items
	m.settle()
	return m
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Status is the word for where the alerts of the message stand.
func (m *Message) Status() string {
	switch {
	case m.Test:
		return "test"
	case m.Resolved:
		return "resolved"
	}
	return "firing"
}

// Title is one line: how bad, what, where.
func (m *Message) Title() string {
	from := ""
	if m.From != "" {
		from = " (" + m.From + ")"
	}
	switch {
	case m.Test:
		return "Test of notifications" + from
	case len(m.Items) == 0:
		return "Agentnet" + from
	}
	how := strings.ToUpper(m.Severity.String())
	if m.Resolved {
		how = "Resolved"
	}
	if m.Reminder {
		how = "Still " + strings.ToLower(how)
	}
	text := how + ": " + m.Items[0].headline()
	if n := len(m.Items) + m.More - 1; n > 0 {
		text += fmt.Sprintf(", and %d more", n)
	}
	return text + from
}

func (it *Item) headline() string {
	if it.Resolved || it.Value == "" {
		return it.Key
	}
	return fmt.Sprintf("%s, %s", it.Key, it.Value)
}
