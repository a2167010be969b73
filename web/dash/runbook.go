package dash

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"net/http"
	"strings"

	"agentnet/app/runbook"
	"agentnet/app/wire"
	"agentnet/web/static"
	"agentnet/web/ui"

	"github.com/a-h/templ"
	"github.com/gofiber/fiber/v2"
)

// Runbooks answers /runbooks and /runbooks/NAME, which alerts link to. They are
// the same in every copy of the program, so that anybody may read them.
type Runbooks struct{ frame ui.Frame }

// NewRunbooks makes the pages below base.
func NewRunbooks(base string, files *static.Files) *Runbooks {
	return &Runbooks{ui.Frame{Title: "Runbooks", Home: base + "/", Style: files.URL("app.css"), Icon: files.URL("mark.svg")}}
}

// List answers with all runbooks.
func (r *Runbooks) List(c *fiber.Ctx) error {
	books, err := runbook.List()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("<h1>Runbooks</h1><ul>")
	for _, book := range books {
		fmt.Fprintf(&b, `<li><a href="%srunbooks/%s">%s</a>: %s</li>`, html.EscapeString(r.frame.Home), book.Name, html.EscapeString(book.Title), html.EscapeString(book.Summary))
	}
	return r.show(c, "Runbooks", b.String()+"</ul>")
}

// One answers with the runbook of the parameter name, as Markdown when it ends in
// .md.
func (r *Runbooks) One(c *fiber.Ctx) error {
	name, plain := strings.CutSuffix(c.Params("name"), ".md")
	book, ok := runbook.Get(name)
	if !ok {
		return &wire.Error{Code: wire.NotFound, Message: "there is no such runbook; /runbooks lists them"}
	}
	if plain {
		c.Set(fiber.HeaderContentType, "text/markdown; charset=utf-8")
		return c.SendString(book.Markdown)
	}
	return r.show(c, book.Title, book.HTML())
}

// show writes a page around HTML that was escaped already.
func (r *Runbooks) show(c *fiber.Ctx, title, body string) error {
	f := r.frame
	f.Title = title + " · Agentnet"
	var b bytes.Buffer
	inner := templ.Raw(`<article class="runbook">` + body + `</article>`)
	if err := ui.Plain(f).Render(templ.WithChildren(context.Background(), inner), &b); err != nil {
		return fmt.Errorf("page of a runbook: %w", err)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	return c.Status(http.StatusOK).Send(b.Bytes())
}
