package dash

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"agentnet/app/account"
	"agentnet/app/scale"
	"agentnet/web/gate"
	"agentnet/web/ui"

	"github.com/gofiber/fiber/v2"
)

// Cookies that remember how somebody likes the pages. Neither is a secret.
const (
	themeCookie = "agentnet_theme"
	zoneCookie  = "agentnet_zone"
)

// A request is one question of a browser for a page. It holds no reference to the
// connection where a page is rendered for a stream, so that one rendering serves
// all who watch the same.
type request struct {
	c     *fiber.Ctx // nil while a stream is rendered
	who   Visitor
	path  string // below the base path, without the ending .csv or .json
	query url.Values
	zone  *time.Location
	base  string
	now   time.Time
	look  string // theme
}

// ask reads a request.
func (b *Board) ask(c *fiber.Ctx) *request {
	path := strings.TrimPrefix(c.Path(), b.cfg.Base)
	if path == "" {
		path = "/"
	}
	r := &request{c: c, who: b.cfg.Who(c), path: path, base: b.cfg.Base, now: time.Now(), look: c.Cookies(themeCookie)}
	r.query, _ = url.ParseQuery(string(c.Context().QueryArgs().QueryString())) // what cannot be read is left out
	zone, err := url.QueryUnescape(c.Cookies(zoneCookie))
	if err != nil {
		zone = ""
	}
	if tz := r.query.Get("tz"); tz != "" {
		zone = tz
	}
	r.zone = zoneOf(zone)
	return r
}

// zoneOf loads a zone by a name that came from outside; what is none is the
// server's own.
func zoneOf(name string) *time.Location {
	if name == "" || len(name) > 64 || strings.Contains(name, "..") {
		return time.Local
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return time.Local
	}
	return loc
}

func (r *request) theme() string {
	if r.look == "light" || r.look == "dark" {
		return r.look
	}
	return ""
}

// spans are the ranges that every page offers, by their name in the address.
var spans = []struct {
	name string
	word string
	span time.Duration
}{{"15m", "15 m", 15 * time.Minute}, {"1h", "1 h", time.Hour}, {"6h", "6 h", 6 * time.Hour}, {"24h", "24 h", 24 * time.Hour},
	{"7d", "7 d", 7 * 24 * time.Hour}, {"30d", "30 d", 30 * 24 * time.Hour}, {"90d", "90 d", 90 * 24 * time.Hour}, {"400d", "400 d", 400 * 24 * time.Hour}}

// A timeRange is what a page looks at.
type timeRange struct {
	from, to time.Time
	name     string // of the span; "" for a custom one
	word     string
}

// during is the range that the address asks for, or else the one named.
func (r *request) during(otherwise string) timeRange {
	if from, to, ok := r.custom(); ok {
		return timeRange{from: from, to: to, word: from.In(r.zone).Format("2 Jan 15:04") + " to " + to.In(r.zone).Format("2 Jan 15:04")}
	}
	name := r.query.Get("range")
	i := slices.IndexFunc(spans[:], func(s struct {
		name string
		word string
		span time.Duration
	}) bool {
		return s.name == name
	})
	if i < 0 {
		name = otherwise
		for k := range spans {
			if spans[k].name == otherwise {
				i = k
			}
		}
	}
	i = max(i, 0)
	from := r.now.Add(-spans[i].span)
	if spans[i].span == scale.RingLength {
		from = from.Add(5 * time.Second) // the seconds in memory end just there
	}
	return timeRange{from: from, to: r.now, name: spans[i].name, word: spans[i].word}
}

// custom reads from and to, RFC 3339 or what a date field of a form sends.
func (r *request) custom() (from, to time.Time, ok bool) {
	read := func(text string) (time.Time, bool) {
		for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02"} {
			if at, err := time.ParseInLocation(layout, text, r.zone); err == nil {
				return at, true
			}
		}
		return time.Time{}, false
	}
	from, ok = read(r.query.Get("from"))
	if !ok {
		return from, to, false
	}
	if to, ok = read(r.query.Get("to")); !ok {
		to, ok = r.now, true
	}
	return from, to, from.Before(to) && to.Sub(from) <= 401*24*time.Hour
}

// with is the address of the same page with some parameters changed; "" removes
// one.
func (r *request) with(pairs ...string) string {
	q := url.Values{}
	for k, v := range r.query {
		if k != "said" && k != "bad" {
			q[k] = v
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return r.base + r.path
	}
	return r.base + r.path + "?" + q.Encode()
}

// as is the address of the same rows in another form.
func (r *request) as(ending string) string {
	page := r.path
	if page == "/" {
		page = "/overview"
	}
	q := r.with()
	if _, query, ok := strings.Cut(q, "?"); ok {
		return r.base + page + "." + ending + "?" + query
	}
	return r.base + page + "." + ending
}

// rows is the address of one table among several of a page, with what the page was
// asked and, in pairs, what else it takes.
func (r *request) rows(path, ending string, pairs ...string) string {
	q := url.Values{}
	for k, v := range r.query {
		if k != "said" && k != "bad" {
			q[k] = v
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	if len(q) == 0 {
		return r.base + path + "." + ending
	}
	return r.base + path + "." + ending + "?" + q.Encode()
}

// ranges are the links of the range picker.
func (r *request) ranges() (out []ui.Choice) {
	now := r.during(defaultRange(r.path))
	for i := range spans {
		if i > 5 && r.path != "/trends" {
			break
		}
		out = append(out, ui.Choice{Path: r.with("range", spans[i].name, "from", "", "to", ""), Name: spans[i].word, Current: spans[i].name == now.name})
	}
	return out
}

// defaultRange is what a page looks at when nothing was chosen.
func defaultRange(path string) string {
	switch path {
	case "/":
		return "15m"
	case "/log", "/capacity":
		return "7d"
	case "/alerts":
		return "6h"
	}
	return "1h"
}

// back is where a form returns to: this page.
func (r *request) back() string { return strings.TrimPrefix(r.with(), r.base) }

// streamQuery names this page to the stream.
func (r *request) streamQuery() string {
	q := url.Values{"page": {r.path}, "zone": {r.zone.String()}}
	if query := r.query.Encode(); query != "" {
		q.Set("query", query)
	}
	return q.Encode()
}

// said is what came of an action, which the address carries.
func (r *request) said() (text string, bad bool) {
	text = r.query.Get("said")
	if len(text) > 300 {
		text = text[:300]
	}
	return strings.ToValidUTF8(text, ""), r.query.Get("bad") != ""
}

// goTo sends the browser on after a change, to a page of this server only.
func (r *request) goTo(path string) error {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n") {
		path = "/"
	}
	return r.c.Redirect(r.base+path, fiber.StatusSeeOther)
}

// report goes back to a page and tells there what came of an action.
func (r *request) report(path string, done string, err error) error {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		path = "/"
	}
	u, bad := url.URL{}, parseInto(path)
	if bad != nil {
		u = *bad
	}
	q := u.Query()
	q.Set("said", done)
	q.Del("bad")
	if err != nil {
		gate.NoteFailed(r.c, account.Refused, err.Error())
		q.Set("said", err.Error())
		q.Set("bad", "1")
	}
	u.RawQuery = q.Encode()
	return r.goTo(u.RequestURI())
}

func parseInto(path string) *url.URL {
	u, err := url.Parse(path)
	if err != nil {
		return &url.URL{Path: "/"}
	}
	return u
}

// clock writes a time for people, in the visitor's zone.
func (r *request) clock(at time.Time) string { return at.In(r.zone).Format("15:04") }

// stamp writes a time with its day unless it is today.
func (r *request) stamp(at time.Time) string {
	at = at.In(r.zone)
	if now := r.now.In(r.zone); at.YearDay() == now.YearDay() && at.Year() == now.Year() {
		return at.Format("15:04:05")
	}
	return at.Format("Mon 2 Jan 15:04")
}

// day writes a time to the minute, or other words for none.
func (r *request) day(at time.Time, none string) string {
	if at.IsZero() {
		return none
	}
	return at.In(r.zone).Format("2006-01-02 15:04")
}
