package scale

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Scenario is a kind of load that the simulator invents.
type Scenario string

// The scenarios.
const (
	ScenarioSteady     Scenario = "steady"      // the peak all the time
	ScenarioDaily      Scenario = "daily"       // working days and weekends
	ScenarioSpike      Scenario = "spike"       // five times the load within a minute
	ScenarioStorm      Scenario = "storm"       // every connection is cut at once and comes back
	ScenarioNodeLoss   Scenario = "node-loss"   // a quarter of the nodes die
	ScenarioRegionLoss Scenario = "region-loss" // one of the regions dies for half an hour
	ScenarioRecorded   Scenario = "recorded"    // the load that was given
)

// Scenarios lists all that can be invented.
func Scenarios() []Scenario {
	return []Scenario{ScenarioSteady, ScenarioDaily, ScenarioSpike, ScenarioStorm, ScenarioNodeLoss, ScenarioRegionLoss}
}

// A LoadPoint is the demand at one time: clients that want to be connected, and
// messages that they send in a second.
type LoadPoint struct {
	At          time.Time `json:"at"`
	Connections float64   `json:"connections"`
	Messages    float64   `json:"messages"`
}

// A curve is demand over time, in shares of the peak.
type curve func(at time.Time) float64

// shape is the load of a scenario that begins at start and lasts length.
func shape(s Scenario, start time.Time, length time.Duration) (curve, bool) {
	switch s {
	case ScenarioSteady:
		return func(time.Time) float64 { return 1 }, true
	case ScenarioStorm, ScenarioNodeLoss, ScenarioRegionLoss:
		return func(time.Time) float64 { return 0.8 }, true
	case ScenarioDaily:
		return daily, true
	case ScenarioSpike:
		rise, hold, fall := time.Minute, 20*time.Minute, 5*time.Minute
		from := start.Add(length / 3)
		return func(at time.Time) float64 {
			t := at.Sub(from)
			switch {
			case t < 0 || t > rise+hold+fall:
				return 0.2
			case t < rise:
				return 0.2 + 0.8*t.Seconds()/rise.Seconds()
			case t < rise+hold:
				return 1
			}
			return 1 - 0.8*(t-rise-hold).Seconds()/fall.Seconds()
		}, true
	}
	return nil, false
}

// daily is a working day with its peak at two in the afternoon, and half of it
// on Saturday and Sunday.
func daily(at time.Time) float64 {
	at = at.UTC()
	hour := at.Sub(at.Truncate(dayLength)).Hours()
	hill := 0.85 * math.Exp(-math.Pow((hour-14)/4, 2))
	if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
		hill *= 0.5
	}
	return 0.15 + hill
}

// maxLoadPoints bounds a recorded load.
const maxLoadPoints = MaxSeries

// ErrLoad says that a recorded load cannot be used.
var ErrLoad = errors.New("recorded load")

// ReadLoad reads a recorded load: lines of time, connections and (where known)
// messages a second, with commas between them. The time is RFC 3339 or seconds
// since 1970. A first line of words is a heading. Empty lines and lines that
// begin with # are left out.
func ReadLoad(r io.Reader) ([]LoadPoint, error) {
	var out []LoadPoint
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 4096), 64<<10)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		p, err := readLoadLine(text)
		if err != nil {
			if len(out) == 0 && isHeading(text) {
				continue
			}
			return nil, fmt.Errorf("%w: line %d: %w", ErrLoad, n, err)
		}
		if len(out) > 0 && !p.At.After(out[len(out)-1].At) {
			return nil, fmt.Errorf("%w: line %d: its time is not after that of the line before", ErrLoad, n)
		}
		if len(out) == maxLoadPoints {
			return nil, fmt.Errorf("%w: line %d: more than %d lines", ErrLoad, n, maxLoadPoints)
		}
		out = append(out, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLoad, err)
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("%w: %d lines with values, want two or more", ErrLoad, len(out))
	}
	return out, nil
}

func isHeading(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }) && !strings.ContainsAny(text, "0123456789")
}

func readLoadLine(text string) (LoadPoint, error) {
	fields := strings.Split(text, ",")
	if len(fields) < 2 || len(fields) > 3 {
		return LoadPoint{}, fmt.Errorf("%d columns, want time, connections and messages", len(fields))
	}
	var p LoadPoint
	at := strings.TrimSpace(fields[0])
	if seconds, err := strconv.ParseInt(at, 10, 64); err == nil {
		if seconds < 0 || seconds > 1<<35 {
			return LoadPoint{}, fmt.Errorf("time %d is out of range", seconds)
		}
		p.At = time.Unix(seconds, 0).UTC()
	} else if p.At, err = time.Parse(time.RFC3339, at); err != nil {
		return LoadPoint{}, fmt.Errorf("time %.40q is neither RFC 3339 nor seconds", at)
	}
	for i, into := range []*float64{&p.Connections, &p.Messages} {
		if i+1 >= len(fields) {
			p.Messages = p.Connections * MessagesPerConnection
			break
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(fields[i+1]), 64)
		if err != nil || !(v >= 0 && v <= maxDemand) {
			return LoadPoint{}, fmt.Errorf("column %d: %.40q is no number from 0 to %.0f", i+2, fields[i+1], maxDemand)
		}
		*into = v
	}
	p.At = p.At.UTC()
	return p, nil
}

// LoadOf takes the recorded load from stored points of the whole fleet.
func LoadOf(points []Point) []LoadPoint {
	var out []LoadPoint
	for i := range points {
		p := &points[i]
		c, ok := p.Values.Get(Connections)
		if p.Node != "" || !ok || len(out) == maxLoadPoints || len(out) > 0 && !p.At.After(out[len(out)-1].At) {
			continue
		}
		in, ok := p.Values.Get(MessagesIn)
		if !ok {
			in = c * MessagesPerConnection
		}
		out = append(out, LoadPoint{At: p.At.UTC(), Connections: c, Messages: in})
	}
	return out
}

// demandAt is the recorded demand at a time, straight between two points.
func demandAt(points []LoadPoint, at time.Time) (connections, messages float64) {
	i, found := slices.BinarySearchFunc(points, at, func(p LoadPoint, t time.Time) int { return p.At.Compare(t) })
	switch {
	case found || i == 0:
		return points[i].Connections, points[i].Messages
	case i == len(points):
		return points[i-1].Connections, points[i-1].Messages
	}
	a, b := points[i-1], points[i]
	part := at.Sub(a.At).Seconds() / b.At.Sub(a.At).Seconds()
	return a.Connections + part*(b.Connections-a.Connections), a.Messages + part*(b.Messages-a.Messages)
}
