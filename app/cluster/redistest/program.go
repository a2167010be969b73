package redistest

import (
	"os/exec"
	"testing"
)

// A Program is an implementation of Redis. scripts/redises.sh installs what Debian's
// own packages of this release lack.
type Program string

// The programs: what Debian has as redis-server (7), Valkey 8, and the last Redis
// without sharded Pub/Sub.
const (
	Redis  Program = "redis-server"
	Valkey Program = "valkey-server"
	Redis6 Program = "redis6-server"
)

// path fails the test when the program is not installed.
func (p Program) path(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath(string(p))
	switch {
	case err == nil:
		return path
	case p == Redis:
		t.Fatal("redis-server is not installed: apt-get install redis-server")
	default:
		t.Fatalf("%s is not installed: sh scripts/redises.sh", p)
	}
	return ""
}
