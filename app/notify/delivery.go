package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"

	"agentnet/app/egress"
)

// An Outcome is what came of one try to deliver.
type Outcome string

// The outcomes.
const (
	Sent    Outcome = "sent"
	Retried Outcome = "retried" // it failed and will be tried again
	Failed  Outcome = "failed"  // for good
	Dropped Outcome = "dropped" // never tried: too many waited, or the node stopped
)

// A Delivery is one line of the delivery log.
type Delivery struct {
	ID       uint64        `json:"id"` // counts up
	At       time.Time     `json:"at"`
	Message  string        `json:"message"`
	Channel  string        `json:"channel"`
	Kind     string        `json:"kind"`
	Target   string        `json:"target"` // host only
	Group    string        `json:"group"`
	Title    string        `json:"title"`
	Severity Severity      `json:"severity"`
	Test     bool          `json:"test,omitempty"`
	Outcome  Outcome       `json:"outcome"`
	Tries    int           `json:"tries"`
	Took     time.Duration `json:"took"`             // in nanoseconds
	Answer   string        `json:"answer,omitempty"` // status and text, shortened
	Fault    string        `json:"fault,omitempty"`

	Rules  string `json:"rules,omitempty"`  // keys of the alerts, with blanks between, shortened
	Status int    `json:"status,omitempty"` // of HTTP or SMTP; 0: there was no answer
	Class  string `json:"class,omitempty"`  // of the fault, see classOf

	wait time.Duration // until the next try
}

// A DeliveryFilter chooses stored deliveries.
type DeliveryFilter struct {
	Channel string  // "": all
	Outcome Outcome // "": all
	Before  uint64  // ID that the page before ended with; 0: the first page
	Limit   int     // 1 to 1000; 0: 100
}

// Classes of faults, for people and for counting: what is stored of a fault besides
// the status.
const (
	ClassAddress = "address" // not allowed, or redirected
	ClassTimeout = "timeout"
	ClassName    = "name" // the host's name leads nowhere
	ClassTLS     = "tls"
	ClassConnect = "connect"
	ClassRefused = "refused" // the target answered, and no
	ClassResting = "resting" // its breaker is open
	ClassStopped = "stopped" // this node stopped
	ClassFull    = "full"    // too many waited
	ClassOther   = "other"
)

// classOf sorts a fault; nil has none.
func classOf(err error) string {
	var timeout interface{ Timeout() bool }
	var smtp *textproto.Error
	e, answered := errors.AsType[*egress.Error](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, egress.ErrAddress), errors.Is(err, egress.ErrRedirect):
		return ClassAddress
	case errors.Is(err, egress.ErrOpen):
		return ClassResting
	case errors.Is(err, context.Canceled):
		return ClassStopped
	case answered && e.Status > 0, errors.As(err, &smtp):
		return ClassRefused
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return ClassName
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return ClassTLS
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return ClassTimeout
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return ClassConnect
	}
	return ClassOther
}

// statusOf is what the target answered, in the number of its protocol.
func statusOf(answer string, err error) int {
	if e, ok := errors.AsType[*egress.Error](err); ok && e.Status > 0 {
		return e.Status
	}
	if e, ok := errors.AsType[*textproto.Error](err); ok {
		return e.Code
	}
	if len(answer) >= 3 {
		if n, err := strconv.Atoi(answer[:3]); err == nil && n >= 100 && (len(answer) == 3 || answer[3] == ' ') {
			return n
		}
	}
	return 0
}

// maxRules bounds the keys of alerts in one row, in bytes.
const maxRules = 300

func rulesOf(m *Message) string {
	var b strings.Builder
	for _, it := range m.Items {
		if b.Len()+len(it.Key) >= maxRules {
			return b.String() + " …"
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(it.Key)
	}
	return b.String()
}

// maxDeliveries bounds the deliveries kept in memory.
const maxDeliveries = 1000

// record is the ring of the last deliveries.
type record struct {
	log func(Delivery)

	mu     sync.Mutex
	ring   []Delivery
	next   uint64
	counts map[string]map[Outcome]uint64
}

func (r *record) add(d Delivery) {
	r.mu.Lock()
	r.next++
	d.ID = r.next
	if len(r.ring) < maxDeliveries {
		r.ring = append(r.ring, d)
	} else {
		r.ring[(d.ID-1)%maxDeliveries] = d
	}
	if r.counts == nil {
		r.counts = make(map[string]map[Outcome]uint64)
	}
	if r.counts[d.Channel] == nil {
		r.counts[d.Channel] = make(map[Outcome]uint64)
	}
	r.counts[d.Channel][d.Outcome]++
	r.mu.Unlock()
	if r.log != nil {
		r.log(d)
	}
}

// recall takes stored deliveries over, which come newest first. They are counted by
// nobody again.
func (r *record) recall(past []Delivery) {
	for i := min(len(past), maxDeliveries) - 1; i >= 0; i-- {
		d := past[i]
		r.next++
		if d.ID = r.next; d.Title == "" {
			d.Title = d.Rules // titles are not stored
		}
		if d.Fault == "" {
			d.Fault = d.Class
		}
		r.ring = append(r.ring, d)
	}
}

func (r *record) list(limit int) []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	if limit <= 0 || limit > len(r.ring) {
		limit = len(r.ring)
	}
	out := make([]Delivery, 0, limit)
	for i := range limit {
		out = append(out, r.ring[(r.next-1-uint64(i))%maxDeliveries])
	}
	return out
}

func (r *record) totals() map[string]map[Outcome]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]map[Outcome]uint64, len(r.counts))
	for name, counts := range r.counts {
		out[name] = maps.Clone(counts)
	}
	return out
}
