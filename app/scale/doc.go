// Package scale watches a fleet of relay nodes and says how many there should be.
//
// Each second an Engine takes the Fleet, the merged samples of all nodes, runs the
// alert rules, walks the decision framework for every alert that fires, asks the
// Policy for a count, and hands out entries for the scaling log. A decision
// carries everything that it was made from, so that Replay gives the same again.
//
// The package starts no goroutines, reads no clock and opens no socket: the time
// comes with each call, and the same code runs on live samples, on stored ones
// (Backtest) and on invented ones (the simulator). It does not carry decisions
// out (scale/actuate does), does not store (store does) and sends no
// notifications (notify does). Only the Host reads the machine: files below a
// root that tests choose.
//
// It promises that the count stays within the bounds of the policy, that missing
// data never takes an instance away, and that equal inputs give equal entries.
package scale
