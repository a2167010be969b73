package journal

import (
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agentnet/app/relay"
	"agentnet/app/wire"

	_ "github.com/mattn/go-sqlite3"
)

// parker is what both candidates of BenchmarkPark do.
type parker interface {
	Put(p *relay.Parked, done func(error))
	Delete(id string)
	Close() error
}

// BenchmarkPark is the measurement behind DESIGN.md: so many callers park and,
// once acked, delete messages of 300 bytes, in the journal and in SQLite.
//
//	go test -run '^$' -bench Park -benchtime 20000x ./embedded/journal
func BenchmarkPark(b *testing.B) {
	candidates := []struct {
		name string
		open func(b *testing.B) parker
	}{
		{"journal", func(b *testing.B) parker {
			j, err := Open(Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			if err := j.Load(func(*relay.Parked) error { return nil }); err != nil {
				b.Fatal(err)
			}
			return j
		}},
		{"sqlite", openSQLite},
	}
	for _, c := range candidates {
		for _, callers := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("%s/%d", c.name, callers), func(b *testing.B) { benchmarkPark(b, c.open(b), callers) })
		}
	}
}

func benchmarkPark(b *testing.B, s parker, callers int) {
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var wg sync.WaitGroup
	data := make([]byte, 300)
	cpu := cpuTime()
	b.ResetTimer()
	start := time.Now()
	for range callers {
		wg.Go(func() {
			acked := make(chan error, 1)
			for {
				n := next.Add(1) - 1
				if n >= int64(b.N) {
					return
				}
				p := &relay.Parked{MessageID: fmt.Sprintf("01J%023d", n), From: "alice/calendar", To: "bob/assistant",
					TimeMS: n, ExpiresMS: n + 1e6, Class: wire.Normal, Payload: wire.Payload{Data: data}}
				at := time.Now()
				s.Put(p, func(err error) { acked <- err })
				if err := <-acked; err != nil {
					b.Errorf("Put: %v", err)
				}
				took[n] = time.Since(at)
				s.Delete(p.MessageID)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/elapsed.Seconds(), "messages/s")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/message")
	b.ReportMetric(float64(took[len(took)*50/100].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op") // says nothing with many callers
}

// cpuTime is what this process has used, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sqliteParker is the other candidate, as good as we could make it: WAL, one
// connection, synchronous=FULL, prepared statements, one transaction for all that
// waits, the same encoding of a message.
type sqliteParker struct {
	db       *sql.DB
	put, del *sql.Stmt
	wake     chan struct{}
	ended    chan struct{}

	mu      sync.Mutex
	puts    []sqlitePut
	deletes []string
	closed  bool
}

type sqlitePut struct {
	id   string
	data []byte
	done func(error)
}

func openSQLite(b *testing.B) parker {
	db, err := sql.Open("sqlite3", "file:"+b.TempDir()+"/parked.db?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate&_busy_timeout=5000")
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE parked (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, data BLOB NOT NULL)"); err != nil {
		b.Fatal(err)
	}
	s := &sqliteParker{db: db, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if s.put, err = db.Prepare("INSERT INTO parked (id, data) VALUES (?, ?)"); err != nil {
		b.Fatal(err)
	}
	if s.del, err = db.Prepare("DELETE FROM parked WHERE id = ?"); err != nil {
		b.Fatal(err)
	}
	go s.run()
	return s
}

func (s *sqliteParker) Put(p *relay.Parked, done func(error)) {
	data := appendMessage(nil, p)
	s.mu.Lock()
	s.puts = append(s.puts, sqlitePut{p.MessageID, data, done})
	s.mu.Unlock()
	s.signal()
}

// Delete waits for the next Put's transaction: without one it would cost an fsync
// that the journal's Delete does not have.
func (s *sqliteParker) Delete(id string) {
	s.mu.Lock()
	s.deletes = append(s.deletes, id)
	s.mu.Unlock()
}

func (s *sqliteParker) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sqliteParker) run() {
	defer close(s.ended)
	for range s.wake {
		s.mu.Lock()
		puts, deletes, closed := s.puts, s.deletes, s.closed
		s.puts, s.deletes = nil, nil
		s.mu.Unlock()
		err := s.commit(puts, deletes)
		for _, p := range puts {
			p.done(err)
		}
		if closed {
			return
		}
	}
}

func (s *sqliteParker) commit(puts []sqlitePut, deletes []string) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	put, del := tx.Stmt(s.put), tx.Stmt(s.del)
	for _, p := range puts {
		if _, err := put.Exec(p.id, p.data); err != nil {
			return err
		}
	}
	for _, id := range deletes {
		if _, err := del.Exec(id); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s *sqliteParker) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	<-s.ended
	return s.db.Close()
}
