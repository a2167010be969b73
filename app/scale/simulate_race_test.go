//go:build race

package scale

// raceEnabled says that the race detector slows everything down.
const raceEnabled = true
