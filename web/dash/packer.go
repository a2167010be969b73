package dash

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"sync"

	"github.com/gofiber/fiber/v2"
)

// packFrom is the size at which an answer is compressed.
const packFrom = 1 << 10

// A packer compresses answers and keeps its writers, each of which has a quarter
// of a megabyte of tables. The zero value is ready.
type packer struct{ writers sync.Pool }

// send answers with body, compressed for those who take it.
func (p *packer) send(c *fiber.Ctx, media string, body []byte) error {
	c.Set(fiber.HeaderContentType, media)
	c.Vary(fiber.HeaderAcceptEncoding)
	if len(body) < packFrom || !c.Context().Request.Header.HasAcceptEncoding("gzip") {
		return c.Send(body)
	}
	packed, err := p.gzip(body)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentEncoding, "gzip")
	return c.Send(packed)
}

func (p *packer) gzip(body []byte) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, len(body)/4))
	z, ok := p.writers.Get().(*gzip.Writer)
	if ok {
		z.Reset(out)
	} else {
		var err error
		if z, err = gzip.NewWriterLevel(out, 5); err != nil {
			return nil, fmt.Errorf("compress a page: %w", err)
		}
	}
	defer p.writers.Put(z)
	if _, err := z.Write(body); err != nil {
		return nil, fmt.Errorf("compress a page: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress a page: %w", err)
	}
	return out.Bytes(), nil
}
