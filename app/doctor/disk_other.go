//go:build !linux

package doctor

import (
	"errors"
	"io/fs"
)

// A disk is the file system of a folder.
type disk struct {
	kind             string
	size, free       int64
	nodes, freeNodes int64
}

func diskOf(string) (disk, error) { return disk{}, errors.New("not on this system") }

func fileOwner(fs.FileInfo) (uid int, ok bool) { return 0, false }

func (c *Config) serverUser() (uid int, ok bool) { return 0, false }
