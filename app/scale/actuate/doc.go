// Package actuate carries scaling decisions out, one way a file: advice for a
// person, a webhook, a command, Kubernetes, Docker Swarm, Compose, Nomad, Cloud Run.
//
// It decides nothing and writes no log: it takes a scale.Order and answers with a
// scale.Action that tells everything that was asked and answered, without secrets.
//
// Every way runs behind the same Keeper, which promises: one Order at a time; an
// Order that was carried out is not carried out again; an Order of an older leader
// than one seen before is refused; no change sooner after another than Pause; no
// call to a control plane that keeps failing; an end within Timeout. Where the
// control plane can hold the leader's number (Kubernetes, Swarm, Nomad, Cloud Run)
// it is kept there too, under the control plane's own check against concurrent
// writers, so that a deposed leader on another machine is refused as well.
package actuate
