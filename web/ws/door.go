package ws

import "runtime"

// doorWidth is how many handshakes are begun between two turns of the loops.
const doorWidth = 16

// A door lets upgrades through a few at a time, each behind all that want to run
// already. In a storm the requests of thousands of connections are ready together,
// and a handshake costs what ten messages do: without it whoever serves established
// connections would stand behind all of them. With nobody else there it costs
// nothing that can be measured.
type door chan struct{}

func newDoor() door { return make(door, doorWidth) }

// pass returns when it is the caller's turn. Whoever is inside only waits for the
// processor, so that nobody can keep the others out.
func (d door) pass() {
	d <- struct{}{}
	runtime.Gosched()
	<-d
}
