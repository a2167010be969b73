package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// diskSize is the size of the small disk: a new node needs a few megabytes.
const diskSize = "48m"

// smallDisk mounts a small disk in memory until the drill ends.
func (s *stage) smallDisk() (dir string, err error) {
	dir = filepath.Join(s.Scratch, "disk")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a mount point: %w", err)
	}
	if err := syscall.Mount("agentnet-drill", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size="+diskSize+",mode=0700"); err != nil {
		return "", fmt.Errorf("%w: a small disk cannot be mounted (%w): run it as root", ErrNotHere, err)
	}
	s.onEnd(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, nil
}

// diskFull fills the disk of a node's data directory, a small one in memory.
func diskFull(ctx context.Context, s *stage) error {
	dir, err := s.smallDisk()
	if err != nil {
		return err
	}
	n, err := s.node(ctx, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	got, parked := newTally(), newTally()
	if _, err := s.dial(ctx, n, n.URL(), "b", func(c *client.Config) { c.OnMessage = got.take }); err != nil {
		return err
	}
	a, err := s.dial(ctx, n, n.URL(), "a", nil)
	if err != nil {
		return err
	}
	next := uint64(0)
	park := func() error {
		next++
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return parked.try(next, func() error {
			_, err := a.Send(one, "drill/away", wire.Payload{Data: padded(next, 8<<10)}, client.TTL(10*time.Minute))
			return err
		})
	}
	for range 20 {
		if err := park(); err != nil {
			return fmt.Errorf("park before the fault: %w", err)
		}
	}
	ballast := filepath.Join(dir, "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	s.Say("the disk is full")
	refused, why := 0, error(nil)
	for end := time.Now().Add(s.Span); time.Now().Before(end) && ctx.Err() == nil; {
		if err := park(); err != nil {
			refused++
			why = err
		}
		_ = got.try(next, func() error {
			_, err := a.Send(ctx, "drill/b", wire.Payload{Data: number(next)})
			return err
		})
		if refused == 0 {
			_ = fill(ballast) // the node may have made room by itself
		}
		_ = rest(ctx, 20*time.Millisecond)
	}
	e, isRefusal := errors.AsType[*wire.Error](why)
	s.check("parking while the disk is full", "is refused with unavailable, never silently", refused > 0 && isRefusal && e.Code == wire.Unavailable, "%d refused: %v", refused, why)
	promised, missing, twice := got.count()
	s.check("messages between connected agents", "all arrive, each once", promised > 0 && missing == 0 && twice == 0 && got.refused == 0, "%d sent, %s, %d missing, %d twice", promised, refusals(got.refusals()), missing, twice)
	status, err := ask(ctx, n, "/readyz", nil)
	s.check("readiness", "says that the node is not well", err == nil && status == 503, "%d", status)
	if err := os.Remove(ballast); err != nil {
		return fmt.Errorf("make room again: %w", err)
	}
	s.Say("there is room again")
	took, ok := until(ctx, 60*time.Second, func() bool { return park() == nil })
	s.check("parking afterwards", "works again by itself within 60 s", ok, "after %v", took.Round(time.Millisecond))
	if _, err := s.dial(ctx, n, n.URL(), "away", func(c *client.Config) { c.OnMessage = parked.take }); err != nil {
		return err
	}
	until(ctx, 30*time.Second, func() bool { _, missing, _ := parked.count(); return missing == 0 })
	promised, missing, _ = parked.count()
	s.check("parked messages that were acknowledged", "all arrive", promised > 0 && missing == 0, "%d acknowledged, %d missing", promised, missing)
	return nil
}

// fill writes until there is no room.
func fill(name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		block := make([]byte, size)
		for {
			_, err := f.Write(block)
			if errors.Is(err, syscall.ENOSPC) {
				break
			}
			if err != nil {
				return fmt.Errorf("fill the disk: %w", err)
			}
		}
	}
	return nil
}
