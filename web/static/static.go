// Package static holds the files that browsers load: stylesheet, script and icon.
//
// They are part of the binary. Each is served under a name that holds the hash of
// its content, so that a browser may keep it for a year and still sees a new
// version at once. The script is a convenience: every page works without it.
package static

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"
)

//go:embed app.css live.js mark.svg
var content embed.FS

// types are the media types of what is embedded.
func mediaType(name string) (string, error) {
	switch path.Ext(name) {
	case ".css":
		return "text/css; charset=utf-8", nil
	case ".js":
		return "text/javascript; charset=utf-8", nil
	case ".svg":
		return "image/svg+xml", nil
	}
	return "", fmt.Errorf("no media type for %s", name)
}

type file struct {
	media string
	body  []byte
}

// Files serves the files. It is immutable.
type Files struct {
	base   string
	byHash map[string]file   // hashed name -> file
	hashed map[string]string // name -> hashed name
}

// New reads the files, which are reached under base, such as "/relay/static".
func New(base string) (*Files, error) {
	f := &Files{base: base, byHash: map[string]file{}, hashed: map[string]string{}}
	names, err := fs.Glob(content, "*")
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	for _, name := range names {
		body, err := content.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		media, err := mediaType(name)
		if err != nil {
			return nil, fmt.Errorf("static: %w", err)
		}
		sum := sha256.Sum256(body)
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		f.byHash[hashed], f.hashed[name] = file{media, body}, hashed
	}
	return f, nil
}

// URL is the path of a file, "" when there is none of that name.
func (f *Files) URL(name string) string {
	hashed, ok := f.hashed[name]
	if !ok {
		return ""
	}
	return f.base + "/" + hashed
}

// Handler answers GET {base}/:file.
func (f *Files) Handler(c *fiber.Ctx) error {
	found, ok := f.byHash[c.Params("file")]
	if !ok {
		return fiber.ErrNotFound
	}
	c.Set(fiber.HeaderContentType, found.media)
	c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	return c.Send(found.body)
}
