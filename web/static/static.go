// Package static holds the files that browsers load: stylesheet, scripts and icon.
//
// They are part of the binary. Each is served under a name that holds the hash of
// its content, so that a browser may keep it for a year and still sees a new
// version at once. The scripts are a convenience: every page works without them.
// What lies in vendor is other people's work, unchanged, with its licence beside
// it: htmx with its extension for event streams, and uPlot for charts that a
// person zooms.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"
)

//go:embed app.css live.js poll.js trends.js mark.svg vendor
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
	case ".LICENSE":
		return "text/plain; charset=utf-8", nil
	}
	return "", fmt.Errorf("no media type for %s", name)
}

type file struct {
	media  string
	body   []byte
	packed []byte // gzip of body
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
	err := fs.WalkDir(content, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return f.add(name)
	})
	if err != nil {
		return nil, fmt.Errorf("static: %w", err)
	}
	return f, nil
}

func (f *Files) add(name string) error {
	body, err := content.ReadFile(name)
	if err != nil {
		return err
	}
	media, err := mediaType(name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	name = path.Base(name)
	ext := path.Ext(name)
	hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(body); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	f.byHash[hashed], f.hashed[name] = file{media, body, packed.Bytes()}, hashed
	return nil
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
	c.Vary(fiber.HeaderAcceptEncoding)
	if c.Context().Request.Header.HasAcceptEncoding("gzip") {
		c.Set(fiber.HeaderContentEncoding, "gzip")
		return c.Send(found.packed)
	}
	return c.Send(found.body)
}
