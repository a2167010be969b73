//go:build !unix

package journal

import "os"

// lockFile opens the lock file; this system has no flock, so that two processes
// on one folder are not kept apart here.
func lockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
