package dash

import (
	"bytes"
	"context"
	"fmt"

	"agentnet/web/ui"

	"github.com/gofiber/fiber/v2"
)

// statusView is the public page: whether it works, and nothing more.
type statusView struct {
	frame          ui.Frame
	kind, word     string
	sentence, read string
}

// publicState is what strangers may know: no name, no number, no reason.
func (b *Board) publicState() (kind, word, sentence string) {
	n := b.notices()
	switch {
	case n.verdict.Kind == "crit":
		return "crit", "Trouble", "Something is wrong. Those who run this server have been told."
	case n.verdict.Kind == "info":
		return "info", "Restarting", "The server is being restarted. Agents come back by themselves."
	case n.firing > 0 || n.verdict.Word == "Under load":
		return "warn", "Busy", "Messages flow. The server is under more load than usual."
	}
	return "ok", "Working", "Messages flow normally."
}

// addStatus adds the public page and the badge, where they were switched on.
func (b *Board) addStatus(add func(method, path string, need Role, action string, handle func(*request) error)) {
	if !b.cfg.PublicStatus {
		return
	}
	add("GET", "/status", Nobody, "", b.status)
	add("GET", "/status.json", Nobody, "", func(r *request) error {
		kind, word, sentence := b.publicState()
		return r.c.JSON(fiber.Map{"state": kind, "word": word, "sentence": sentence, "time_ms": r.now.UnixMilli()})
	})
	add("GET", "/badge.svg", Nobody, "", b.badge)
}

func (b *Board) status(r *request) error {
	v := &statusView{frame: ui.Frame{Title: "Status · Agentnet", Home: b.cfg.Base + "/", Style: b.cfg.Files.URL("app.css"), Icon: b.cfg.Files.URL("mark.svg")}, read: r.now.UTC().Format("2 Jan 2006 15:04 UTC")}
	v.kind, v.word, v.sentence = b.publicState()
	v.frame.Title = v.word + " · Agentnet"
	var body bytes.Buffer
	if err := statusPage(v).Render(context.Background(), &body); err != nil {
		return fmt.Errorf("draw the status page: %w", err)
	}
	return b.pack.send(r.c, fiber.MIMETextHTMLCharsetUTF8, body.Bytes())
}

// badge is a small picture for other people's pages.
func (b *Board) badge(r *request) error {
	kind, word, _ := b.publicState()
	colour := map[string]string{"ok": "#0a7558", "warn": "#8f4e00", "crit": "#bd2d28", "info": "#2b59c3"}[kind]
	width := 74 + 8*len(word)
	r.c.Set(fiber.HeaderContentType, "image/svg+xml")
	r.c.Set("Cross-Origin-Resource-Policy", "cross-origin")
	return r.c.SendString(fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="agentnet: %s"><title>agentnet: %s</title>`+
		`<rect width="%d" height="20" rx="4" fill="%s"/><path d="M4 0h62v20H4a4 4 0 0 1-4-4V4a4 4 0 0 1 4-4z" fill="#454f5b"/>`+
		`<g fill="#fff" font-family="system-ui,sans-serif" font-size="11"><text x="8" y="14">agentnet</text><text x="74" y="14">%s</text></g></svg>`, width, word, word, width, colour, word))
}
