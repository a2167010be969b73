// Package auth turns tokens into relay identities. It implements
// relay.Authorizer for two kinds: opaque tokens that this relay made ("agn_…"),
// and JSON Web Tokens of issuers that the operator trusts.
//
// Opaque tokens live in memory, hashed, and follow the database by its change
// numbers, so that nearly every answer comes without waiting and a revoked token
// ends within half a second. JWTs are verified once and remembered by their hash
// until they expire. Keys of an issuer are fetched in the background and are
// never named by the token itself.
//
// The package knows no database and no socket: rows come through Tokens, which
// app connects to the store. Its errors are the bare ones of package relay, and
// its logs name issuers and public ids: neither ever holds a token, a secret or a
// claim. Every map in it is bounded, and a flood of unknown tokens or keys costs
// the database and the issuer a fixed number of questions a minute.
package auth
