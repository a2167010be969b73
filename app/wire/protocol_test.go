package wire

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// sectionsOf splits a Markdown text at its headings of a level.
func sectionsOf(text, marks string) map[string]string {
	sections := map[string]string{}
	for _, part := range strings.Split("\n"+text, "\n"+marks+" ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		sections[title] = body
	}
	return sections
}

// PROTOCOL.md speaks of everything that the code can read or write.
func TestProtocolIsWhole(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	chapters := sectionsOf(string(text), "##")
	for title, side := range map[string]struct {
		kinds []Kind
		sets  []fieldSet
	}{
		"Client to relay": {ClientKinds(), commandFields[:]},
		"Relay to client": {ServerKinds(), eventFields[:]},
	} {
		sections := sectionsOf(chapters[title], "###")
		if got, want := len(sections), len(side.kinds); got != want {
			t.Errorf("%s: got %d kinds described, want %d", title, got, want)
		}
		for _, kind := range side.kinds {
			section := sections[kind.String()]
			for f := fEnd + 1; f < fieldCount; f++ {
				if side.sets[kind].has(f) && !strings.Contains(section, "`"+fieldWords[f]+"`") {
					t.Errorf("%s: the section on %v does not speak of `%s`", title, kind, fieldWords[f])
				}
			}
		}
	}
	for f := fEnd + 1; f < fieldCount; f++ {
		if !regexp.MustCompile("`(resume\\.|limits\\.|connected\\.)?" + fieldWords[f] + "`").Match(text) {
			t.Errorf("nowhere a word on `%s`", fieldWords[f])
		}
	}
	for _, code := range AllCodes() {
		if !strings.Contains(chapters["Errors"], "\n| `"+string(code)+"` |") {
			t.Errorf("the table of errors lacks %s", code)
		}
	}
	for _, code := range AllCloseCodes() {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d \|.*$`, code)).FindString(chapters["Close codes"])
		if row == "" {
			t.Errorf("the table of close codes lacks %d", code)
		}
		if strings.Contains(row, "**no**") != code.Final() {
			t.Errorf("close code %d: the table says %q, the code says final %v", code, row, code.Final())
		}
	}
	checkWords(t, string(text))
}

func checkWords(t *testing.T, text string) {
	t.Helper()
	words := []string{SubprotocolJSON, SubprotocolProtobuf, "join", "leave", "degraded", "drain", "rebalance", "limit", "cluster"}
	for _, c := range AllClasses() {
		words = append(words, c.String())
	}
	for _, s := range AllReceiptStates() {
		words = append(words, string(s))
	}
	for _, s := range AllAgentStates() {
		words = append(words, string(s))
	}
	for _, o := range AllOutcomes() {
		words = append(words, string(o))
	}
	for _, word := range words {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("nowhere a word on `%s`", word)
		}
	}
	lim := DefaultLimits()
	for word, n := range map[string]int64{"frame_bytes": int64(lim.FrameBytes), "message_bytes": int64(lim.MessageBytes),
		"subscriptions": int64(lim.Subscriptions), "header_count": int64(lim.HeaderCount), "header_bytes": int64(lim.HeaderBytes),
		"max_ttl_ms": lim.MaxTTLMS, "max_timeout_ms": lim.MaxTimeoutMS, "messages_per_s": int64(lim.MessagesPerS), "bytes_per_s": int64(lim.BytesPerS)} {
		want := fmt.Sprintf("| `%s` | %d", word, n)
		if n == 0 {
			want = fmt.Sprintf("| `%s` | none", word)
		}
		if !strings.Contains(text, want) {
			t.Errorf("the table of limits lacks %q", want)
		}
	}
}
