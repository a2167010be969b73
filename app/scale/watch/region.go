package watch

import (
	"context"
	"slices"
	"strings"
	"time"

	"agentnet/app/scale"
)

// In a fleet of several regions each scales by its own demand, and ahead by its own
// forecast: noon of one is midnight of another. Each node keeps the sum of its own
// region beside that of the fleet, one row more in each span, however many regions
// there are. Once a fleet has had two regions it goes on with that, also while the
// other one is not heard.

// regionMark begins the name under which a region's sums are stored. No node's name
// may begin so.
const regionMark = "@"

func (s *Service) ownRows() string { return regionMark + s.cfg.Region }

// RegionOutlook is what the forecast says of this node's own region.
type RegionOutlook struct {
	Region   string         `json:"region"`
	Good     bool           `json:"good" doc:"Its own backtest is good enough to scale this region ahead by it."`
	Why      string         `json:"why"`
	Accuracy scale.Accuracy `json:"accuracy"`
	Next     []Predicted    `json:"next" doc:"The coming day."`
}

// countRegion takes a second of this region into its rings and spans. s.mu is held.
func (s *Service) countRegion(now time.Time, f *scale.Fleet) {
	if s.cfg.Others == nil {
		return
	}
	s.regional = s.regional || len(f.Regions()) > 1
	if !s.regional {
		return
	}
	part := f.Region(s.cfg.Region)
	if len(part.Nodes) == 0 {
		return
	}
	slot := scale.SlotOf(&part)
	slot.At = now
	s.count(now, s.ownRows(), slot)
}

// learnRegion forecasts this region by its own history, once there are several.
// Until that is long enough the region is not scaled ahead at all.
func (s *Service) learnRegion(ctx context.Context, next *outlook, from, to time.Time, span time.Duration) error {
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
	points, err := s.points(ctx, from, to, span, []string{s.ownRows()}, []scale.Signal{scale.Connections})
	if err != nil {
		return err
	}
	for i := range points {
		points[i].Node = "" // all that this region is
	}
	series, err := scale.SeriesOf(points, scale.Connections, span)
	if err == nil {
		var f scale.Forecast
		if f, err = scale.ForecastOf(scale.Connections, series, horizon); err == nil {
			next.own = &f
		}
	}
	if err != nil {
		next.ownWhy = err.Error() // not enough history is no failure
	}
	return nil
}

// region tells the forecast of this region; nil where there is only one.
func (o *outlook) region(name string) *RegionOutlook {
	if !o.regional {
		return nil
	}
	out := &RegionOutlook{Region: name, Why: o.ownWhy, Next: []Predicted{}}
	if o.own != nil {
		out.Accuracy, out.Good, out.Why = o.own.Accuracy, o.own.Accuracy.Good, o.own.Accuracy.Why
		out.Next = dayAhead(o.own)
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
