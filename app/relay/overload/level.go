// Package overload decides how much of its work a node should leave undone.
//
// A Ladder turns signals (how long ready work waited, how busy the loops are, how
// full queues and memory are) into one of four levels, slowly enough that it never
// flaps, and a Level says what is turned off, in words for people and as predicates
// for the relay. The package measures nothing, sheds nothing, keeps no clock and
// starts no goroutine; what it guarantees is that direct critical messages are
// never on the list.
package overload

import "time"

// Level is how much a node is overloaded. A higher level turns off more.
type Level uint8

// The levels, from none to most.
const (
	Normal Level = iota
	Elevated
	Degraded
	Critical
	// Levels is how many there are, for arrays indexed by Level.
	Levels = 4
)

// String returns the word of the level as notices and metrics have it.
func (l Level) String() string {
	switch l {
	case Normal:
		return "normal"
	case Elevated:
		return "elevated"
	case Degraded:
		return "degraded"
	case Critical:
		return "critical"
	}
	return "unknown"
}

// Words for what a level turns off. They are stable: notices, metrics and the
// scaling log carry them.
const (
	ShedHistory     = "history"        // reads of history wait, or are refused with a wait
	ShedPresence    = "presence"       // presence events are not sent; presence can still be asked for
	ShedBackground  = "background"     // roll-ups, exports and notifications wait
	ShedLow         = "low"            // messages of class low are refused
	ShedPublish     = "publish_rate"   // publishing is held to a part of its rate
	ShedNormal      = "normal_publish" // publications of class normal are refused
	ShedConnections = "connections"    // new connections are refused
)

// Sheds returns the words for all that the level turns off, in the order in which
// the levels do it. It is empty for Normal. The slice is the caller's.
func (l Level) Sheds() []string {
	var words []string
	if l >= Elevated {
		words = append(words, ShedHistory, ShedPresence, ShedBackground)
	}
	if l >= Degraded {
		words = append(words, ShedLow, ShedPublish)
	}
	if l >= Critical {
		words = append(words, ShedNormal, ShedConnections)
	}
	return words
}

// DefersHistory says that reading history must wait.
func (l Level) DefersHistory() bool { return l >= Elevated }

// DropsPresence says that presence events are not sent.
func (l Level) DropsPresence() bool { return l >= Elevated }

// DefersBackground says that work nobody waits for (roll-ups, exports,
// notifications) is put off.
func (l Level) DefersBackground() bool { return l >= Elevated }

// DropsLow says that messages of class low, direct or published, are refused.
func (l Level) DropsLow() bool { return l >= Degraded }

// ThrottlesPublish says that publishers are held to PublishFactor of their rate.
func (l Level) ThrottlesPublish() bool { return l >= Degraded }

// PublishFactor is the share of its usual rate that a publisher may use, 1 unless
// ThrottlesPublish.
func (l Level) PublishFactor() float64 {
	switch {
	case l >= Critical:
		return 0.25
	case l >= Degraded:
		return 0.5
	}
	return 1
}

// DropsNormalPublish says that publications of class normal are refused; direct
// messages of that class still go.
func (l Level) DropsNormalPublish() bool { return l >= Critical }

// RefusesConnections says that nobody new is let in.
func (l Level) RefusesConnections() bool { return l >= Critical }

// KeepsDirectCritical is true at every level: it is what all the rest is given up
// for.
func (l Level) KeepsDirectCritical() bool { return true }

// RetryAfter is the least wait to tell to those who are refused because of the
// level; 0 for Normal. It is about how long the level will last at least.
func (l Level) RetryAfter() time.Duration {
	switch {
	case l >= Critical:
		return 5 * time.Second
	case l >= Degraded:
		return 2 * time.Second
	case l >= Elevated:
		return time.Second
	}
	return 0
}
