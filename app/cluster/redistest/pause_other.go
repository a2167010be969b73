//go:build !unix

package redistest

// Pause fails the test: a process cannot be paused on this system.
func (s *Server) Pause() { s.t.Fatal("redis-server cannot be paused on this system") }

// Resume is never reached.
func (s *Server) Resume() {}
