package ws

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never wait, because the descriptors do not block. Therefore they
// do without telling the scheduler, which would otherwise take the processor away
// from a loop in the middle of its turn.

// readNow is read(2). p must not be empty.
func readNow(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// writeNow is write(2). p must not be empty.
func writeNow(fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
