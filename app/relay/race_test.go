//go:build race

package relay

// spare allows for the race detector, under which a sync.Pool forgets at random.
const spare = 2

// nationRuns is how many seeds the lives of clients on several nodes are run with.
const nationRuns = 3
