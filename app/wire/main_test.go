package wire

import "testing"

// The package promises to start no goroutines and to keep no state; two readers
// at once must therefore not disturb each other.
func TestReadersShareNothing(t *testing.T) {
	for i := range uint64(8) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(50) {
				for _, kind := range ClientKinds() {
					checkCommand(t, newSampler(i<<32+seed<<8+uint64(kind)).command(kind))
				}
			}
		})
	}
}
