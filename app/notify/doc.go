// Package notify tells people: by webhook, ntfy, Gotify, mail and Alertmanager,
// and by a heartbeat that stops when the node is not well.
//
// It knows alerts only as Messages: it does not decide what is amiss, who is on
// duty, or what is silenced. Each channel has a bounded queue, a worker, a breaker
// and a rate; what waits together is told together. A Message that Send took is
// delivered, or its Delivery says why not: nothing is lost silently. Secrets and
// the paths of addresses never appear in errors, deliveries or logs.
//
// # The webhook
//
// A webhook gets POST with a JSON body (type Payload) and, where a secret is
// configured, the header
//
//	X-Agentnet-Signature: t=1767225600,v1=5257a869e7…
//
// t is the time of sending in Unix seconds; v1 is the HMAC-SHA256, in lower-case
// hexadecimal, of the bytes "<t>.<body>" under the secret. Receivers compute it
// over the body as received, compare in constant time, and refuse a t that is
// more than five minutes off; egress.Verify does so. X-Agentnet-Delivery repeats with
// each try of the same message, so that a receiver can tell repetitions.
package notify
