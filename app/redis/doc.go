// Package redis says how a Redis (or Valkey) is reached: its address, its
// certificates, what a user of it must be allowed, and what its refusals mean to the
// person who has to mend them.
//
// It is no client: it makes a connection only to find out why a client's failed
// (Diagnose), and knows nothing of what is kept there.
// It promises that no error holds an address, a password or a user's name that was
// not asked for.
package redis
