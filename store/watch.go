package store

import (
	"context"
	"fmt"
	"time"
)

// WatchEvery is how often Watch looks.
const WatchEvery = 250 * time.Millisecond

// Watch calls changed once at its start and then within about WatchEvery of each
// commit to the database, by this process or another; several commits may share
// a call. It says that something was written, not what, and returns when ctx
// ends. changed runs on the caller's goroutine and should be quick.
//
// A look reads one number from shared memory (PRAGMA data_version), which costs
// some microseconds. A look that fails counts as a change, because a watcher that
// sees nothing must not be taken for a database in which nothing happens.
func (s *Store) Watch(ctx context.Context, changed func()) error {
	conn, err := s.watcher.Conn(ctx) // data_version is a property of one connection
	if ctx.Err() != nil {
		if err == nil {
			_ = conn.Close()
		}
		return nil // the node stops as soon as it has begun
	}
	if err != nil {
		return fmt.Errorf("watch store: %w", s.explain(err))
	}
	defer conn.Close()
	tick := time.NewTicker(WatchEvery)
	defer tick.Stop()
	const never, failed = -1, -2
	var last int64 = never
	for {
		var version int64
		look, cancel := bounded(ctx)
		err := conn.QueryRowContext(look, `PRAGMA data_version`).Scan(&version)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			version = failed
			if last != failed { // once, not four times a second
				s.log.Warn("the database cannot be watched for changes", "path", s.path, "error", s.explain(err))
			}
		}
		if version != last || version == failed {
			changed()
		}
		last = version
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
