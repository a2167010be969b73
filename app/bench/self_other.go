//go:build !linux

package bench

import "time"

// selfCPU is not known here; the generator does not run on this system.
func selfCPU() time.Duration { return 0 }
