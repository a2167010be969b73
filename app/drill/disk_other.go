//go:build !linux

package drill

import (
	"context"
	"fmt"
)

// diskFull needs a small disk that only Linux can mount in memory.
func diskFull(context.Context, *stage) error {
	return fmt.Errorf("%w: it needs Linux", ErrNotHere)
}
