package redistest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The user that the manual makes, and its password there.
const (
	user         = "agentnet"
	userPassword = "agents-secret"
)

// User makes the user that the manual makes for nodes, by the very line of the
// manual, with what stands in more added, and returns the URL of the server for it.
func (s *Server) User(more ...string) (url string) {
	s.t.Helper()
	words := slices.DeleteFunc(manualWords(s.t), func(w string) bool { return s.program == Redis6 && w[0] == '&' })
	s.Must(append(append([]string{"ACL", "SETUSER", user}, words...), more...)...)
	return s.URLAs(user, userPassword)
}

// manualWords are those of the manual's ACL SETUSER, behind the name.
func manualWords(t testing.TB) []string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "packaging", "MANUAL.md"))
		if err == nil {
			_, rest, found := strings.Cut(string(text), "ACL SETUSER "+user+" ")
			line, _, _ := strings.Cut(rest, "\n")
			if !found || !strings.Contains(line, userPassword) {
				t.Fatalf("packaging/MANUAL.md makes no user %s with the password %s", user, userPassword)
			}
			return strings.Fields(strings.ReplaceAll(line, "'", ""))
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("there is no packaging/MANUAL.md above the test")
		}
		dir = filepath.Dir(dir)
	}
}

// Refused is what the server has refused to users, from ACL LOG.
func (s *Server) Refused() (lines []string) {
	s.t.Helper()
	text := s.Must("ACL", "LOG")
	fields := strings.Split(text, "\n")
	for i := 0; i+1 < len(fields); i++ {
		if fields[i] == "object" {
			lines = append(lines, fields[i+1])
		}
	}
	return lines
}
