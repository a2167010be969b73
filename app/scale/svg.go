package scale

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// A chart is panels on one time axis, drawn in the language of the dashboard: x
// in percent, y in pixels, and the data in a nested svg that stretches, so that
// lines fill any width and neither text nor strokes are ever distorted. Classes
// carry all colour.
type chart struct {
	title, desc string
	from, to    time.Time
	panels      []panel
	events      []mark
}

// A panel is one quantity with one unit.
type panel struct {
	title  string
	lines  []line
	limits []limit              // lowest first
	format func(float64) string // of axis labels
	least  float64              // the axis reaches at least this far
}

// A line is drawn through its points; a NaN breaks it.
type line struct {
	name  string
	class string // ln, ln ln2, th
	key   string // k1, k2: the class of its name
	area  bool
	steps bool
	at    []time.Time
	y     []float64
}

type limit struct {
	value float64
	name  string
	class string // warn, crit or empty
}

// A mark is a numbered event, drawn through all panels.
type mark struct {
	at     time.Time
	number int
}

// Geometry in pixels: the plot of a panel, the heading above it, and the strips
// for the numbers on top and the times below.
const (
	plotHeight = 120
	headHeight = 36
	topStrip   = 24
	lowStrip   = 24
	plotWidth  = 1000 // of the nested viewBox

	labelHeight = 14 // limits nearer than this share the label of the higher
)

// SVG draws the chart.
func (c *chart) svg(id string) string {
	var b strings.Builder
	height := topStrip + len(c.panels)*(headHeight+plotHeight) + lowStrip
	fmt.Fprintf(&b, `<svg class="chart" xmlns="http://www.w3.org/2000/svg" width="100%%" height="%d" role="img" aria-labelledby="%s-t %s-d">`, height, id, id)
	fmt.Fprintf(&b, `<title id="%s-t">%s</title><desc id="%s-d">%s</desc>`, id, html.EscapeString(c.title), id, html.EscapeString(c.desc))
	for _, e := range c.events {
		x := c.percent(e.at)
		fmt.Fprintf(&b, `<line class="ev" x1="%s" x2="%s" y1="%d" y2="%d"/>`, x, x, topStrip, height-lowStrip)
	}
	for i := range c.panels {
		c.panel(&b, &c.panels[i], topStrip+i*(headHeight+plotHeight)+headHeight)
	}
	for _, e := range c.events {
		x := c.percent(e.at)
		fmt.Fprintf(&b, `<circle class="no" cx="%s" cy="12" r="9"/><text class="m n" x="%s" y="16">%d</text>`, x, x, e.number)
	}
	c.times(&b, height-6)
	b.WriteString(`</svg>`)
	return b.String()
}

// share is where a time lies on the axis, 0 to 1.
func (c *chart) share(at time.Time) float64 {
	if whole := c.to.Sub(c.from); whole > 0 {
		return min(max(at.Sub(c.from).Seconds()/whole.Seconds(), 0), 1)
	}
	return 0
}

func (c *chart) percent(at time.Time) string { return number(c.share(at)*100) + "%" }

// number writes a coordinate with one decimal at most.
func number(v float64) string {
	if !finite(v) {
		return "0"
	}
	return trimZero(fmt.Sprintf("%.1f", v))
}

func (c *chart) panel(b *strings.Builder, p *panel, top int) {
	highest := p.least
	for _, l := range p.lines {
		for _, v := range l.y {
			if finite(v) {
				highest = math.Max(highest, v)
			}
		}
	}
	ticks := niceTicks(highest)
	scale := plotHeight / ticks[len(ticks)-1]
	bottom := top + plotHeight
	for i, t := range ticks {
		class := "gr"
		if i == 0 {
			class = "ax"
		}
		y := number(float64(bottom) - t*scale)
		fmt.Fprintf(b, `<line class="%s" x1="0" x2="100%%" y1="%s" y2="%s"/><text class="e" x="-8" y="%s">%s</text>`, class, y, y,
			number(float64(bottom)-t*scale+4), html.EscapeString(p.format(t)))
	}
	labelled := math.Inf(1)
	for i := len(p.limits) - 1; i >= 0; i-- {
		l := p.limits[i]
		if l.value > ticks[len(ticks)-1] {
			continue
		}
		y := number(float64(bottom) - l.value*scale)
		fmt.Fprintf(b, `<line class="th %s" x1="0" x2="100%%" y1="%s" y2="%s"/>`, l.class, y, y)
		if (labelled-l.value)*scale >= labelHeight {
			labelled = l.value
			fmt.Fprintf(b, `<text class="lb e" x="100%%" y="%s">%s</text>`, number(float64(bottom)-l.value*scale-4), html.EscapeString(l.name))
		}
	}
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %d" x="0" y="%d" width="100%%" height="%d" preserveAspectRatio="none">`, plotWidth, plotHeight, top, plotHeight)
	for i := range p.lines {
		c.line(b, &p.lines[i], scale)
	}
	b.WriteString(`</svg>`)
	fmt.Fprintf(b, `<text class="hd" x="-48" y="%d">%s`, top-14, html.EscapeString(p.title))
	for _, l := range p.lines {
		fmt.Fprintf(b, `<tspan class="%s" dx="16">%s</tspan>`, l.key, html.EscapeString(dash(l.class)+l.name))
	}
	b.WriteString(`</text>`)
}

// dash shows in a name how its line looks.
func dash(class string) string {
	if strings.HasPrefix(class, "th") {
		return "┄ "
	}
	return "— "
}

func (c *chart) line(b *strings.Builder, l *line, scale float64) {
	var d strings.Builder
	first, last, lastY := math.NaN(), 0.0, 0.0
	broken := true
	for i, at := range l.at {
		v := l.y[i]
		if !finite(v) {
			broken = true
			continue
		}
		x, y := c.share(at)*plotWidth, plotHeight-v*scale
		switch {
		case broken:
			fmt.Fprintf(&d, "M%s %s", number(x), number(y))
			if math.IsNaN(first) {
				first = x
			}
		case l.steps && y != lastY:
			fmt.Fprintf(&d, "H%sV%s", number(x), number(y))
		case l.steps && i < len(l.at)-1:
			// A step line says where it turns; the points between say nothing new.
		default:
			fmt.Fprintf(&d, "L%s %s", number(x), number(y))
		}
		broken, last, lastY = false, x, y
	}
	if math.IsNaN(first) {
		return
	}
	if l.area {
		fmt.Fprintf(b, `<path class="ar" d="%sV%dH%sz"/>`, d.String(), plotHeight, number(first))
	}
	if l.steps {
		fmt.Fprintf(&d, "H%s", number(last))
	}
	fmt.Fprintf(b, `<path class="%s" d="%s"/>`, l.class, d.String())
}

// times labels the axis at round times, at most nine.
func (c *chart) times(b *strings.Builder, y int) {
	every := timeTick(c.to.Sub(c.from))
	layout := "15:04"
	if every >= dayLength {
		layout = "2 Jan"
	}
	at := c.from.UTC().Truncate(every)
	if at.Before(c.from) {
		at = at.Add(every)
	}
	for i := 0; !at.After(c.to); i++ {
		class := "m"
		switch s := c.share(at); {
		case s < 0.02:
			class = ""
		case s > 0.98:
			class = "e"
		}
		if i%2 == 1 {
			class += " opt" // left out on phones
		}
		fmt.Fprintf(b, `<text class="%s" x="%s" y="%d">%s</text>`, class, c.percent(at), y, at.UTC().Format(layout))
		at = at.Add(every)
	}
}

// timeTick is the shortest round time of which eight fill a length.
func timeTick(length time.Duration) time.Duration {
	for _, t := range []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour,
		2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, dayLength, 2 * dayLength, weekLength, 2 * weekLength, 4 * weekLength} {
		if length <= 8*t {
			return t
		}
	}
	return 8 * weekLength
}

// niceTicks are three to five round values from zero to above highest.
func niceTicks(highest float64) []float64 {
	if !(highest > 0) || math.IsInf(highest, 0) {
		highest = 1
	}
	base := math.Pow(10, math.Floor(math.Log10(highest)))
	step := base
	for _, f := range []float64{0.2, 0.25, 0.5, 1, 2, 2.5, 5} {
		if step = f * base; math.Ceil(highest/step) <= 4 {
			break
		}
	}
	var out []float64
	for i := 0; ; i++ {
		out = append(out, step*float64(i))
		if step*float64(i) >= highest && i >= 2 {
			return out
		}
	}
}
