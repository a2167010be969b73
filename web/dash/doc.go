// Package dash makes the pages that people look at. So far this is the first
// page: that the relay runs, how busy it is, and how to connect an agent.
//
// It shows numbers, never names of agents and never what they say to each other.
// Numbers are for this machine, unless the page was configured to be public; a
// stranger sees only that a relay runs and where agents connect. The relay is read
// once a second, however many look.
package dash
