package runbook

import (
	"embed"
	"fmt"
	"html"
	"path"
	"regexp"
	"slices"
	"strings"
)

//go:embed books/*.md
var files embed.FS

// A Book is one runbook.
type Book struct {
	Name     string // as rules have it, such as disk-full
	Title    string
	Summary  string // one sentence
	Markdown string
}

// List returns all runbooks by name.
func List() ([]Book, error) {
	entries, err := files.ReadDir("books")
	if err != nil {
		return nil, fmt.Errorf("runbooks: %w", err)
	}
	var out []Book
	for _, e := range entries {
		b, err := read(strings.TrimSuffix(e.Name(), ".md"))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// Get returns one runbook; false when none has that name.
func Get(name string) (Book, bool) {
	if !bookName.MatchString(name) {
		return Book{}, false
	}
	b, err := read(name)
	return b, err == nil
}

var bookName = regexp.MustCompile(`^[a-z][a-z-]{0,40}$`)

func read(name string) (Book, error) {
	raw, err := files.ReadFile(path.Join("books", name+".md"))
	if err != nil {
		return Book{}, fmt.Errorf("runbook %q: %w", name, err)
	}
	text := string(raw)
	title, rest, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
	summary, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	return Book{Name: name, Title: title, Summary: summary, Markdown: text}, nil
}

// HTML renders the Markdown as our own runbooks use it: headings, paragraphs,
// lists, tables, code. Everything is escaped.
func (b *Book) HTML() string { return render(b.Markdown) }

// render turns Markdown into HTML, line by line.
func render(text string) string {
	r := &renderer{}
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		r.line(line)
	}
	r.open("")
	return r.out.String()
}

// A renderer knows which element is open: p, ul, ol, pre, table, or none.
type renderer struct {
	out    strings.Builder
	within string
	rows   int
}

// open closes what is open and opens an element; "" opens none.
func (r *renderer) open(element string) {
	if r.within == element {
		return
	}
	if r.within != "" {
		if r.within == "ul" || r.within == "ol" {
			r.out.WriteString("</li>")
		}
		r.out.WriteString("</" + r.within + ">\n")
	}
	r.within, r.rows = element, 0
	if element != "" {
		r.out.WriteString("<" + element + ">")
	}
}

var numbered = regexp.MustCompile(`^\d+\. `)

func (r *renderer) line(line string) {
	trimmed := strings.TrimSpace(line)
	switch {
	case trimmed == "":
		if r.within != "pre" {
			r.open("")
		}
	case strings.HasPrefix(line, "# "):
		r.heading("h1", line[2:])
	case strings.HasPrefix(line, "## "):
		r.heading("h2", line[3:])
	case strings.HasPrefix(line, "    "):
		r.open("pre")
		r.out.WriteString(html.EscapeString(line[4:]) + "\n")
	case strings.HasPrefix(line, "|"):
		r.row(trimmed)
	case strings.HasPrefix(trimmed, "- ") && !(strings.HasPrefix(line, "  ") && r.within == "ol"):
		r.item("ul", trimmed[2:])
	case numbered.MatchString(line):
		_, rest, _ := strings.Cut(line, ". ")
		r.item("ol", rest)
	case strings.HasPrefix(line, "  ") && (r.within == "ol" || r.within == "ul"):
		r.out.WriteString("<br>" + inline(strings.TrimPrefix(trimmed, "- ")))
	case r.within == "p":
		r.out.WriteString("<br>" + inline(trimmed))
	default:
		r.open("p")
		r.out.WriteString(inline(trimmed))
	}
}

func (r *renderer) heading(element, text string) {
	r.open("")
	r.out.WriteString("<" + element + ">" + inline(text) + "</" + element + ">\n")
}

func (r *renderer) item(list, text string) {
	if r.within == list {
		r.out.WriteString("</li>")
	}
	r.open(list)
	r.out.WriteString("<li>" + inline(text))
}

// row writes a row of a table; the second one only separates the head.
func (r *renderer) row(line string) {
	r.open("table")
	r.rows++
	if r.rows == 2 {
		return
	}
	cell := "td"
	if r.rows == 1 {
		cell = "th"
	}
	r.out.WriteString("<tr>")
	for text := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
		r.out.WriteString("<" + cell + ">" + inline(strings.TrimSpace(text)) + "</" + cell + ">")
	}
	r.out.WriteString("</tr>")
}

// inline escapes text and sets code between backticks.
func inline(text string) string {
	parts := strings.Split(text, "`")
	if len(parts)%2 == 0 { // a backtick without its partner is one
		return html.EscapeString(text)
	}
	for i := range parts {
		parts[i] = html.EscapeString(parts[i])
		if i%2 == 1 {
			parts[i] = "<code>" + parts[i] + "</code>"
		}
	}
	return strings.Join(parts, "")
}

var command = regexp.MustCompile("agentnet ([a-z]+)")

// Commands lists the commands of agentnet that the runbook names.
func (b *Book) Commands() []string {
	var out []string
	for _, m := range command.FindAllStringSubmatch(b.Markdown, -1) {
		if !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	return out
}
