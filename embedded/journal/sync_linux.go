package journal

import (
	"errors"
	"os"
	"syscall"
)

// datasync makes the content of f durable, and of its metadata what is needed to
// read it: fdatasync saves the write of the inode's times.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
