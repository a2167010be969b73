package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// selfCPU is the processor time that this process has used, and those of its
// children that have ended.
func selfCPU() time.Duration {
	var own unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &own) != nil {
		return 0
	}
	return time.Duration(own.Utime.Nano() + own.Stime.Nano())
}
