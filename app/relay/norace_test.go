//go:build !race

package relay

// spare is what the allocation tests allow beyond their bounds: nothing.
const spare = 0
