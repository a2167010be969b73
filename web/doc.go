// Package web is the relay's HTTP server: routes, bounds on every request,
// security headers, client addresses behind proxies, and errors as problem
// documents.
//
// It joins the doors that the packages below it open (the API, the first page,
// static files and the WebSocket handler that its owner hands in) under one base
// path. It decides nothing about messages. Without configuration it logs no
// request, and with it never a query or a header.
package web
