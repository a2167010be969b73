//go:build !linux

package scale

import (
	"errors"
	"time"
)

// A Host reads what this process uses of its machine. On this system it reads
// nothing: all signals of the host stay missing, which the policy answers by
// never ending an instance for them.
type Host struct{ processors float64 }

// NewHost returns a Host that reads nothing.
func NewHost(_ string, processors int) *Host { return &Host{processors: float64(max(1, processors))} }

// Read says that there is nothing to read.
func (h *Host) Read(time.Time, *Readings) error {
	return errors.New("read host: only done on Linux")
}

// Processors is the number that NewHost was given.
func (h *Host) Processors() float64 { return h.processors }
