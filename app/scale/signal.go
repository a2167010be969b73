package scale

import (
	"fmt"
	"slices"
)

// A Signal names one measured quantity. Its unit is part of its meaning: shares
// lie between 0 and 1, latencies are in seconds, rates are per second.
type Signal uint8

// The signals. SignalCount is their number.
const (
	Connections  Signal = iota // open sockets
	CPU                        // share of the processors that the node may use
	Memory                     // share of the memory limit in use, kernel sockets included
	MemoryBytes                // memory in use, in bytes
	MemoryLimit                // limit of the control group or the machine, in bytes
	KernelMemory               // share of the memory limit held by kernel socket buffers
	MessagesIn                 // accepted messages per second
	MessagesOut                // delivered messages per second
	BytesIn                    // bytes read per second
	BytesOut                   // bytes written per second
	ErrorRate                  // share of operations that failed
	QueueBytes                 // bytes waiting in all outbound queues
	AcceptRate                 // new connections per second
	RefusedRate                // connections refused per second
	Reconnects                 // share of the new connections that resume or return
	Broker                     // 1: the broker answers, 0: it does not
	Descriptors                // share of the allowed file descriptors in use
	DeliveryP50                // time from arrival to delivery, in seconds
	DeliveryP95
	DeliveryP99
	APIP50 // response time of the HTTP API, in seconds
	APIP95
	APIP99

	SignalCount
)

// trait is what the arithmetic must know about a signal.
type trait struct {
	name string
	unit string

	// additive signals sum over nodes: the load of the fleet is known exactly,
	// however it lies. The others are shares or quantiles.
	additive bool

	// flow signals rise with the work of reconnecting, which is not demand.
	flow bool
}

var traits = [SignalCount]trait{
	Connections:  {name: "connections", unit: "connections", additive: true},
	CPU:          {name: "cpu", unit: "share", flow: true},
	Memory:       {name: "memory", unit: "share"},
	MemoryBytes:  {name: "memory_bytes", unit: "bytes", additive: true},
	MemoryLimit:  {name: "memory_limit", unit: "bytes", additive: true},
	KernelMemory: {name: "kernel_memory", unit: "share"},
	MessagesIn:   {name: "messages_in", unit: "messages/s", additive: true, flow: true},
	MessagesOut:  {name: "messages_out", unit: "messages/s", additive: true, flow: true},
	BytesIn:      {name: "bytes_in", unit: "bytes/s", additive: true, flow: true},
	BytesOut:     {name: "bytes_out", unit: "bytes/s", additive: true, flow: true},
	ErrorRate:    {name: "error_rate", unit: "share", flow: true},
	QueueBytes:   {name: "queue_bytes", unit: "bytes", additive: true, flow: true},
	AcceptRate:   {name: "accept_rate", unit: "connections/s", additive: true, flow: true},
	RefusedRate:  {name: "refused_rate", unit: "connections/s", additive: true, flow: true},
	Reconnects:   {name: "reconnects", unit: "share", flow: true},
	Broker:       {name: "broker", unit: "share"},
	Descriptors:  {name: "descriptors", unit: "share"},
	DeliveryP50:  {name: "delivery_p50", unit: "seconds", flow: true},
	DeliveryP95:  {name: "delivery_p95", unit: "seconds", flow: true},
	DeliveryP99:  {name: "delivery_p99", unit: "seconds", flow: true},
	APIP50:       {name: "api_p50", unit: "seconds", flow: true},
	APIP95:       {name: "api_p95", unit: "seconds", flow: true},
	APIP99:       {name: "api_p99", unit: "seconds", flow: true},
}

// String returns the name that rules, logs and metrics use.
func (s Signal) String() string {
	if s >= SignalCount {
		return fmt.Sprintf("signal(%d)", uint8(s))
	}
	return traits[s].name
}

// Unit returns the unit of the signal's values: share, seconds, bytes, …
func (s Signal) Unit() string {
	if s >= SignalCount {
		return ""
	}
	return traits[s].unit
}

// Additive reports whether the values of nodes sum up to that of the fleet.
func (s Signal) Additive() bool { return s < SignalCount && traits[s].additive }

// Flow reports whether a surge of reconnecting clients raises the signal
// although demand is unchanged.
func (s Signal) Flow() bool { return s < SignalCount && traits[s].flow }

// MarshalText implements encoding.TextMarshaler, so that signals are names in
// JSON, as values and as keys.
func (s Signal) MarshalText() ([]byte, error) {
	if s >= SignalCount {
		return nil, fmt.Errorf("signal %d: unknown", uint8(s))
	}
	return []byte(traits[s].name), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Signal) UnmarshalText(text []byte) error {
	i := slices.IndexFunc(traits[:], func(t trait) bool { return t.name == string(text) })
	if i < 0 {
		return fmt.Errorf("signal %.40q: unknown, want one such as connections, cpu, memory or delivery_p95", text)
	}
	*s = Signal(i)
	return nil
}

// quantile says from which histogram, and where in it, a latency signal comes.
func (s Signal) quantile() (q float64, delivery, ok bool) {
	switch s {
	case DeliveryP50:
		return 0.50, true, true
	case DeliveryP95:
		return 0.95, true, true
	case DeliveryP99:
		return 0.99, true, true
	case APIP50:
		return 0.50, false, true
	case APIP95:
		return 0.95, false, true
	case APIP99:
		return 0.99, false, true
	}
	return 0, false, false
}

// standing reports whether a node uses some of it without any load.
func (s Signal) standing() bool { return s == Memory || s == KernelMemory || s == Descriptors }

// weight names the signal that says how much a node's share counts in the fleet's.
func (s Signal) weight() (Signal, bool) {
	switch s {
	case ErrorRate:
		return MessagesIn, true
	case Reconnects:
		return AcceptRate, true
	}
	return 0, false
}
