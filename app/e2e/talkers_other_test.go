//go:build !linux

package e2e

const asTalkers = "AGENTNET_E2E_AS_TALKERS"

// runTalkers is needed by the scenarios, which run on Linux only.
func runTalkers() int { return 1 }
