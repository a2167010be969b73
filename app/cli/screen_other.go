//go:build !linux

package cli

import (
	"errors"
	"io"
	"os"
)

// A screen is a terminal that shows whole pages; it exists on Linux. Elsewhere lines
// are printed.
type screen struct{ keys <-chan byte }

func openScreen(*os.File, io.Writer) (*screen, error) {
	return nil, errors.New("pages can be shown on Linux only")
}

func (s *screen) size() (width, height int) { return 80, 24 }
func (s *screen) draw([]string) error       { return nil }
func (s *screen) close()                    {}
