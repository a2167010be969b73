package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
)

const (
	// walLimit is what the write-ahead log is cut to when it starts anew.
	walLimit = 16 << 20
	// applicationID marks the file as ours ("AGNT") in the database header.
	applicationID = 0x41474E54
)

type access int

const (
	reading access = iota
	writing
	copying // reads only, but VACUUM INTO is refused to a query_only connection
	looking // cannot change the file
	frozen  // the same, and nobody else has it open
)

// connector opens connections of one pool. It stands in for a driver registered
// under a name, which would be state of the whole process.
type connector struct {
	dsn string
	drv *sqlite3.SQLiteDriver
}

func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.drv.Open(c.dsn) }
func (c *connector) Driver() driver.Driver                        { return c.drv }

// pool returns a pool of at most conns connections to the file at path. The
// driver sets busy_timeout before any other pragma, so that none of them fails
// while another process holds a lock. journal_mode is not set here: it is stored
// in the file, and nothing is changed in a file that was not looked at yet.
func pool(path string, a access, busyWait time.Duration, conns int) *sql.DB {
	q := url.Values{}
	q.Set("mode", "rw") // the file exists: prepareFiles made it with the right mode
	q.Set("_busy_timeout", fmt.Sprint(busyWait.Milliseconds()))
	q.Set("_foreign_keys", "on")
	q.Set("_cache_size", "-2000") // KiB
	switch a {
	case writing:
		q.Set("_txlock", "immediate")
		q.Set("_synchronous", "FULL")
		q.Set("_secure_delete", "FAST")
	case reading:
		q.Set("_query_only", "on")
	case looking, frozen:
		viewing(q, a)
	}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	db := sql.OpenDB(&connector{dsn: u.String(), drv: &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		// trusted_schema=off: what a damaged or planted schema names is not run.
		_, err := c.Exec(fmt.Sprintf(`PRAGMA journal_size_limit = %d; PRAGMA trusted_schema = OFF`, walLimit), nil)
		return err
	}}})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// SQLiteVersion returns the version of the SQLite that is linked in.
func SQLiteVersion() string {
	v, _, _ := sqlite3.Version()
	return v
}
