// Package embedded is the Redis inside a node that has none outside: miniredis,
// made fit to run for months.
//
// What it adds: keys expire, memory is bounded, content is saved each minute and
// at a stop and read at a start, malformed requests cannot end the process, and no
// client that does not read can stop the others. It opens no port unless asked,
// and then wants a password. It speaks the commands listed in commands.go and no
// others; database 0 only. What it is not: durable. A crash loses up to a minute
// (parked messages are kept by package journal), and its run id, told by INFO as a
// real Redis does, changes whenever something may have been lost.
package embedded

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Config says how a Server runs. A number of 0 or less means the default.
type Config struct {
	// Dir holds the snapshot; made with mode 0700 when it does not exist. Empty:
	// nothing is kept over a stop.
	Dir string
	// Listen is a TCP address such as "127.0.0.1:6380" for other nodes. Empty: no
	// socket at all.
	Listen string
	// Password must be given with Listen. Clients of Dial need it then as well.
	Password string
	Logger   *slog.Logger

	SnapshotEvery time.Duration // default 1 minute
	MaxBytes      int64         // estimated memory of keys and values, default 256 MiB
	MaxKeys       int           // default 100,000
	MaxClients    int           // TCP connections at once, default 128

	// Hold is asked before a snapshot on the timer, and returns when it may be taken or
	// ctx ends. Nil: at once. The one at a stop never waits.
	Hold func(ctx context.Context)

	// Now is the wall clock, for tests. Default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SnapshotEvery <= 0 {
		c.SnapshotEvery = time.Minute
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 256 << 20
	}
	if c.MaxKeys <= 0 {
		c.MaxKeys = 100_000
	}
	if c.MaxClients <= 0 {
		c.MaxClients = 128
	}
	return c
}

// A Server is one embedded Redis.
type Server struct {
	cfg   Config
	redis *miniredis.Miniredis
	front *server.Server // what clients are connected to
	files *snapshotFiles // nil without Config.Dir
	runID string
	clean bool // the content is all that the last run had

	listener net.Listener // nil without Config.Listen
	clients  atomic.Int64 // TCP connections

	// gate is held by each command, and while one key is copied: miniredis hands
	// out slices that commands change in place. It costs nothing, since miniredis
	// runs one command at a time anyway. Lock order: gate, then miniredis' own.
	gate  sync.Mutex
	clock clock
	meter meter

	saving sync.Mutex // one snapshot at a time
	saved  atomic.Pointer[Saved]
	failed atomic.Uint64 // snapshots that could not be written

	stop    chan struct{}
	running sync.WaitGroup
	closing sync.Once
	closed  error
}

// Saved is one snapshot that was written.
type Saved struct {
	At    time.Time
	Took  time.Duration
	Bytes int64
	Keys  int
}

// Stats is one reading of a Server.
type Stats struct {
	Keys      int   // at the last count
	Bytes     int64 // estimate
	MaxBytes  int64
	Clients   int    // TCP connections
	Commands  uint64 // that came
	Refused   uint64 // by a limit, or not known here
	Snapshots *Saved // the last one, nil when there was none
	Failed    uint64 // snapshots that could not be written
	Sweep     time.Duration
	RunID     string
	WasClean  bool   // the last run was stopped in order and all of it was read
	Panics    uint64 // commands that failed inside miniredis
}

// Start reads the snapshot, if there is one, and serves. A snapshot that cannot be
// used is put aside and logged; it is not an error. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if cfg.Listen != "" && cfg.Password == "" {
		return nil, errors.New("start embedded redis: it may listen with a password only; set one, or do not listen")
	}
	s := &Server{cfg: cfg, redis: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	s.meter.maxBytes, s.meter.maxKeys, s.meter.wanted = cfg.MaxBytes, int64(cfg.MaxKeys), make(chan struct{}, 1)
	s.clock.start(cfg.Now)
	if cfg.Now != nil {
		s.redis.SetTime(cfg.Now())
	}
	s.redis.RequireAuth(cfg.Password)
	if err := s.restore(); err != nil {
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	first, err := s.redis.Dial() // makes its table of commands, without a listener
	if err == nil {
		first.Close()
		s.front, err = s.newFront()
	}
	if err == nil && cfg.Listen != "" {
		s.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	}
	if err != nil {
		s.redis.Close()
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	s.count()
	s.running.Go(s.tick)
	s.running.Go(s.keepCounting)
	if s.files != nil {
		s.running.Go(s.keepSaving)
	}
	if s.listener != nil {
		s.running.Go(s.accept)
	}
	return s, nil
}

// restore fills the store and decides on the run id.
func (s *Server) restore() error {
	s.runID = newRunID()
	if s.cfg.Dir == "" {
		return nil
	}
	var err error
	if s.files, err = openSnapshotFiles(s.cfg.Dir, s.cfg.Logger); err != nil {
		return err
	}
	snap, err := s.files.load(2*s.cfg.MaxBytes + 1<<20)
	if err != nil {
		return err
	}
	if snap != nil && s.fill(snap) {
		s.clean, s.runID = true, snap.runID
	}
	return s.files.markRunning()
}

// fill puts a snapshot's content into the store. It reports whether that is all
// that the last run had.
func (s *Server) fill(snap *snapshot) (whole bool) {
	now := s.now()
	for _, it := range snap.items {
		if err := it.put(s.redis.DB(0), now); err != nil {
			s.cfg.Logger.Error("embedded redis: the snapshot holds something impossible; starting empty", "error", err)
			s.redis.FlushAll()
			return false
		}
	}
	whole = snap.clean && !s.files.crashed
	s.cfg.Logger.Info("embedded redis: snapshot read", "keys", len(snap.items), "saved", snap.saved, "clean_stop", whole)
	return whole
}

// newRunID returns 40 hex digits, like a real Redis.
func newRunID() string {
	var b [20]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (s *Server) now() time.Time {
	if s.cfg.Now != nil {
		return s.cfg.Now()
	}
	return time.Now()
}

// Dial returns an in-process connection. It fits rueidis' DialCtxFn.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-s.stop:
		return nil, fmt.Errorf("dial embedded redis: %w", net.ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("dial embedded redis: %w", ctx.Err())
	default:
	}
	client, server := newPipeConns()
	s.front.ServeConn(server)
	return client, nil
}

// Addr is the TCP address, nil when it does not listen.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// accept serves TCP clients until the listener is closed.
func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.stop:
				return
			case <-time.After(100 * time.Millisecond): // out of descriptors, mostly: wait and try again
				s.cfg.Logger.Warn("embedded redis: accept", "error", err)
				continue
			}
		}
		if n := s.clients.Add(1); n > int64(s.cfg.MaxClients) {
			s.clients.Add(-1)
			s.cfg.Logger.Warn("embedded redis: too many clients, one was turned away", "max_clients", s.cfg.MaxClients)
			c.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(c, "-ERR max number of clients reached\r\n")
			c.Close()
			continue
		}
		g := newGuardedConn(c, s.cfg.Password, func() { s.clients.Add(-1) })
		s.front.ServeConn(g)
	}
}

// Stats returns a reading of counters and sizes.
func (s *Server) Stats() Stats {
	st := Stats{
		Clients: int(s.clients.Load()), MaxBytes: s.cfg.MaxBytes,
		Keys: int(s.meter.keys.Load()), Bytes: s.meter.bytes.Load(),
		Commands: s.meter.commands.Load(), Refused: s.meter.refused.Load(),
		Snapshots: s.saved.Load(), Failed: s.failed.Load(),
		Sweep: time.Duration(s.clock.sweep.Load()), RunID: s.runID, WasClean: s.clean,
		Panics: s.meter.panics.Load(),
	}
	return st
}

// Close ends all connections, writes the last snapshot and lets the folder go. ctx
// bounds the wait; after it the snapshot of the last minute stands. Close the
// clients first.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { s.closed = s.shutDown(ctx) })
	return s.closed
}

func (s *Server) shutDown(ctx context.Context) error {
	close(s.stop)
	if s.listener != nil {
		s.listener.Close()
	}
	ended := make(chan error, 1)
	go func() {
		s.running.Wait()
		s.front.Close() // ends all connections and waits for them
		s.redis.Close()
		ended <- s.lastSnapshot()
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop embedded redis: %w", ctx.Err())
	}
}

// lastSnapshot saves what is there and says that it is all.
func (s *Server) lastSnapshot() error {
	if s.files == nil {
		return nil
	}
	if err := s.save(true); err != nil {
		return err
	}
	return s.files.markStopped()
}
