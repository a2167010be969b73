package doctor

import (
	"io/fs"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A disk is the file system of a folder.
type disk struct {
	kind             string // one that the doctor has an opinion on; "" any other
	size, free       int64  // bytes
	nodes, freeNodes int64  // 0: it does not count them
}

var kinds = map[int64]string{
	unix.NFS_SUPER_MAGIC: "nfs", unix.CIFS_SUPER_MAGIC: "cifs", unix.SMB2_SUPER_MAGIC: "smb2", unix.V9FS_MAGIC: "9p",
	unix.FUSE_SUPER_MAGIC: "fuse", unix.TMPFS_MAGIC: "tmpfs", unix.RAMFS_MAGIC: "ramfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
}

func diskOf(dir string) (disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return disk{}, err
	}
	return disk{kind: kinds[int64(s.Type)], size: int64(s.Blocks) * s.Bsize, free: int64(s.Bavail) * s.Bsize,
		nodes: int64(s.Files), freeNodes: int64(s.Ffree)}, nil
}

func fileOwner(info fs.FileInfo) (uid int, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}

// serverUser is who the server runs as, when it runs.
func (c *Config) serverUser() (uid int, ok bool) {
	if !c.Running {
		return 0, false
	}
	info, err := os.Stat(c.Proc + "/" + strconv.Itoa(c.PID))
	if err != nil {
		return 0, false
	}
	return fileOwner(info)
}
