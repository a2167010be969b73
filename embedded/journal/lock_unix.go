//go:build unix

package journal

import (
	"fmt"
	"os"
	"syscall"
)

// lockFile takes the folder for this process. The lock ends with the process,
// however it ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w (is another node running on this data folder? stop it or give this one its own)", path, err)
	}
	return f, nil
}
