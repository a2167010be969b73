//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"agentnet/app/wire"
)

// engineConfig keeps a node from shedding because other things run on the machine: it
// would refuse the very requests that measure it. The engine puts nothing off either.
const engineConfig = `
scaling: {mode: %s}
log: {level: error, format: text}
overload: {lag_elevated: 1h, lag_degraded: 1h, lag_critical: 1h}
`

// TestEngineDoesNotDisturb has pairs talk through two nodes in turns, one with the
// scaling engine at its work and one without it: what a message takes must not
// tell them apart.
func TestEngineDoesNotDisturb(t *testing.T) {
	rounds := number(t, "E2E_ROUNDS", 1)
	span := time.Duration(number(t, "E2E_SECONDS", 3)) * time.Second
	pairs := number(t, "E2E_PAIRS", 20)
	type side struct {
		mode string
		p    *process
		talk *talkers
		took spread
		cpu  time.Duration
		sent int64
	}
	var sides []*side
	for _, mode := range []string{"off", "advise"} {
		p := newHouse(t, fmt.Sprintf(engineConfig, mode)).start()
		sides = append(sides, &side{mode: mode, p: p})
	}
	for range rounds {
		for _, s := range sides {
			s.talk = talkApart(t, s.p, pairs, 10*time.Millisecond, wire.Normal)
			time.Sleep(time.Second)
			s.talk.take()
			before := s.p.usage().cpu
			time.Sleep(span)
			r := s.talk.take()
			s.cpu += s.p.usage().cpu - before
			s.took = append(s.took, r.Took...)
			s.sent += int64(len(r.Took))
			if end := s.talk.end(); end.Got != end.Sent || end.Refused > 0 {
				t.Errorf("mode %s: sent %d, got %d, refused %d", s.mode, end.Sent, end.Got, end.Refused)
			}
		}
		slices.Reverse(sides) // neither is always the first
	}
	for _, s := range sides {
		slices.Sort(s.took)
		figure(t, "scaling.mode %s: %v; CPU %.1f µs a message", s.mode, s.took, float64(s.cpu)/float64(s.sent)/1e3)
	}
	without, with := sides[0], sides[1]
	if without.mode != "off" {
		without, with = with, without
	}
	slack := 100 * time.Millisecond // on a machine that does other things too
	if long() {
		slack = without.took.at(.99)/4 + 100*time.Microsecond
	}
	if got, most := with.took.at(.99), without.took.at(.99)+slack; got > most && !raced() {
		t.Errorf("got p99 %v with the engine, want at most %v: %v without it", got, most, without.took.at(.99))
	}
	for _, s := range sides {
		var known struct {
			Nodes []json.RawMessage
		}
		if err := json.Unmarshal(s.p.get("/v1/scaling/nodes"), &known); err != nil {
			t.Fatal(err)
		}
		if got, want := len(known.Nodes) > 0, s.mode != "off"; got != want {
			t.Errorf("mode %s: got samples %v, want %v", s.mode, got, want)
		}
	}
	for _, s := range sides {
		s.p.stop(20 * time.Second)
	}
}
