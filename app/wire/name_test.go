package wire

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	agentRule   = regexp.MustCompile(`^[A-Za-z0-9._:@-]+(/[A-Za-z0-9._:@-]+)?$`)
	channelRule = regexp.MustCompile(`^[A-Za-z0-9._:@-]+(/[A-Za-z0-9._:@-]+)*$`)
)

func checkNameRules(t *testing.T, name string) {
	t.Helper()
	short := len(name) <= 128 && !strings.HasSuffix(name, "\n")
	if got, want := ValidAgent(name), short && agentRule.MatchString(name); got != want || ValidAgent([]byte(name)) != want {
		t.Errorf("ValidAgent(%q): got %v, want %v", name, got, want)
	}
	if got, want := ValidChannel(name), short && channelRule.MatchString(name); got != want || ValidChannel([]byte(name)) != want {
		t.Errorf("ValidChannel(%q): got %v, want %v", name, got, want)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"", "a", "/", "a/", "/a", "a//b", "a/b", "a/b/c", "a b", "é", "a\n", "a\x00", "a*", "A.b_c-d:e@f/0",
		strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat("a/", 63) + "bb", "..", "./."} {
		checkNameRules(t, name)
	}
	for c := range 256 {
		checkNameRules(t, string([]byte{'a', byte(c)}))
		checkNameRules(t, string([]byte{byte(c)}))
		checkNameRules(t, string([]byte{'a', byte(c), 'b'}))
	}
}

// globRule is what a glob means, as a regular expression.
func globRule(glob string) *regexp.Regexp {
	rule := regexp.QuoteMeta(glob)
	rule = regexp.MustCompile(`(\\\*){2,}`).ReplaceAllLiteralString(rule, "(?s:.*)")
	rule = strings.ReplaceAll(rule, `\*`, "[^/]*")
	return regexp.MustCompile("^" + rule + "$")
}

func checkGlob(t *testing.T, glob, name string) {
	t.Helper()
	g, err := ParseGlob(glob)
	if valid := channelRule.MatchString(strings.ReplaceAll(glob, "*", "a")) && len(glob) <= 128 && !strings.HasSuffix(glob, "\n"); (err == nil) != valid {
		t.Fatalf("ParseGlob(%q): got %v, want valid %v", glob, err, valid)
	}
	if err != nil {
		return
	}
	if !channelRule.MatchString(name) || strings.HasSuffix(name, "\n") {
		g.Match(name) // anything but a panic
		return
	}
	want := globRule(glob).MatchString(name)
	if got := g.Match(name); got != want || g.MatchBytes([]byte(name)) != want {
		t.Errorf("glob %q on %q: got %v, want %v", glob, name, got, want)
	}
}

func TestGlobs(t *testing.T) {
	globs := []string{"", "a", "a/b", "*", "**", "***", "a/*", "a/**", "*/b", "**/b", "a*", "a*b", "a**b", "*a*", "**a**", "a/*/c", "a/**/c", "*/*", "**/*",
		"*a*/*b*", "**a*b**c", "a*a*a", "**/a/**/b/*", "/a", "a//b", "a b", "x*y**z*", strings.Repeat("*a", 64), strings.Repeat("**a", 42), strings.Repeat("a", 126) + "**"}
	names := []string{"a", "b", "ab", "a/b", "a/b/c", "a/c", "a/x/y/c", "aa", "aaa", "aba", "a/a/b/b", "x/a/y/b/z", "xy/z", "xyzz", "x/y/z", "xay/xbz", "ab/abc",
		strings.Repeat("a", 128), strings.Repeat("a/", 63) + "a", strings.Repeat("xa", 64)}
	for _, glob := range globs {
		for _, name := range names {
			checkGlob(t, glob, name)
		}
	}
	if (Globs)(nil).Match("a") || (Globs{{}}).Match("") {
		t.Error("no glob and the zero glob match something, want nothing")
	}
}

// Every glob of up to six bytes of an alphabet of four against every name of up
// to five.
func TestGlobsExhaustively(t *testing.T) {
	words := func(alphabet string, longest int) (all []string) {
		level := []string{""}
		for range longest {
			var next []string
			for _, w := range level {
				for _, c := range alphabet {
					next = append(next, w+string(c))
				}
			}
			all, level = append(all, next...), next
		}
		return all
	}
	var names []string
	for _, name := range words("ab/", 5) {
		if ValidChannel(name) {
			names = append(names, name)
		}
	}
	for _, glob := range words("ab/*", 5) {
		g, err := ParseGlob(glob)
		if err != nil {
			continue
		}
		rule := globRule(glob)
		for _, name := range names {
			if got, want := g.Match(name), rule.MatchString(name); got != want {
				t.Fatalf("glob %q on %q: got %v, want %v", glob, name, got, want)
			}
		}
	}
}

// A pattern made to blow up takes no longer than the length of names allows.
func TestGlobIsLinear(t *testing.T) {
	g, err := ParseGlob(strings.Repeat("**a*", 31) + "b")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("a", 1<<20)
	start := time.Now()
	if g.Match(name+"c") || !g.Match(name+"b") {
		t.Error("the pattern matches the wrong name")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("two names of a megabyte took %v", took)
	}
}

func TestGlobsJSON(t *testing.T) {
	gs, err := ParseGlobs([]string{"a/*", "b"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"some": gs, "none": Globs(nil)})
	if err != nil || string(text) != `{"none":[],"some":["a/*","b"]}` {
		t.Errorf("got %s, %v", text, err)
	}
	if got, want := gs[0].String(), "a/*"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if gs.MatchBytes([]byte("c")) || gs[0].MatchBytes([]byte("\xff")) {
		t.Error("a name that fits no pattern matches")
	}
	if text, err := json.Marshal(gs[0]); err != nil || string(text) != `"a/*"` {
		t.Errorf("one glob: got %s, %v", text, err)
	}
	var back Globs
	if err := json.Unmarshal([]byte(`["a/*","b"]`), &back); err != nil || !back.Match("a/x") || !back.Match("b") || back.Match("c") {
		t.Errorf("got %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`["a//b"]`), &back); err == nil {
		t.Error("an invalid glob was read from JSON")
	}
	if _, err := ParseGlobs([]string{"a", "b c"}); err == nil || !strings.Contains(err.Error(), `"b c"`) {
		t.Errorf("got %v, want an error that names the glob", err)
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a/**b*", "a/x/b")
	f.Fuzz(checkGlob)
}

func FuzzName(f *testing.F) {
	f.Add("a/b")
	f.Fuzz(checkNameRules)
}
