//go:build !linux

package bench

// newWorker says that the generator cannot run here.
func newWorker(*Options, int) (crew, error) { return nil, ErrPlatform }
