package api

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// number reads a whole number of the query within its bounds.
func number(c *fiber.Ctx, name string, without, least, most int) (int, error) {
	text := c.Query(name)
	if text == "" {
		return without, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("%s: expected a number from %d to %d", name, least, most)}
	}
	return n, nil
}

// moment reads a time of the query: RFC 3339 or milliseconds since 1970.
func moment(c *fiber.Ctx, name string) (time.Time, error) {
	text := c.Query(name)
	if text == "" {
		return time.Time{}, nil
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 && ms < 1<<46 {
		return time.UnixMilli(ms).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Year() < 1970 || at.Year() > 3000 {
		return time.Time{}, &wire.Error{Code: wire.BadFrame, Message: name + ": expected a time such as 2026-11-23T14:00:00Z, or milliseconds since 1970"}
	}
	return at.UTC(), nil
}

// timeRange reads from and to, or range: the time up to the end.
func timeRange(c *fiber.Ctx, without time.Duration) (from, to time.Time, err error) {
	if to, err = moment(c, "to"); err != nil {
		return from, to, err
	}
	if to.IsZero() {
		to = time.Now().UTC()
	}
	if from, err = moment(c, "from"); err != nil || !from.IsZero() {
		if err == nil && !from.Before(to) {
			err = &wire.Error{Code: wire.BadFrame, Message: "from: expected a time before to"}
		}
		return from, to, err
	}
	length := without
	if text := c.Query("range"); text != "" {
		if length, err = span(text); err != nil {
			return from, to, &wire.Error{Code: wire.BadFrame, Message: "range: " + err.Error()}
		}
	}
	return to.Add(-length), to, nil
}

// longestSpan bounds what a query may ask for: more than anything is kept.
const longestSpan = 401 * 24 * time.Hour

// span reads a length of time in Go's form, or in days.
func span(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, found := strings.CutSuffix(text, "d"); found {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if n > 1000 {
			n = 1000
		}
		d = time.Duration(n * 24 * float64(time.Hour))
	}
	if err != nil || d < time.Second || d > longestSpan {
		return 0, fmt.Errorf("expected a time such as 15m, 6h or 30d, at most 400d")
	}
	return d, nil
}

// asTable says that the caller wants CSV.
func asTable(c *fiber.Ctx) bool {
	return c.Query("format") == "csv" || strings.Contains(c.Get(fiber.HeaderAccept), "text/csv")
}

// writeTable answers with rows as CSV.
func writeTable(c *fiber.Ctx, name string, rows [][]string) error {
	var b bytes.Buffer
	if err := writeRows(&b, rows); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="agentnet-`+name+`.csv"`)
	return c.Send(b.Bytes())
}

// writeRows writes CSV. A cell that a spreadsheet would take for a formula is led
// by a quote.
func writeRows(out io.Writer, rows [][]string) error {
	w := csv.NewWriter(out)
	for _, row := range rows {
		for i, cell := range row {
			if isFormula(cell) {
				row[i] = "'" + cell
			}
		}
		if err := w.Write(row); err != nil {
			return fmt.Errorf("write a table: %w", err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return fmt.Errorf("write a table: %w", err)
	}
	return nil
}

func isFormula(cell string) bool {
	if cell == "" {
		return false
	}
	if _, err := strconv.ParseFloat(cell, 64); err == nil {
		return false
	}
	return strings.ContainsRune("=+-@\t\r", rune(cell[0]))
}
