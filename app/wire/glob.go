package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// A Glob is a pattern over names: `*` stands for any run of bytes within a part,
// `**` for any run at all, both also for nothing. Every other byte stands for
// itself, so that `a/**` matches `a/b` and `a/b/c` but not `a`.
//
// Matching takes time linear in the name whatever the pattern, because patterns
// come from clients and are tried against whole directories. The zero Glob
// matches nothing.
type Glob struct {
	text   string
	prefix string // literal bytes before the first wildcard; all of it when there is none
	suffix string // literal bytes after the last wildcard
	middle globMiddle
	nfa    *globNFA // for middleMany
}

// globMiddle says what stands between prefix and suffix.
type globMiddle uint8

const (
	middleNever globMiddle = iota // the zero Glob
	middleNone                    // no wildcard
	middlePart                    // one *
	middleAny                     // one **
	middleMany                    // several wildcards: ask the automaton
)

// globNFA runs all ways to match at once, one bit for each token of the pattern.
// Token 0 and the last token are wildcards, the literals outside them being
// prefix and suffix; thus a pattern of 128 bytes needs no more than 128 bits and
// the last token's bit means "matched".
type globNFA struct {
	literal [128]bits128 // by byte: the tokens that are this byte
	any     bits128      // tokens that are **
	part    bits128      // tokens that are *
	last    bits128
}

type bits128 struct{ lo, hi uint64 }

func (a *bits128) set(i int) {
	if i < 64 {
		a.lo |= 1 << i
	} else {
		a.hi |= 1 << (i - 64)
	}
}
func (a bits128) and(b bits128) bits128 { return bits128{a.lo & b.lo, a.hi & b.hi} }
func (a bits128) or(b bits128) bits128  { return bits128{a.lo | b.lo, a.hi | b.hi} }
func (a bits128) up() bits128           { return bits128{a.lo << 1, a.hi<<1 | a.lo>>63} }
func (a bits128) empty() bool           { return a.lo|a.hi == 0 }

// validGlob reports whether text can be parsed as a Glob, without allocating.
func validGlob[T ~string | ~[]byte](text T) bool {
	if len(text) == 0 || len(text) > NameBytes {
		return false
	}
	start := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '/' {
			if i == start {
				return false
			}
			start = i + 1
		} else if c != '*' && !nameBytes[c] {
			return false
		}
	}
	return start < len(text)
}

// ParseGlob reads a pattern: a name of 1 to 128 bytes that may also hold `*`.
func ParseGlob(text string) (Glob, error) {
	if !validGlob(text) {
		return Glob{}, fmt.Errorf("glob %.130q: %s", text, wantGlob)
	}
	g := Glob{text: strings.Clone(text)}
	first, last := strings.IndexByte(g.text, '*'), strings.LastIndexByte(g.text, '*')
	if first < 0 {
		g.prefix, g.middle = g.text, middleNone
		return g, nil
	}
	g.prefix, g.suffix = g.text[:first], g.text[last+1:]
	switch middle := g.text[first : last+1]; {
	case middle == "*":
		g.middle = middlePart
	case strings.Trim(middle, "*") == "":
		g.middle = middleAny
	default:
		g.middle, g.nfa = middleMany, newGlobNFA(middle)
	}
	return g, nil
}

// newGlobNFA lays out a pattern that starts and ends with a wildcard. A run of
// stars is one token: the automaton steps over one wildcard at a time.
func newGlobNFA(pattern string) *globNFA {
	a := new(globNFA)
	token := 0
	for i := 0; i < len(pattern); token++ {
		run := 0
		for i+run < len(pattern) && pattern[i+run] == '*' {
			run++
		}
		switch run {
		case 0:
			a.literal[pattern[i]&127].set(token)
			run = 1
		case 1:
			a.part.set(token)
		default:
			a.any.set(token)
		}
		i += run
	}
	a.last.set(token - 1)
	return a
}

func globNFAMatch[T ~string | ~[]byte](a *globNFA, name T) bool {
	wild := a.any.or(a.part)
	state := bits128{lo: 3} // token 0 is a wildcard and may stand for nothing
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= 128 {
			return false
		}
		stay := a.any
		if c != '/' {
			stay = wild
		}
		state = state.and(a.literal[c]).up().or(state.and(stay))
		state = state.or(state.and(wild).up())
		if state.empty() {
			return false
		}
	}
	return !state.and(a.last).empty()
}

// Match reports whether the whole name fits the pattern.
func (g *Glob) Match(name string) bool {
	switch g.middle {
	case middleNever:
		return false
	case middleNone:
		return name == g.prefix
	}
	if len(name) < len(g.prefix)+len(g.suffix) || !strings.HasPrefix(name, g.prefix) || !strings.HasSuffix(name, g.suffix) {
		return false
	}
	if g.middle == middleAny {
		return true
	}
	name = name[len(g.prefix) : len(name)-len(g.suffix)]
	if g.middle == middlePart {
		return strings.IndexByte(name, '/') < 0
	}
	return globNFAMatch(g.nfa, name)
}

// MatchBytes is Match for a name that is not a string yet. It does not allocate.
func (g *Glob) MatchBytes(name []byte) bool {
	switch g.middle {
	case middleNever:
		return false
	case middleNone:
		return string(name) == g.prefix
	}
	if len(name) < len(g.prefix)+len(g.suffix) || string(name[:len(g.prefix)]) != g.prefix ||
		string(name[len(name)-len(g.suffix):]) != g.suffix {
		return false
	}
	if g.middle == middleAny {
		return true
	}
	name = name[len(g.prefix) : len(name)-len(g.suffix)]
	if g.middle == middlePart {
		return bytes.IndexByte(name, '/') < 0
	}
	return globNFAMatch(g.nfa, name)
}

// String returns the pattern as it was parsed.
func (g Glob) String() string { return g.text }

// MarshalText returns the pattern as it was parsed.
func (g Glob) MarshalText() ([]byte, error) { return []byte(g.text), nil }

// UnmarshalText is ParseGlob.
func (g *Glob) UnmarshalText(text []byte) error {
	parsed, err := ParseGlob(string(text))
	if err == nil {
		*g = parsed
	}
	return err
}

// Globs is a list of patterns, any of which may match. In JSON it is a list of
// strings.
type Globs []Glob

// ParseGlobs reads a list of patterns; the error names the one that is wrong.
func ParseGlobs(texts []string) (Globs, error) {
	gs := make(Globs, len(texts))
	for i, text := range texts {
		g, err := ParseGlob(text)
		if err != nil {
			return nil, err
		}
		gs[i] = g
	}
	return gs, nil
}

// Match reports whether any pattern fits the whole name.
func (gs Globs) Match(name string) bool {
	for i := range gs {
		if gs[i].Match(name) {
			return true
		}
	}
	return false
}

// MatchBytes is Match for a name that is not a string yet. It does not allocate.
func (gs Globs) MatchBytes(name []byte) bool {
	for i := range gs {
		if gs[i].MatchBytes(name) {
			return true
		}
	}
	return false
}

// Strings returns the patterns as they were parsed.
func (gs Globs) Strings() []string {
	texts := make([]string, len(gs))
	for i := range gs {
		texts[i] = gs[i].text
	}
	return texts
}

// MarshalJSON writes a list of strings, [] for none.
func (gs Globs) MarshalJSON() ([]byte, error) { return json.Marshal(gs.Strings()) }
