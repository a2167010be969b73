package api

import (
	"net/url"
	"strings"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Table is the rows of one table of the console.
type Table struct {
	Name  string // also its path below /v1/tables/
	About string // what it lists, as a sentence
	Admin bool   // for admins only
	// Rows writes the table as CSV or as JSON, by the query of its page.
	Rows func(query url.Values, csv bool) ([]byte, error)
}

// TablesQuery chooses the form of a table; what else the page takes, such as range, q
// or sort, counts here too.
type TablesQuery struct {
	Format string `query:"format" enum:"json,csv" default:"json"`
}

// tableRoutes are one for each table of the console, so that whatever a page shows
// can be had with a token.
func (a *API) tableRoutes() (routes []Route) {
	for _, t := range a.cfg.Tables {
		route := Route{Method: "GET", Path: "/v1/tables/" + t.Name, Name: "tables." + strings.ReplaceAll(t.Name, "/", "."), Access: Viewer, Query: TablesQuery{}, ReplyType: fiber.MIMEApplicationJSON,
			Codes: []wire.Code{wire.BadFrame, wire.Forbidden, wire.NotFound, wire.Overloaded, wire.Timeout, wire.Unavailable, wire.Internal}, Summary: t.About,
			Doc: "The rows of the console's page, under rows; with Accept: text/csv as a table. The parameters of the page count here too.",
			handle: func(c *fiber.Ctx, _ *relay.Identity) error {
				csv := asTable(c)
				query, err := url.ParseQuery(string(c.Context().QueryArgs().QueryString()))
				if err != nil {
					return &wire.Error{Code: wire.BadFrame, Message: "the query cannot be read"}
				}
				body, err := t.Rows(query, csv)
				if err != nil {
					return err
				}
				c.Set(fiber.HeaderCacheControl, "no-store")
				if !csv {
					c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
					return c.Send(body)
				}
				c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
				c.Set(fiber.HeaderContentDisposition, `attachment; filename="agentnet-`+strings.ReplaceAll(t.Name, "/", "-")+`.csv"`)
				return c.Send(body)
			}}
		if t.Admin {
			route.Access = Admin
		}
		routes = append(routes, route)
	}
	return routes
}
