// Package gate stands before every page: it knows who a browser is signed in as,
// which role each route needs, and whether a form was really sent from one of our
// pages. It writes into the audit log what was changed.
//
// A route is added with the role that it needs; there is no way to add one
// without. It promises that a change is only let through with a session, the role,
// an origin of our own and the form's token together, and that all of it works
// without scripts. It draws nothing: package login has the pages.
package gate
