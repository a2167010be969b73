package runbook

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestEveryBookIsWhole(t *testing.T) {
	books, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if len(books) < 13 {
		t.Fatalf("got %d runbooks, want at least 13", len(books))
	}
	for _, b := range books {
		t.Run(b.Name, func(t *testing.T) {
			if b.Title == "" || b.Summary == "" || strings.HasPrefix(b.Summary, "#") || !strings.HasSuffix(b.Summary, ".") {
				t.Errorf("got title %q and summary %q, want a heading and a sentence", b.Title, b.Summary)
			}
			if !strings.Contains(b.Markdown, "\n## ") && b.Name != "drills" {
				t.Error("it has no sections")
			}
			page := b.HTML()
			if !strings.HasPrefix(page, "<h1>") || strings.Contains(page, "`") {
				t.Errorf("got %.80q…", page)
			}
			wellFormed(t, page)
			if got, ok := Get(b.Name); !ok || got != b {
				t.Error("it cannot be got by its name")
			}
		})
	}
}

// wellFormed checks that every element is closed.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader("<x>" + strings.ReplaceAll(page, "<br>", "<br/>") + "</x>"))
	d.Entity = xml.HTMLEntity
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, page)
		}
	}
}

func TestGetTakesNamesOnly(t *testing.T) {
	for _, name := range []string{"", "nothing", "../doc", "books/disk-full", "disk-full.md", "Disk-Full", "disk-full\x00"} {
		if _, ok := Get(name); ok {
			t.Errorf("%q was found", name)
		}
	}
}

func TestRender(t *testing.T) {
	text := "# A <b>\nline `x < y` &\nsecond\n\n- one\n- two\n\n1. first\n   - inner\n2. next\n\n    code <i>\n\n| a | b |\n|---|---|\n| 1 | `2` |\nodd ` tick"
	want := "<h1>A &lt;b&gt;</h1>\n<p>line <code>x &lt; y</code> &amp;<br>second</p>\n<ul><li>one</li><li>two</li></ul>\n" +
		"<ol><li>first<br>inner</li><li>next</li></ol>\n<pre>code &lt;i&gt;\n</pre>\n<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><code>2</code></td></tr></table>\n<p>odd ` tick</p>\n"
	if got := render(text); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzRender(f *testing.F) {
	books, err := List()
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range books {
		f.Add(b.Markdown)
	}
	f.Add("|\n- \n1. \n    \n`<script>`")
	f.Fuzz(func(t *testing.T, text string) {
		page := render(text)
		if strings.Contains(page, "<script") {
			t.Errorf("markup came through: %q", page)
		}
	})
}
