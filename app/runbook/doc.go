// Package runbook holds what people do when something is wrong: the runbooks that
// alerts name, as Markdown inside the program, so that they are at hand when
// nothing else is. It knows neither alerts nor their state. Names are stable; rules
// and notifications refer to them.
package runbook
