//go:build !linux

package doctor

func kernelClock() (synchronised, known bool) { return false, false }
