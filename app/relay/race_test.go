//go:build race

package relay

// spare allows for the race detector, under which a sync.Pool forgets at random.
const spare = 2
