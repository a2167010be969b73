package doctor

import "golang.org/x/sys/unix"

// kernelClock asks whether a time service keeps the clock right. It is not known
// where a sandbox forbids the question.
func kernelClock() (synchronised, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, false
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, true
}
