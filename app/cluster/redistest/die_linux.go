package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent ends the process with the test binary, however that ends. The
// thread that starts it lives as long: Go keeps idle threads.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
