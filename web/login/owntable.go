package login

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agentnet/app/account"

	"github.com/gofiber/fiber/v2"
)

// ownSession is a browser in which somebody is signed in, for machines.
type ownSession struct {
	Browser  string    `json:"browser"`
	Address  string    `json:"address"`
	SignedIn time.Time `json:"signed_in"`
	LastUsed time.Time `json:"last_used"`
	This     bool      `json:"this"`
}

// ownTable lists one's own sessions as CSV or JSON.
func (p *Pages) ownTable(c *fiber.Ctx) error {
	visitor, _, err := p.cfg.Gate.Visitor(c)
	if err != nil {
		return err
	}
	found, err := p.cfg.Accounts.Sessions(c.UserContext(), account.SessionFilter{Account: visitor.Name})
	if err != nil {
		return fmt.Errorf("read the own sessions: %w", err)
	}
	rows := []ownSession{}
	for _, s := range found {
		rows = append(rows, ownSession{s.Browser, s.Address, s.Created.UTC(), s.Seen.UTC(), s.ID == visitor.Session})
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	if strings.HasSuffix(c.Path(), ".json") {
		return c.JSON(fiber.Map{"rows": rows})
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	lines := [][]string{{"browser", "address", "signed_in", "last_used", "this"}}
	for _, r := range rows {
		browser := r.Browser // a name that a browser gave itself
		if browser != "" && strings.ContainsRune("=+-@\t\r", rune(browser[0])) {
			browser = "'" + browser
		}
		lines = append(lines, []string{browser, r.Address, r.SignedIn.Format(time.RFC3339), r.LastUsed.Format(time.RFC3339), strconv.FormatBool(r.This)})
	}
	if err := w.WriteAll(lines); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="agentnet-own-sessions.csv"`)
	return c.Send(b.Bytes())
}
