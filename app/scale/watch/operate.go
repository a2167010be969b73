package watch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agentnet/app/scale"
)

// A FaultKind says whose fault it is that a command was not carried out.
type FaultKind string

// The kinds of faults.
const (
	FaultInvalid     FaultKind = "invalid"     // the command is wrong
	FaultNotFound    FaultKind = "not_found"   // what it names is not there
	FaultUnavailable FaultKind = "unavailable" // it could not be done now
)

// A Fault is why a command was not carried out, in words for people.
type Fault struct {
	Kind FaultKind
	Text string
}

func (f *Fault) Error() string { return f.Text }

func fault(kind FaultKind, format string, args ...any) error {
	return &Fault{kind, fmt.Sprintf(format, args...)}
}

// An Op is what a command does.
type Op string

// The commands.
const (
	OpPolicy    Op = "policy"    // mode, pause, pinned
	OpAck       Op = "ack"       // take an alert on
	OpSilence   Op = "silence"   // keep alerts quiet
	OpUnsilence Op = "unsilence" // end a silence
	OpRules     Op = "rules"     // other alert rules; none: the configured ones again
	OpRule      Op = "rule"      // one alert rule, new or in the place of its namesake
	OpUnrule    Op = "unrule"    // one rule as configured again, or gone when it never was
	OpAnswer    Op = "answer"    // snooze, dismiss or reopen a piece of advice
	OpCapacity  Op = "capacity"  // what one instance carries, as measured; Reset: the document's again
)

// A Command is what an admin asks. The leader carries it out; other nodes pass it on.
type Command struct {
	Op    Op     `json:"op"`
	Actor string `json:"actor"` // who asks, as the log will name them

	Mode   *scale.Mode  `json:"mode,omitempty"`
	Pause  *scale.Pause `json:"pause,omitempty"`
	Pinned *int         `json:"pinned,omitempty"`
	Reset  bool         `json:"reset,omitempty"` // of OpPolicy: as configured again

	Alert  string `json:"alert,omitempty"`
	Reason string `json:"reason,omitempty"`

	Silence *scale.Silence `json:"silence,omitempty"`
	ID      string         `json:"id,omitempty"`

	Rules []scale.Rule `json:"rules,omitempty"`
	Rule  *scale.Rule  `json:"rule,omitempty"` // of OpRule; OpUnrule names it by ID

	Capacity *scale.Capacity `json:"capacity,omitempty"`

	Answer *Answer `json:"answer,omitempty"`
}

// Do carries a command out, here or on the leader, and returns its entry in the
// scaling log. Errors are *Fault.
func (s *Service) Do(ctx context.Context, c Command) (scale.LogEntry, error) {
	node, _, mine := s.lead()
	if mine {
		return s.execute(ctx, c)
	}
	if node == "" || s.cfg.Others.Cut() {
		return scale.LogEntry{}, fault(FaultUnavailable, "the nodes have no leader now, and nothing is changed until they have one; try again")
	}
	return s.askLeader(ctx, node, c)
}

// execute carries a command out on this node, which leads.
func (s *Service) execute(ctx context.Context, c Command) (scale.LogEntry, error) {
	if _, _, mine := s.lead(); !mine {
		return scale.LogEntry{}, fault(FaultUnavailable, "this node does not lead any more; try again")
	}
	if c.Actor == "" {
		return scale.LogEntry{}, fault(FaultInvalid, "nobody is named as the actor")
	}
	now := time.Now()
	var entry scale.Entry
	var err error
	switch c.Op {
	case OpPolicy:
		entry, err = s.setPolicy(ctx, now, &c)
	case OpAck:
		entry, err = s.engine.Acknowledge(now, c.Alert, c.Actor, c.Reason)
	case OpSilence:
		entry, err = s.silence(now, &c)
	case OpUnsilence:
		entry, err = s.engine.Unsilence(now, c.ID, c.Actor)
	case OpRules:
		entry, err = s.setRules(ctx, now, &c)
	case OpRule:
		entry, err = s.setRule(ctx, now, &c)
	case OpUnrule:
		entry, err = s.dropRule(ctx, now, &c)
	case OpAnswer:
		entry, err = s.answer(ctx, now, &c)
	case OpCapacity:
		entry, err = s.setCapacity(ctx, now, &c)
	default:
		err = fault(FaultInvalid, "%.40q is no command", c.Op)
	}
	if err != nil {
		return scale.LogEntry{}, explained(err)
	}
	sealed, err := s.append(ctx, entry)
	if err != nil {
		s.scribe.write(entry) // it is in force: the log gets it as soon as it can be written
		return scale.LogEntry{}, fault(FaultUnavailable, "it is in force, but the scaling log cannot be written now: %v", err)
	}
	if err := s.remember(ctx, now); err != nil {
		s.log.Error("what the scaling engine knows could not be stored", "error", err)
	}
	return sealed[0], nil
}

// explained gives an error of the engine its kind.
func explained(err error) error {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	if errors.Is(err, scale.ErrNoAlert) || errors.Is(err, scale.ErrNoSilence) {
		return fault(FaultNotFound, "%v", err)
	}
	return fault(FaultInvalid, "%v", err)
}

func (s *Service) setPolicy(ctx context.Context, now time.Time, c *Command) (scale.Entry, error) {
	s.mu.Lock()
	next := s.override
	s.mu.Unlock()
	if c.Reset {
		next = Override{}
	}
	if c.Mode != nil {
		next.Mode = c.Mode
	}
	if c.Pause != nil {
		next.Pause = c.Pause
	}
	if c.Pinned != nil {
		next.Pinned = c.Pinned
	}
	next.By, next.At = c.Actor, now.UTC().Round(0)
	if next.Mode != nil && *next.Mode == scale.Act && s.cfg.Actuator == nil {
		return scale.Entry{}, fault(FaultInvalid, "no actuator is configured, so nothing could act: set one in the configuration, or stay with advise")
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return scale.Entry{}, fmt.Errorf("encode the policy: %w", err)
	}
	p := s.engine.Policy()
	base := s.configured.Policy
	p.Mode, p.Pause, p.Pinned = base.Mode, base.Pause, base.Pinned
	p = next.apply(p)
	if err := p.Validate(); err != nil {
		return scale.Entry{}, err
	}
	if err := s.cfg.Store.PutSetting(ctx, settingPolicy, string(raw)); err != nil {
		return scale.Entry{}, fault(FaultUnavailable, "the change could not be stored and was not made: %v", err)
	}
	entry, err := s.engine.SetPolicy(now, c.Actor, p)
	if err != nil {
		return scale.Entry{}, err
	}
	if c.Reason != "" {
		entry.Summary += ": " + c.Reason
	}
	s.mu.Lock()
	s.override = next
	s.mu.Unlock()
	return entry, nil
}

func (s *Service) silence(now time.Time, c *Command) (scale.Entry, error) {
	if c.Silence == nil {
		return scale.Entry{}, fault(FaultInvalid, "the silence is missing")
	}
	q := *c.Silence
	q.By = c.Actor
	if q.ID == "" {
		var id [6]byte
		rand.Read(id[:])
		q.ID = hex.EncodeToString(id[:])
	}
	if q.From.IsZero() {
		q.From = now
	}
	return s.engine.Silence(now, q)
}

// maxStoredRules bounds the rules that are put in place at run time, in bytes.
const maxStoredRules = 60 << 10

func (s *Service) setRules(ctx context.Context, now time.Time, c *Command) (scale.Entry, error) {
	rules, own, raw := c.Rules, len(c.Rules) > 0, []byte(nil)
	if !own {
		rules = s.configured.Rules
	} else {
		var err error
		if raw, err = json.Marshal(rules); err != nil {
			return scale.Entry{}, err
		}
		if len(raw) > maxStoredRules {
			return scale.Entry{}, fault(FaultInvalid, "the rules take %d bytes, at most %d can be stored: put them into the configuration file", len(raw), maxStoredRules)
		}
	}
	if err := scale.ValidateRules(rules); err != nil {
		return scale.Entry{}, err
	}
	if err := s.cfg.Store.PutSetting(ctx, settingRules, string(raw)); err != nil {
		return scale.Entry{}, fault(FaultUnavailable, "the rules could not be stored and were not changed: %v", err)
	}
	_, capacity := s.engine.Rules()
	entry, err := s.engine.ChangeRules(now, c.Actor, rules, capacity)
	if err != nil {
		return scale.Entry{}, err
	}
	if c.Reason != "" {
		entry.Summary += ": " + c.Reason
	}
	s.mu.Lock()
	s.ownRules, s.rulesAt = own, now.UTC().Round(0)
	s.mu.Unlock()
	return entry, nil
}

// Note writes an admin's words into the log of this node.
func (s *Service) Note(ctx context.Context, actor, text string, cause uint64) (scale.LogEntry, error) {
	e, err := scale.Note(time.Now(), actor, text)
	if err != nil {
		return scale.LogEntry{}, explained(err)
	}
	e.Region, e.Cause = s.cfg.Region, cause
	sealed, err := s.append(ctx, e)
	if err != nil {
		return scale.LogEntry{}, fault(FaultUnavailable, "the note could not be written: %v", err)
	}
	return sealed[0], nil
}

// Write puts an entry of another part of the node into the log, such as a drill's,
// and returns it as stored.
func (s *Service) Write(ctx context.Context, e scale.Entry) (scale.LogEntry, error) {
	sealed, err := s.append(ctx, e)
	if err != nil {
		return scale.LogEntry{}, fault(FaultUnavailable, "the entry could not be written: %v", err)
	}
	return sealed[0], nil
}

// believed is how far beyond what was really seen a measurement is believed: what
// becomes short first at ten times the load is not what was short at the load.
const believed = 10

// Calibrate makes the capacity of one instance of what a load generator measured
// of this node: bytes of a connection and processor seconds of a message. The
// limits are those that this node runs in. Base figures are those without load.
func (s *Service) Calibrate(m scale.Measurement, secondsPerMessage float64, now time.Time) (scale.Capacity, error) {
	if s.cfg.Sources.Host == nil {
		return scale.Capacity{}, fault(FaultUnavailable, "this node does not know its machine")
	}
	f := s.Fleet()
	for i := range f.Nodes {
		if n := &f.Nodes[i]; n.Name == s.cfg.Node {
			m.MemoryLimit, _ = n.Values.Get(scale.MemoryLimit)
		}
	}
	m.CPUPerMessage = secondsPerMessage / s.cfg.Sources.Host.Processors()
	if !(m.BytesPerConnection > 0 && m.CPUPerMessage > 0 && m.MemoryLimit > 0 && m.SeenConnections > 0 && m.SeenMessages > 0 && m.BaseBytes >= 0 && m.BaseCPU >= 0 && m.BaseCPU < 1) {
		return scale.Capacity{}, fault(FaultInvalid, "bytes of a connection, processor time of a message and what was seen of both must be above 0, and the memory limit known")
	}
	c := m.Capacity()
	c.Connections, c.Messages = min(c.Connections, believed*m.SeenConnections), min(c.Messages, believed*m.SeenMessages)
	c.Source = fmt.Sprintf("calibrated on %s: %.1f KB a connection, %.1f µs of a processor for a message, seen up to %.0f connections and %.0f messages/s",
		now.UTC().Format("2006-01-02"), m.BytesPerConnection/1024, secondsPerMessage*1e6, m.SeenConnections, m.SeenMessages)
	return c, nil
}

// setCapacity puts a measured capacity in the place of the document's: for alerts,
// for the targets of the policy, and for plans.
func (s *Service) setCapacity(ctx context.Context, now time.Time, c *Command) (scale.Entry, error) {
	if s.configured.Capacity != (scale.Capacity{}) {
		return scale.Entry{}, fault(FaultInvalid, "the configuration says what an instance carries: remove scaling.instance_connections, instance_messages and scale_at to use what was measured")
	}
	capacity := scale.Capacity{}
	if !c.Reset {
		if c.Capacity == nil || !(c.Capacity.Connections > 0 && c.Capacity.Messages > 0 && c.Capacity.ScaleAt >= 0) {
			return scale.Entry{}, fault(FaultInvalid, "the capacity must say connections and messages above 0")
		}
		capacity = *c.Capacity
	}
	raw, err := json.Marshal(capacity)
	if err != nil {
		return scale.Entry{}, err
	}
	if err := s.cfg.Store.PutSetting(ctx, settingCapacity, string(raw)); err != nil {
		return scale.Entry{}, fault(FaultUnavailable, "the capacity could not be stored and was not changed: %v", err)
	}
	return s.takeCapacity(now, c.Actor, capacity)
}

// takeCapacity puts a capacity in force on this node. Targets that somebody
// configured stay.
func (s *Service) takeCapacity(now time.Time, actor string, c scale.Capacity) (scale.Entry, error) {
	p := s.engine.Policy()
	before, after := scale.DefaultPolicy(s.capacity()), scale.DefaultPolicy(c)
	p.Targets = append([]scale.Target(nil), p.Targets...)
	for i, t := range p.Targets {
		for k := range before.Targets {
			if t == before.Targets[k] {
				p.Targets[i] = after.Targets[k]
			}
		}
	}
	if _, err := s.engine.SetPolicy(now, actor, p); err != nil {
		return scale.Entry{}, err
	}
	rules, _ := s.engine.Rules()
	entry, err := s.engine.SetRules(now, actor, rules, c)
	if err == nil {
		s.mu.Lock()
		s.calibrated = c
		s.mu.Unlock()
	}
	return entry, err
}

// capacity is what was calibrated; zero: the document's.
func (s *Service) capacity() scale.Capacity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calibrated
}
