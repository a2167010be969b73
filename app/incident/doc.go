// Package incident draws the report of an incident from the scaling log: which
// alerts fired for how long, what was decided and done about it, what came of it,
// and what people noted.
//
// It reads entries and computes; it opens nothing, and judges nobody. Everything in
// a report is in the log, and names the entry that it is from.
package incident
