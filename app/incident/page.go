package incident

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"time"

	"agentnet/app/scale"
)

//go:embed page.html.tmpl
var pageSource string

//go:embed page.css
var pageStyle string

type pageData struct {
	Style    template.CSS
	Title    string
	Headline string
	From     string
	Chart    template.HTML
	Sections []pageSection
	Ask      []string
}

type pageSection struct {
	Heading, Intro, Empty string
	Columns               []string
	Rows                  [][]string
}

// HTML writes the report as one page that needs nothing else.
func (r *Report) HTML() (string, error) {
	t, err := template.New("page").Parse(pageSource)
	if err != nil {
		return "", fmt.Errorf("page of the report: %w", err)
	}
	d := pageData{Style: template.CSS(pageStyle), Title: r.title(), Headline: r.Headline(), Chart: template.HTML(r.chart()), Ask: questions[:],
		From: fmt.Sprintf("Drawn from %s of the scaling log (%s) at %s UTC.", entries(r.Entries), strings.Join(r.Origins, ", "), r.Made.Format(clock))}
	for _, s := range r.sections() {
		d.Sections = append(d.Sections, pageSection{s.heading, s.intro, s.empty, s.columns, s.rows})
	}
	var b strings.Builder
	if err := t.Execute(&b, d); err != nil {
		return "", fmt.Errorf("page of the report: %w", err)
	}
	return b.String(), nil
}

const (
	chartWidth = 960
	barHeight  = 22
	labelWidth = 200
	maxBars    = 20
)

// chart draws the alerts as bars over time and the actions as marks. It holds
// numbers and escaped names only.
func (r *Report) chart() string {
	span := r.To.Sub(r.From).Seconds()
	if span <= 0 || len(r.Alerts)+len(r.Decisions) == 0 {
		return ""
	}
	bars := r.Alerts[:min(len(r.Alerts), maxBars)]
	height := (len(bars)+1)*barHeight + 24
	x := func(seconds float64) float64 {
		return labelWidth + (chartWidth-labelWidth)*min(max(seconds/span, 0), 1)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-labelledby="ct"><title id="ct">Alerts as bars over time, changes of the count as marks; the tables below hold the same</title>`, chartWidth, height)
	for i := range bars {
		a := &bars[i]
		class := "warning"
		if a.Severity == scale.Critical {
			class = "critical"
		}
		end := a.Ended
		if end.IsZero() {
			end = r.To
		}
		from, to := x(a.Fired.Sub(r.From).Seconds()), x(end.Sub(r.From).Seconds())
		fmt.Fprintf(&b, `<text x="0" y="%d">%s</text><rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`,
			i*barHeight+15, template.HTMLEscapeString(a.Key), class, from, i*barHeight+4, max(to-from, 2), barHeight-8)
	}
	y := len(bars) * barHeight
	fmt.Fprintf(&b, `<text x="0" y="%d">count</text>`, y+15)
	for i := range r.Decisions[:min(len(r.Decisions), 200)] {
		d := &r.Decisions[i]
		class := "up"
		if d.To < d.From {
			class = "down"
		}
		fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%d" r="5"><title>%d to %d</title></circle>`, class, x(d.At.Sub(r.From).Seconds()), y+11, d.From, d.To)
	}
	for i := range 5 {
		at := r.From.Add(r.To.Sub(r.From) * time.Duration(i) / 4)
		fmt.Fprintf(&b, `<text class="axis" x="%.1f" y="%d" text-anchor="middle">%s</text>`, min(max(x(at.Sub(r.From).Seconds()), labelWidth+20), chartWidth-20), height-4, at.Format("15:04"))
	}
	return b.String() + "</svg>"
}
