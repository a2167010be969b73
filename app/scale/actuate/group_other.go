//go:build !unix

package actuate

import "os/exec"

// ownGroup does nothing here: only the program itself is ended.
func ownGroup(*exec.Cmd) {}
