package watch

import (
	"context"
	"slices"
	"strings"
	"time"

	"agentnet/app/scale"
)

// In a fleet of several regions each scales by its own demand, and ahead by its own
// forecast: noon of one is midnight of another. Each node keeps the sum of each
// region beside that of the fleet, one row more in each span for a region, of
// maxRegions at most, its own always among them: any node can show the forecast of
// all, although it scales its own region only. Once a fleet has had two regions it goes on with that, also while the
// other one is not heard.

// regionMark begins the name under which a region's sums are stored. No node's name
// may begin so.
const regionMark = "@"

// maxRegions bounds the regions of which rows are kept and forecasts made.
const maxRegions = 16

func (s *Service) ownRows() string { return regionMark + s.cfg.Region }

// RegionOutlook is what the forecast says of one region.
type RegionOutlook struct {
	Region   string         `json:"region"`
	Own      bool           `json:"own" doc:"It is that of the node that answered, which scales it ahead."`
	Good     bool           `json:"good" doc:"Its own backtest is good enough to scale this region ahead by it."`
	Why      string         `json:"why"`
	Accuracy scale.Accuracy `json:"accuracy"`
	Next     []Predicted    `json:"next" doc:"The coming day."`
	Recent   []Predicted    `json:"recent" doc:"The last day as it would have been forecast before it, beside what came."`
}

// RegionRows is the name under which the history of a region is asked for.
func RegionRows(region string) string { return regionMark + region }

// regional is what was learnt of one region.
type regional struct {
	name     string
	forecast *scale.Forecast // nil: see why
	why      string
	recent   []Predicted
}

// countRegions takes a second of each region into its rings and spans. s.mu is held.
func (s *Service) countRegions(now time.Time, f *scale.Fleet) {
	if s.cfg.Others == nil {
		return
	}
	s.regional = s.regional || len(f.Regions()) > 1
	if !s.regional {
		return
	}
	others := 1
	for _, name := range f.Regions() {
		if name != s.cfg.Region {
			if others++; others > maxRegions {
				continue
			}
		}
		part := f.Region(name)
		slot := scale.SlotOf(&part)
		slot.At = now
		s.count(now, RegionRows(name), slot)
	}
}

// learnRegions forecasts each region by its own history, once there are several.
// Until that of this one is long enough it is not scaled ahead at all.
func (s *Service) learnRegions(ctx context.Context, next *outlook, from, to time.Time, span time.Duration) error {
	next.own = next.forecast
	if s.cfg.Others == nil {
		return nil
	}
	names, err := s.cfg.Store.SampleNodes(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.regional = s.regional || slices.Contains(names, s.ownRows())
	next.regional = s.regional
	s.mu.Unlock()
	if !next.regional {
		return nil
	}
	next.own = nil
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, regionMark) || name == s.ownRows() })
	for _, rows := range append([]string{s.ownRows()}, names[:min(len(names), maxRegions-1)]...) {
		one, err := s.learnRegion(ctx, rows, from, to, span)
		if err != nil {
			return err
		}
		if one == nil {
			continue // it left long ago
		}
		if rows == s.ownRows() {
			next.own, next.ownWhy = one.forecast, one.why
		}
		next.regions = append(next.regions, *one)
	}
	return nil
}

// learnRegion forecasts one region; nil where another one has no history any more.
func (s *Service) learnRegion(ctx context.Context, rows string, from, to time.Time, span time.Duration) (*regional, error) {
	points, err := s.points(ctx, from, to, span, []string{rows}, []scale.Signal{scale.Connections})
	if err != nil || len(points) == 0 && rows != s.ownRows() {
		return nil, err
	}
	for i := range points {
		points[i].Node = "" // all that this region is
	}
	out := &regional{name: strings.TrimPrefix(rows, regionMark)}
	series, err := scale.SeriesOf(points, scale.Connections, span)
	if err == nil {
		var f scale.Forecast
		if f, err = scale.ForecastOf(scale.Connections, series, horizon); err == nil {
			out.forecast, out.recent = &f, hindcast(series)
		}
	}
	if err != nil {
		out.why = err.Error() // not enough history is no failure
	}
	return out, nil
}

// region tells the forecast of this region; nil where there is only one.
func (o *outlook) region(name string) *RegionOutlook {
	if !o.regional {
		return nil
	}
	out := regionOutlook(&regional{name: name, forecast: o.own, why: o.ownWhy})
	for i := range o.regions {
		if r := &o.regions[i]; r.name == name && r.recent != nil {
			out.Recent = r.recent
		}
	}
	out.Own = true
	return &out
}

// all tells the forecasts of all regions, this one first.
func (o *outlook) all(own string) []RegionOutlook {
	out := make([]RegionOutlook, 0, len(o.regions))
	for i := range o.regions {
		out = append(out, regionOutlook(&o.regions[i]))
		out[i].Own = out[i].Region == own
	}
	return out
}

func regionOutlook(r *regional) RegionOutlook {
	out := RegionOutlook{Region: r.name, Why: r.why, Next: []Predicted{}, Recent: []Predicted{}}
	if r.recent != nil {
		out.Recent = r.recent
	}
	if r.forecast != nil {
		out.Accuracy, out.Good, out.Why = r.forecast.Accuracy, r.forecast.Accuracy.Good, r.forecast.Accuracy.Why
		out.Next = dayAhead(r.forecast)
	}
	return out
}

// dayAhead is the coming day of a forecast.
func dayAhead(f *scale.Forecast) []Predicted {
	out := []Predicted{}
	for _, p := range f.Ahead(int(24 * time.Hour / scale.Resolutions()[2].Span)) {
		out = append(out, Predicted{At: p.At, Value: p.Value, Low: p.Low, High: p.High})
	}
	return out
}

// onlyNodes leaves out the rows that are sums of regions.
func onlyNodes(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, regionMark) })
}
