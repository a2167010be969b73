// Package account knows the people who operate the relay: their names, passwords,
// second factors, roles and sessions, the one-time links that let the first of
// them in, and the audit log of what they did.
//
// It is not about agents, whose tokens are package auth's, and it knows no HTTP
// and no database: doors hand it what a person typed and it says who that is; rows
// are kept by whoever implements Rows.
//
// It promises that secrets are never stored as they are (passwords as argon2id,
// the rest as SHA-256 of 256 random bits, second factors excepted, which have to be
// readable), that wrong names and wrong passwords look and last the same, that
// guessing is slow while nobody can lock out a person whose browser was in before,
// and that a flood of sign-ins takes neither memory nor more than one processor.
package account
