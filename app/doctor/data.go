package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// errMissing says that there is no data directory yet.
func (c *Config) noData() (outcome, bool) {
	if c.Data == "" {
		return skip("the data directory is on another machine"), true
	}
	if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) {
		return skip("%s does not exist yet; serve makes it", c.Data), true
	}
	return outcome{}, false
}

// dataModes finds files that others can read or that the server cannot write.
func dataModes(_ context.Context, c *Config) outcome {
	if o, none := c.noData(); none {
		return o
	}
	const most = 10_000
	wide, foreign, seen := []string{}, []string{}, 0
	owner, ownerKnown := c.serverUser()
	err := filepath.WalkDir(c.Data, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if seen++; seen > most {
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return nil
		}
		// A closed directory keeps others from everything in it.
		if info.Mode().Perm()&0o077 != 0 && p == c.Data {
			wide = append(wide, fmt.Sprintf("%s has mode %04o", p, info.Mode().Perm()))
		} else if info.Mode().Perm()&0o007 != 0 && len(wide) > 0 {
			wide = append(wide, fmt.Sprintf("%s has mode %04o", p, info.Mode().Perm()))
		}
		if uid, ok := fileOwner(info); ok && ownerKnown && uid != owner && owner != 0 {
			foreign = append(foreign, fmt.Sprintf("%s belongs to user %d", p, uid))
		}
		return nil
	})
	switch {
	case err != nil:
		return fail(fmt.Sprintf("the data directory cannot be read: %v", err), fmt.Sprintf("run as the user of the server, or: chown -R USER: %s", quoted(c.Data)))
	case len(foreign) > 0:
		return fail(firstOf(foreign)+fmt.Sprintf("; the server runs as user %d", owner), fmt.Sprintf("chown -R %d: %s", owner, quoted(c.Data)))
	case len(wide) > 1:
		return fail(firstOf(wide)+"; other users of this machine can read it", fmt.Sprintf("chmod -R go= %s", quoted(c.Data)))
	case len(wide) == 1:
		return warn(wide[0]+"; other users of this machine can list it", fmt.Sprintf("chmod 700 %s", quoted(c.Data)))
	}
	return good("%s is closed to other users", c.Data)
}

func firstOf(list []string) string {
	if len(list) > 1 {
		return fmt.Sprintf("%s, and %d more", list[0], len(list)-1)
	}
	return list[0]
}

// quoted makes a path one word of a shell.
func quoted(path string) string {
	if path != "" && strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:=@,+") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// existing is the data directory, or the nearest folder above it that exists.
func (c *Config) existing() string {
	dir, err := filepath.Abs(c.Data)
	if err != nil {
		return c.Data
	}
	for !exists(dir) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
	}
	return dir
}

func fileSystem(_ context.Context, c *Config) outcome {
	if c.Data == "" {
		return skip("the data directory is on another machine")
	}
	d, err := diskOf(c.existing())
	if err != nil {
		return skip("the file system cannot be asked: %v", err)
	}
	switch d.kind {
	case "":
		return good("a local file system")
	case "tmpfs", "ramfs":
		return warn(fmt.Sprintf("%s is in memory (%s): tokens, parked messages and the log are lost at a restart", c.Data, d.kind), "put it on a disk: --data, or a volume of the container")
	case "overlay":
		return warn(fmt.Sprintf("%s is in the writable layer of a container: it is lost with the container", c.Data), "mount a named volume there: -v agentnet-data:/data")
	case "nfs", "cifs", "smb2", "9p", "fuse":
		return fail(fmt.Sprintf("%s is on %s, whose locks and shared memory SQLite cannot rely on: the database may be damaged", c.Data, d.kind), "use a local disk, and back up to the network with \"agentnet backup\"")
	}
	return good("%s", d.kind)
}

func diskSpace(_ context.Context, c *Config) outcome {
	if c.Data == "" {
		return skip("the data directory is on another machine")
	}
	dir := c.existing()
	d, err := diskOf(dir)
	if err != nil {
		return skip("the disk cannot be asked: %v", err)
	}
	share := 100 * float64(d.free) / float64(max(d.size, 1))
	evidence := fmt.Sprintf("%s of %s are free (%.0f %%) at %s", bytes(d.free), bytes(d.size), share, dir)
	fix := "free some space or move the data directory (stop, agentnet backup, agentnet restore --data on the other disk); a backup needs as much again"
	switch {
	case d.free < 256<<20:
		return fail(evidence+"; writes are about to fail", fix)
	case d.nodes > 0 && d.freeNodes*100 < d.nodes:
		return fail(fmt.Sprintf("%s; only %d of %d inodes are free", evidence, d.freeNodes, d.nodes), "remove small files from that disk")
	case share < 10 && d.free < 5<<30 || d.free < 1<<30:
		return warn(evidence, fix)
	}
	return good("%s", evidence)
}

// diskSpeed measures what a parked message and each change to the database wait
// for: that a small write is on the disk.
func diskSpeed(ctx context.Context, c *Config) outcome {
	if o, none := c.noData(); none {
		return o
	}
	f, err := os.CreateTemp(c.Data, ".agentnet-doctor-*.tmp")
	if err != nil {
		return fail(fmt.Sprintf("no file can be written to %s: %v", c.Data, err), "run as the user of the server; check owner, mode and mount of the data directory")
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const rounds = 20
	block := make([]byte, 4096)
	var took []time.Duration
	for range rounds {
		if ctx.Err() != nil {
			break
		}
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return fail(fmt.Sprintf("a write to %s failed: %v", c.Data, err), "check the disk")
		}
		if err := f.Sync(); err != nil {
			return fail(fmt.Sprintf("a write to %s could not be made durable: %v", c.Data, err), "check the disk")
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	evidence := fmt.Sprintf("4 KiB are durable after %s (median of %d), %s at worst", short(median), len(took), short(worst))
	fix := "use a local solid-state disk; on a network disk, one with more operations a second. Messages that wait for absent agents are told of only when they are durable."
	switch {
	case median > 200*time.Millisecond:
		return fail(evidence, fix)
	case median > 20*time.Millisecond:
		return warn(evidence, fix)
	}
	return good("%s", evidence)
}

func database(ctx context.Context, c *Config) outcome {
	if c.Database == nil {
		return skip("the database is on another machine")
	}
	d, err := c.Database(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return skip("there is no database yet; serve makes it")
	}
	if err != nil {
		if ctx.Err() != nil {
			return skip("it is too large to be verified in %s: %s", checkTime, bytes(d.Bytes))
		}
		return fail(err.Error(), "restore the newest backup: agentnet restore FILE --data DIR")
	}
	evidence := fmt.Sprintf("whole; schema %d, %s, of which %s are free inside, write-ahead log %s", d.Schema, bytes(d.Bytes), bytes(d.Free), bytes(d.WAL))
	switch {
	case d.Schema < d.Knows:
		return warn(fmt.Sprintf("%s; this program has schema %d", evidence, d.Knows), "the next start upgrades it, after a backup into backups/")
	case d.Max > 0 && d.Bytes-d.Free > d.Max*9/10:
		return warn(fmt.Sprintf("%s; %s is the most it may have (database.max_bytes)", evidence, bytes(d.Max)), "raise database.max_bytes, or keep less")
	case d.WAL > 256<<20:
		return warn(evidence+"; the log should be some MiB", "something reads the database for very long: look for other programs that have it open, such as a backup tool")
	}
	return good("%s", evidence)
}

func journal(ctx context.Context, c *Config) outcome {
	if c.Journal == nil {
		return skip("the journal is on another machine")
	}
	j, err := c.Journal(ctx)
	if err != nil {
		return fail(err.Error(), "check owner, mode and disk of the folder journal in the data directory")
	}
	evidence := fmt.Sprintf("%d parked messages in %d files with %s", j.Messages, j.Segments, bytes(j.Bytes))
	switch {
	case len(j.Damaged) > 0:
		return fail(fmt.Sprintf("%s; damaged: %s", evidence, firstOf(j.Damaged)), "check the disk; messages at these places are lost, the others are not")
	case j.SetAside > 0:
		return warn(fmt.Sprintf("%s; %d files could not be read at an earlier start and were kept as *.damaged", evidence, j.SetAside), "check the disk, then remove them")
	}
	return good("%s", evidence)
}
