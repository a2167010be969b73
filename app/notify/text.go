package notify

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"
)

//go:embed message.txt.tmpl
var defaultText string

// maxText bounds what a template may make, in bytes.
const maxText = 16 << 10

// A Text renders messages for people.
type Text struct{ tmpl *template.Template }

// NewText parses a template over Message; the empty text is the default one,
// which says what, since when, value and threshold, what to do, and where to look.
// The functions time and since show a time, and upper writes capitals.
func NewText(source string) (*Text, error) {
	if source == "" {
		source = defaultText
	}
	t, err := template.New("message").Option("missingkey=error").Funcs(template.FuncMap{"time": showTime, "since": showSince, "upper": strings.ToUpper}).Parse(source)
	if err != nil {
		return nil, fmt.Errorf("template of notifications: %w", err)
	}
	text := &Text{t}
	for _, sample := range []Message{TestMessage("n1", time.Unix(0, 0)), {Items: []Item{{}, {Resolved: true}}, More: 1}} {
		if _, err := text.render(&sample); err != nil {
			return nil, fmt.Errorf("template of notifications: %w", err)
		}
	}
	return text, nil
}

func (t *Text) render(m *Message) (string, error) {
	var b bounded
	if err := t.tmpl.Execute(&b, m); err != nil && !errors.Is(err, errFull) {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// String renders m; a template that fails on it gives the title.
func (t *Text) String(m *Message) string {
	if text, err := t.render(m); err == nil {
		return text
	}
	return m.Title()
}

var errFull = errors.New("the text is too long")

type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxText - b.Len(); len(p) > room {
		b.Builder.WriteString(strings.ToValidUTF8(string(p[:room]), ""))
		return room, errFull
	}
	return b.Builder.Write(p)
}

func showTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// showSince says how long ago a was at b, as people say it.
func showSince(a, b time.Time) string {
	d := b.Sub(a)
	switch {
	case d < 0:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// TestMessage is what a test of a channel sends.
func TestMessage(from string, now time.Time) Message {
	return Message{At: now, From: from, Group: "test", Test: true, Items: []Item{{Key: "test", Rule: "test", At: now, Since: now,
		Value: "nothing is wrong", Why: "somebody pressed the test button", Response: "Nothing: this channel works."}}}
}

// clip shortens text to n bytes at a line's end where it can.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[:n-len("\n…")]
	if i := strings.LastIndexByte(text, '\n'); i > n/2 {
		text = text[:i]
	}
	return strings.ToValidUTF8(text, "") + "\n…"
}
