package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// depthOf returns how deep brackets nest outside of strings in valid JSON.
func depthOf(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// carriable is the documented rule, by the standard library: its JSON, in UTF-8,
// at most MaxDepth deep.
func carriable(text []byte) bool {
	return json.Valid(text) && utf8.Valid(text) && depthOf(text) <= MaxDepth
}

var jsonSeeds = []string{
	``, ` `, `null`, `nul`, `nulll`, `true`, `tru`, `false`, `falsey`, `0`, `-0`, `-`, `00`, `01`, `1.`, `1.5`, `.5`, `1e`, `1e5`,
	`1E+5`, `1e-`, `1.5e+`, `+1`, `0x1`, `NaN`, `""`, `"`, `"a`, `"\"`, `"\\"`, `"\u00"`, `"\u00zz"`, `"\uD83D\ude42"`, `"\ud83d"`, `"\x"`,
	"\"\t\"", "\"\x7f\"", "\"\xff\"", "\"\xc3\xa9\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", `{}`, `{ }`, `{`, `}`, `[`, `]`, `[]`, `[ ]`, `[,]`, `[1,]`, `[1 2]`, `[1,2]`, `[[],{}]`,
	`{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{"a":1 "b":2}`, `{"a":1,"b":[{"c":null}]}`, `{"a":1]`, `[1}`, "[1,\n\r\t 2]", "\ufeff1", "1\x00", "\v1",
	`"` + strings.Repeat("x", 100) + `"`, `"` + strings.Repeat("é", 50) + `"`, `1 2`, `{} {}`,
	strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65),
	strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64), strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
	strings.Repeat("[", 64) + "{}" + strings.Repeat("]", 64), strings.Repeat("[", 64) + "[]" + strings.Repeat("]", 64),
	strings.Repeat("[", 63) + "{}" + strings.Repeat("]", 63), `[{"a":1},[1,2]]`, `{"a":[1,2],"b":{"c":1}}`, `[{"a":1},["b":1]]`, `[[1],{1,2}]`,
	strings.Repeat("[", 100000), strings.Repeat("[{", 31) + "[[" + strings.Repeat("]", 70),
}

func checkJSON(t *testing.T, text []byte) {
	t.Helper()
	if got, want := ValidJSON(text), carriable(text); got != want {
		t.Errorf("ValidJSON(%.200q): got %v, want %v", text, got, want)
	}
	if !json.Valid(text) || !utf8.Valid(text) {
		return
	}
	var want bytes.Buffer
	if err := json.Compact(&want, text); err != nil {
		t.Fatal(err)
	}
	line := appendOneLine(nil, text)
	var got bytes.Buffer
	if err := json.Compact(&got, line); err != nil || got.String() != want.String() || bytes.ContainsAny(line, "\n\r") {
		t.Errorf("%q in one line: got %q, %v", text, line, err)
	}
}

func TestValidJSON(t *testing.T) {
	for _, text := range jsonSeeds {
		checkJSON(t, []byte(text))
	}
	// Each byte at each place of a word of eight and its rest.
	for at := range 19 {
		for c := range 256 {
			text := []byte(`"` + strings.Repeat("x", 19) + `"`)
			text[1+at] = byte(c)
			checkJSON(t, text)
		}
	}
}

func FuzzValidJSON(f *testing.F) {
	for _, text := range jsonSeeds {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkJSON(t, text) })
}

// What a string stands for is what encoding/json says, and what is quoted comes
// back.
func checkString(t *testing.T, text []byte) {
	t.Helper()
	quoted := append(append([]byte{'"'}, text...), '"')
	var want string
	if utf8.Valid(text) && json.Unmarshal(quoted, &want) == nil {
		end, _, wanted := scanString(quoted, 1)
		if wanted != "" || end != len(quoted)-1 {
			t.Errorf("string %q: got end %d, %q", quoted, end, wanted)
		} else if got := string(appendUnescaped(nil, text)); got != want {
			t.Errorf("string %q: got %q, want %q", quoted, got, want)
		}
	}
	var back string
	if err := json.Unmarshal(appendQuoted(nil, string(text)), &back); err != nil || back != strings.ToValidUTF8(string([]rune(string(text))), "\ufffd") {
		t.Errorf("quoted %q: got %q, %v", text, back, err)
	}
}

func TestStrings(t *testing.T) {
	for _, text := range []string{``, `a`, `\n\t\r\b\f\/\\\"`, `\u0041\u00e9\u65e5`, `\ud83d\ude42`, `\ud83d`, `\ud83dx`, `\ud83d\n`, `\ud83d\u0041`,
		`\ude42\ud83d`, `\ud83d\ud83d\ude42`, "é\x01", "\r\n\t\"\\/\b\x00\x1f\x7f", "a\xffb\xff", "\xed\xa0\x80", strings.Repeat(`\"`, 30)} {
		checkString(t, []byte(text))
	}
}

func FuzzString(f *testing.F) {
	f.Add([]byte(`\ud83d\ude42 \n é`))
	f.Fuzz(func(t *testing.T, text []byte) { checkString(t, text) })
}
