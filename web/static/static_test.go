package static

import (
	"io"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
)

func TestFilesHaveHashedNames(t *testing.T) {
	files, err := New("/relay/static")
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New()
	app.Get("/relay/static/:file", files.Handler)
	for name, media := range map[string]string{"app.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8", "mark.svg": "image/svg+xml"} {
		url := files.URL(name)
		if !regexp.MustCompile(`^/relay/static/[a-z]+\.[0-9a-f]{12}\.[a-z]+$`).MatchString(url) {
			t.Errorf("%s: got URL %q", name, url)
		}
		resp, err := app.Test(httptest.NewRequest("GET", url, nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || len(body) == 0 {
			t.Errorf("%s: got %d with %d bytes, %v", url, resp.StatusCode, len(body), err)
		}
		if got := resp.Header.Get("Content-Type"); got != media {
			t.Errorf("%s: got %q, want %q", url, got, media)
		}
		if got := resp.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: got Cache-Control %q", url, got)
		}
	}
	for _, path := range []string{"app.css", "app.000000000000.css", "..%2f..%2fgo.mod", "static.go"} {
		resp, err := app.Test(httptest.NewRequest("GET", "/relay/static/"+path, nil))
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 404 {
			t.Errorf("%s: got %d, want 404", path, resp.StatusCode)
		}
	}
	if got := files.URL("none.css"); got != "" {
		t.Errorf("got %q for a file that is not there", got)
	}
}

// TestNothingComesFromElsewhere holds what the content policy would forbid.
func TestNothingComesFromElsewhere(t *testing.T) {
	for _, name := range []string{"app.css", "live.js"} {
		body, err := content.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"http://", "https://", "@import", "eval(", "innerHTML", "Function("} {
			if strings.Contains(string(body), bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
}
