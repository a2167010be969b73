// Package dash makes the pages that people look at: the console for those who are
// signed in, and the first page for strangers, who see that a relay runs and where
// agents connect.
//
// A page is a view model, made of values that are ready to be shown, and a template
// of web/ui's parts. Its live parts are rendered once a second for all who look at
// the same, by one goroutine, and handed out as bytes; the relay and the engine are
// asked once, however many look. Every list is also CSV and JSON at the page's own
// address with .csv or .json.
//
// Pages show numbers and names, never what agents say to each other: the relay does
// not know it. All of them work without scripts. The package knows no sessions: who
// looks, and whether a change was sent from one of our pages, is the gate's to say.
package dash
