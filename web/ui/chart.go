package ui

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// The drawing area of a panel's data in its own units; the browser stretches it,
// text and strokes stay as they are.
const (
	chartWidth = 1440
	headHeight = 36 // of a panel's heading
	axisHeight = 24 // of the time axis
	markHeight = 24 // of the numbered events on top
)

// Chart is one or more panels over one time axis. Two units are two panels, never
// two axes of one.
type Chart struct {
	ID     string // unique in the page
	Title  string
	Desc   string // the finding in words, for those who do not see it
	From   time.Time
	To     time.Time
	Zone   *time.Location
	Panels []Panel
	Events []Mark
}

// Panel is one quantity.
type Panel struct {
	Head   string // with the unit
	Height int    // of the data; 0: 120
	Top    float64
	Low    float64 // where the axis begins; 0 unless the axis says otherwise
	Format func(float64) string
	Bytes  bool // values are bytes: the axis has round numbers of one binary unit
	Lines  []Line
	Bands  []Band
	Limits []Limit
	Spans  []Span
}

// Line is one measured or expected line.
type Line struct {
	Name   string // shown in the heading when there are several
	Class  string // "ln", "ln ln2", "th" for what is expected
	Area   bool   // the ground below is tinted
	Step   bool   // values hold until the next
	End    bool   // the last point is marked
	Points []Point
	Gap    time.Duration // points further apart are not joined; 0: all are
}

// Point is a value at a time.
type Point struct {
	At time.Time
	V  float64
}

// Band is a range, such as the likely one of a forecast.
type Band struct{ Low, High []Point }

// Limit is a dashed line across.
type Limit struct {
	V     float64
	Label string
	Kind  string // "", warn, crit
}

// Span is a time that is tinted: an alert was firing, or the time after an event.
type Span struct {
	From, To time.Time
	Class    string // hot, aft
}

// Mark is a numbered event.
type Mark struct {
	At time.Time
	No int
}

// The drawn form of a chart, which the template writes down.
type drawn struct {
	height int
	panels []drawnPanel
	ticks  []tick
	marks  []tick
	foot   int // where the last panel ends
	top    int
}

type drawnPanel struct {
	Panel
	head, top, bottom int
	grid              []tick
	lines             []string
	areas             []string
	ends              []string
	bands             []string
	limits            []drawnLimit
	spans             []drawnSpan
}

type drawnLimit struct {
	Limit
	y float64
}

type drawnSpan struct{ x, width, class string }

// A tick is a label at a place in percent or pixels.
type tick struct {
	at    string
	y     float64
	label string
	minor bool // left out where there is little room
	base  bool // the axis itself
}

func (c *Chart) draw() *drawn {
	d := &drawn{}
	y := 0
	if len(c.Events) > 0 {
		y = markHeight
		d.top = markHeight
		for _, m := range c.Events {
			d.marks = append(d.marks, tick{at: c.place(m.At), label: strconv.Itoa(m.No)})
		}
	}
	for i := range c.Panels {
		p := c.panel(&c.Panels[i], y)
		d.panels = append(d.panels, p)
		y = p.bottom + 8
	}
	d.foot = y - 8
	d.height = d.foot + axisHeight
	d.ticks = c.timeTicks()
	return d
}

// place is the place of a time on the axis, in percent.
func (c *Chart) place(at time.Time) string {
	return percent(min(max(c.share(at), 0), 1))
}

func (c *Chart) share(at time.Time) float64 {
	span := c.To.Sub(c.From)
	if span <= 0 {
		return 0
	}
	return float64(at.Sub(c.From)) / float64(span)
}

func (c *Chart) panel(p *Panel, y int) drawnPanel {
	if p.Height == 0 {
		p.Height = 120
	}
	if p.Format == nil {
		p.Format = Rate
	}
	out := drawnPanel{Panel: *p, head: y + 14}
	out.top = y + headHeight
	if p.Head == "" {
		out.top = y + 12
	}
	out.bottom = out.top + p.Height
	top := p.ceiling()
	step, label := p.axis(top)
	top = p.Low + step*math.Ceil((top-p.Low)/step-1e-9)
	scale := func(v float64) float64 { return float64(p.Height) * (1 - (v-p.Low)/(top-p.Low)) }
	for v := p.Low; v <= top+step/1000; v += step {
		out.grid = append(out.grid, tick{y: float64(out.top) + scale(v), label: label(v), base: v == p.Low})
	}
	for _, l := range p.Lines {
		line := c.path(l.Points, l.Gap, l.Step, scale)
		out.lines = append(out.lines, line)
		area, end := "", ""
		if l.Area {
			area = c.area(l.Points, l.Gap, l.Step, scale, p.Height)
		}
		if n := len(l.Points); l.End && n > 0 && !math.IsNaN(l.Points[n-1].V) && !math.IsInf(l.Points[n-1].V, 0) {
			end = "M" + number(chartWidth*c.share(l.Points[n-1].At)) + " " + number(scale(l.Points[n-1].V)) + "h0"
		}
		out.areas, out.ends = append(out.areas, area), append(out.ends, end)
	}
	for _, b := range p.Bands {
		out.bands = append(out.bands, c.ribbon(b, scale))
	}
	for _, l := range p.Limits {
		out.limits = append(out.limits, drawnLimit{l, float64(out.top) + scale(l.V)})
	}
	for _, s := range p.Spans {
		from, to := min(max(c.share(s.From), 0), 1), min(max(c.share(s.To), 0), 1)
		out.spans = append(out.spans, drawnSpan{percent(from), percent(max(to-from, 0.002)), s.Class})
	}
	return out
}

// ceiling is the largest value that must fit.
func (p *Panel) ceiling() float64 {
	top := p.Top
	see := func(points []Point) {
		for _, pt := range points {
			if !math.IsNaN(pt.V) && !math.IsInf(pt.V, 0) {
				top = max(top, pt.V)
			}
		}
	}
	for _, l := range p.Lines {
		see(l.Points)
	}
	for _, b := range p.Bands {
		see(b.High)
	}
	for _, l := range p.Limits {
		top = max(top, l.V)
	}
	if top <= p.Low {
		top = p.Low + 1
	}
	return top
}

// niceStep rounds a step up to 1, 2 or 5 of its power of ten.
func niceStep(raw float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5, 10} {
		if raw <= f*power*1.0001 {
			return f * power
		}
	}
	return 10 * power
}

// runs cuts points where a value is missing.
func runs(points []Point, gap time.Duration) (out [][]Point) {
	begin := 0
	for i := range points {
		if i > begin && gap > 0 && points[i].At.Sub(points[i-1].At) > gap {
			out = append(out, points[begin:i])
			begin = i
		}
		if math.IsNaN(points[i].V) || math.IsInf(points[i].V, 0) {
			if i > begin {
				out = append(out, points[begin:i])
			}
			begin = i + 1
		}
	}
	if begin < len(points) {
		out = append(out, points[begin:])
	}
	return out
}

func (c *Chart) path(points []Point, gap time.Duration, step bool, scale func(float64) float64) string {
	var b strings.Builder
	for _, run := range runs(points, gap) {
		c.trace(&b, run, step, 'M', scale)
		if len(run) == 1 {
			b.WriteString("h2")
		}
	}
	return b.String()
}

func (c *Chart) trace(b *strings.Builder, run []Point, step bool, first byte, scale func(float64) float64) {
	for i, pt := range run {
		x, y := number(chartWidth*c.share(pt.At)), number(scale(pt.V))
		switch {
		case i == 0:
			b.WriteByte(first)
		case step:
			b.WriteString("H" + x + "V" + y)
			continue
		default:
			b.WriteByte('L')
		}
		b.WriteString(x + " " + y)
	}
}

func (c *Chart) area(points []Point, gap time.Duration, step bool, scale func(float64) float64, height int) string {
	var b strings.Builder
	for _, run := range runs(points, gap) {
		c.trace(&b, run, step, 'M', scale)
		b.WriteString("V" + strconv.Itoa(height) + "H" + number(chartWidth*c.share(run[0].At)) + "z")
	}
	return b.String()
}

func (c *Chart) ribbon(band Band, scale func(float64) float64) string {
	var b strings.Builder
	if len(band.Low) == 0 || len(band.High) == 0 {
		return ""
	}
	c.trace(&b, band.High, false, 'M', scale)
	for i := len(band.Low) - 1; i >= 0; i-- {
		b.WriteString("L" + number(chartWidth*c.share(band.Low[i].At)) + " " + number(scale(band.Low[i].V)))
	}
	return b.String() + "z"
}

// clockSteps are the distances between labels of the time axis.
var clockSteps = [...]time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour}

// timeTicks labels the axis at round times of the zone. Days are counted by the
// calendar, so that they begin at midnight when a clock is changed too.
func (c *Chart) timeTicks() (out []tick) {
	zone := c.Zone
	if zone == nil {
		zone = time.UTC
	}
	span := c.To.Sub(c.From)
	if span <= 0 {
		return nil
	}
	add := func(at time.Time, layout string) {
		if s := c.share(at); s >= 0.02 && s <= 0.98 {
			out = append(out, tick{at: percent(s), label: at.Format(layout), minor: len(out)%2 == 1})
		}
	}
	for _, step := range clockSteps {
		if span/step > 8 {
			continue
		}
		layout := "15:04"
		if step < time.Minute {
			layout = "15:04:05"
		}
		from := c.From.In(zone)
		day := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, zone)
		for at := day; at.Before(c.To); at = at.Add(step) {
			if at.In(zone).Hour() == 0 && at.In(zone).Minute() == 0 && span > 12*time.Hour {
				add(at.In(zone), "2 Jan")
			} else {
				add(at.In(zone), layout)
			}
		}
		return out
	}
	c.dayTicks(zone, span, add)
	return out
}

func (c *Chart) dayTicks(zone *time.Location, span time.Duration, add func(time.Time, string)) {
	days := max(1, int(span/(24*time.Hour))/7)
	from := c.From.In(zone)
	if days > 21 {
		for at := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, zone); at.Before(c.To); at = at.AddDate(0, 1+days/62, 0) {
			add(at, "Jan 2006")
		}
		return
	}
	for at := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, zone); at.Before(c.To); at = at.AddDate(0, 0, days) {
		add(at, "2 Jan")
	}
}

func pixels(y float64) string { return strconv.FormatFloat(y, 'f', 1, 64) }
