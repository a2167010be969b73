package dash

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
)

// A table is rows for machines: the same that a page shows, by the page's address
// with .csv or .json, or by what the client accepts.
type table struct {
	columns []string
	rows    [][]any
}

func (t *table) add(values ...any) { t.rows = append(t.rows, values) }

func (b *Board) addTables(add func(method, path string, need Role, action string, handle func(*request) error)) {
	for path, make := range b.tables() {
		for _, ending := range []string{".csv", ".json"} {
			add("GET", path+ending, b.need(path), "", func(r *request) error {
				r.path = path
				t, err := make(r)
				if err != nil {
					return err
				}
				return t.send(&b.pack, r.c, strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-"), ending)
			})
		}
	}
}

// wants is the ending that a client asks for by Accept; "" for a page.
func wants(c *fiber.Ctx) string {
	accept := c.Get(fiber.HeaderAccept)
	switch {
	case strings.Contains(accept, "text/html"):
		return ""
	case strings.Contains(accept, "text/csv"):
		return ".csv"
	case strings.Contains(accept, "application/json"):
		return ".json"
	}
	return ""
}

// send writes the rows.
func (t *table) send(pack *packer, c *fiber.Ctx, name, ending string) error {
	if ending == ".csv" {
		body, err := t.csv()
		if err != nil {
			return err
		}
		c.Set(fiber.HeaderContentDisposition, `attachment; filename="agentnet-`+name+`.csv"`)
		return pack.send(c, "text/csv; charset=utf-8", body)
	}
	body, err := t.json()
	if err != nil {
		return err
	}
	return pack.send(c, fiber.MIMEApplicationJSON, body)
}

func (t *table) csv() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write(t.columns); err != nil {
		return nil, fmt.Errorf("write csv: %w", err)
	}
	for _, row := range t.rows {
		line := make([]string, len(row))
		for i, v := range row {
			line[i] = cell(v)
		}
		if err := w.Write(line); err != nil {
			return nil, fmt.Errorf("write csv: %w", err)
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// cell writes one value. What a spreadsheet would take for a formula gets a quote
// before it, because names come from clients.
func cell(v any) string {
	var text string
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return fmt.Sprint(v.Milliseconds())
	case string:
		text = v
	case []string:
		text = strings.Join(v, " ")
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// json writes the rows as objects, with the columns' names as keys.
func (t *table) json() ([]byte, error) {
	rows := make([]map[string]any, len(t.rows))
	for i, row := range t.rows {
		rows[i] = map[string]any{}
		for k, v := range row {
			switch v := v.(type) {
			case time.Time:
				rows[i][t.columns[k]] = nil
				if !v.IsZero() {
					rows[i][t.columns[k]] = v.UTC()
				}
			case time.Duration:
				rows[i][t.columns[k]] = v.Milliseconds()
			default:
				rows[i][t.columns[k]] = v
			}
		}
	}
	body, err := json.Marshal(map[string]any{"rows": rows})
	if err != nil {
		return nil, fmt.Errorf("write json: %w", err)
	}
	return body, nil
}
