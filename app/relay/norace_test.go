//go:build !race

package relay

// spare is what the allocation tests allow beyond their bounds: nothing.
const spare = 0

// nationRuns is how many seeds the lives of clients on several nodes are run with.
const nationRuns = 6
