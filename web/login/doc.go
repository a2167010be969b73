// Package login draws the pages by which people come in and look after their own
// account: the one-time link, sign-in with its second step, password, second factor
// and sessions.
//
// It decides nothing about who is who (package account does) and who may see what
// (package gate does). All pages work without scripts.
package login
