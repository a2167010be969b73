package watch_test

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/store"
)

// sized reads a size of the long form, or takes that of the short one.
func sized(t *testing.T, variable string, short int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s: %q is not a number above 0", variable, text)
	}
	return n
}

// figure reports one line, to the test log and to the record of a long run.
func figure(t *testing.T, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	path := os.Getenv("E2E_FIGURES")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "- %s\n", line); err != nil {
		t.Fatal(err)
	}
}

// TestLongHistory fills a database with everything that a fleet leaves in HISTORY_DAYS
// days, at every resolution, and measures what reading and keeping it costs. The
// long form (sh scripts/soak.sh history) is 400 days of 20 nodes.
func TestLongHistory(t *testing.T) {
	days, nodes := sized(t, "HISTORY_DAYS", 40), sized(t, "HISTORY_NODES", 2)
	p := &past{t: t, dir: t.TempDir(), end: time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour), days: days, nodes: nodes}
	p.open()
	began := time.Now()
	rows := p.fill()
	took := time.Since(began)
	p.close()
	p.open()
	size, _ := p.db.Size()
	figure(t, "%d days of %d nodes and the fleet under a load that never rests: %d rows in %s, %.2f GB: %.0f bytes a row, %.1f MB a node, %.1f KB a node and day; bound by default 4 GiB",
		days, nodes, rows, took.Round(time.Second), float64(size)/1e9, float64(size)/float64(rows), float64(size)/1e6/float64(nodes+1), float64(size)/1e3/float64(nodes+1)/float64(days))
	p.chill()
	began = time.Now()
	if err := p.service().CatchUp(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	figure(p.t, "looking for what was not summed up, once at a start, beside other work: %s", short(time.Since(began)))
	p.queries()
	p.upkeep()
	p.forecast()
	p.close()
	if err := os.Remove(filepath.Join(p.dir, store.FileName)); err != nil {
		t.Error(err)
	}
}

// past is a made-up history and the database that it lies in.
type past struct {
	t           *testing.T
	dir         string
	end         time.Time
	days, nodes int
	db          *store.Store
}

func (p *past) open() {
	p.t.Helper()
	db, err := store.Open(p.t.Context(), store.Config{Dir: p.dir})
	if err != nil {
		p.t.Fatal(err)
	}
	p.db = db
}

func (p *past) close() {
	p.t.Helper()
	if err := p.db.Close(); err != nil {
		p.t.Error(err)
	}
}

// name of a series; 0 is the fleet.
func (p *past) name(i int) string {
	if i == 0 {
		return ""
	}
	return fmt.Sprintf("node-%02d", i)
}

// fill stores rows of every resolution in the order of time, all series of a moment
// together, as they come in life.
func (p *past) fill() (total int) {
	const batch = 4096
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, tier := range slices.Backward(scale.Resolutions()) {
		patterns := patternsOf(rnd, tier.Span, p.nodes)
		keep := min(tier.Keep, time.Duration(p.days)*24*time.Hour)
		rows := make([]scale.NodeRollup, 0, batch)
		put := func() {
			if err := p.db.PutRollups(p.t.Context(), rows, nil, p.end, 0); err != nil {
				p.t.Fatal(err)
			}
			total, rows = total+len(rows), rows[:0]
		}
		for at := p.end.Add(-keep).Truncate(tier.Span); at.Before(p.end); at = at.Add(tier.Span) {
			for i := range p.nodes + 1 {
				r := patterns[min(i, 1)][at.Hour()][rnd.IntN(variants)]
				r.From = at
				if rows = append(rows, scale.NodeRollup{Node: p.name(i), Rollup: r}); len(rows) == batch {
					put()
				}
			}
		}
		put()
	}
	return total
}

// variants is how many different rows there are of each hour of the day.
const variants = 4

// patternsOf makes rows of the fleet [0] and of a node [1] by the hour of the day,
// from seconds of a load that wanders around a daily curve.
func patternsOf(rnd *rand.Rand, span time.Duration, nodes int) (out [2][24][variants]scale.Rollup) {
	seconds := int(span / time.Second)
	for kind, size := range [2]float64{float64(nodes), 1} {
		for hour := range 24 {
			day := 0.6 + 0.4*math.Sin(float64(hour-9)/24*2*math.Pi)
			for v := range variants {
				r := &out[kind][hour][v]
				r.Span = span
				level := day * (0.9 + 0.2*rnd.Float64())
				for range min(seconds, 900) {
					level = min(max(level*(0.995+0.01*rnd.Float64()), 0.1), 1.5)
					slot := secondOf(rnd, level, size)
					r.Add(&slot)
				}
			}
		}
	}
	return out
}

// secondOf is one second at a share of the usual load.
func secondOf(rnd *rand.Rand, level, size float64) scale.Slot {
	s := scale.Slot{Instances: int(size)}
	noise := func(share float64) float64 { return level * (1 - share + 2*share*rnd.Float64()) }
	s.Values.Set(scale.Connections, math.Round(180*size*level))
	s.Values.Set(scale.CPU, 0.5*noise(0.4))
	s.Values.Set(scale.Memory, 0.4+0.2*noise(0.02))
	s.Values.Set(scale.MemoryBytes, math.Round((8e8+4e8*noise(0.02))*size))
	s.Values.Set(scale.MemoryLimit, 2<<30*size)
	s.Values.Set(scale.KernelMemory, 0.01*noise(0.5))
	s.Values.Set(scale.MessagesIn, math.Round(60*size*noise(0.3)))
	s.Values.Set(scale.MessagesOut, math.Round(240*size*noise(0.3)))
	s.Values.Set(scale.BytesIn, math.Round(60_000*size*noise(0.4)))
	s.Values.Set(scale.BytesOut, math.Round(240_000*size*noise(0.4)))
	s.Values.Set(scale.ErrorRate, max(0, 0.002*noise(0.9)-0.002))
	s.Values.Set(scale.QueueBytes, math.Round(4000*size*noise(0.9)))
	s.Values.Set(scale.AcceptRate, math.Round(2*size*noise(0.9)))
	s.Values.Set(scale.RefusedRate, 0)
	s.Values.Set(scale.Reconnects, 0.3*noise(0.5))
	s.Values.Set(scale.Broker, 1)
	s.Values.Set(scale.Descriptors, 0.01*level)
	for range 30 {
		s.Delivery.Observe(time.Duration((0.2+rnd.ExpFloat64())*level*float64(2*time.Millisecond)), uint64(size))
	}
	s.API.Observe(time.Duration((0.3+rnd.ExpFloat64())*float64(5*time.Millisecond)), 1)
	for sig, q := range map[scale.Signal]float64{scale.DeliveryP50: 0.5, scale.DeliveryP95: 0.95, scale.DeliveryP99: 0.99} {
		s.Values.Set(sig, s.Delivery.Quantile(q).Seconds())
	}
	for sig, q := range map[scale.Signal]float64{scale.APIP50: 0.5, scale.APIP95: 0.95, scale.APIP99: 0.99} {
		s.Values.Set(sig, s.API.Quantile(q).Seconds())
	}
	return s
}

// service is an engine on the database that does not run.
func (p *past) service() *watch.Service {
	p.t.Helper()
	made := newLoad("node-01")
	s, err := watch.New(p.t.Context(), watch.Config{Node: "node-01", Region: "local", Engine: scale.DefaultConfig(), Store: keeper{p.db}, Logger: slog.New(slog.DiscardHandler),
		Sources: watch.Sources{Stats: made.Stats}})
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// queries asks what the pages and the API ask, cold and warm.
func (p *past) queries() {
	trends := []scale.Signal{scale.Connections, scale.MessagesIn, scale.MessagesOut, scale.DeliveryP95, scale.DeliveryP50, scale.CPU, scale.Memory, scale.ErrorRate, scale.QueueBytes, scale.AcceptRate, scale.RefusedRate, scale.APIP95}
	capacity := []scale.Signal{scale.Memory, scale.Connections, scale.CPU, scale.MessagesIn, scale.Descriptors, scale.ErrorRate, scale.DeliveryP95, scale.APIP95}
	all := make([]string, p.nodes+1)
	for i := range all {
		all[i] = p.name(i)
	}
	const day = 24 * time.Hour
	type ask struct {
		name    string
		length  time.Duration
		signals []scale.Signal
		nodes   []string
		points  int
	}
	asks := []ask{
		{"Overview, 1 hour", time.Hour, []scale.Signal{scale.MessagesIn, scale.DeliveryP95, scale.DeliveryP50}, nil, 240},
		{"Capacity, 7 days, 8 signals", 7 * day, capacity, nil, 300},
	}
	for _, r := range []struct {
		name   string
		length time.Duration
	}{{"1 hour", time.Hour}, {"6 hours", 6 * time.Hour}, {"24 hours", day}, {"7 days", 7 * day}, {"30 days", 30 * day}, {"90 days", 90 * day}, {"400 days", 400 * day}} {
		asks = append(asks, ask{"Trends, " + r.name + ", the fleet, 12 signals", r.length, trends, nil, 300})
		if r.length >= 7*day {
			asks = append(asks, ask{"Trends, " + r.name + ", one node", r.length, trends, []string{p.name(1)}, 300},
				ask{"/v1/scaling/history, " + r.name + ", connections of every node", r.length, []scale.Signal{scale.Connections}, all, 0})
		}
	}
	runs := sized(p.t, "HISTORY_RUNS", 2)
	for _, a := range asks {
		length := min(a.length, time.Duration(p.days)*day)
		q := watch.HistoryQuery{From: p.end.Add(-length), To: p.end, Signals: a.signals, Nodes: a.nodes, Points: a.points}
		var cold, warm []time.Duration
		points, source := 0, time.Duration(0)
		for range runs {
			p.chill()
			s := p.service()
			s.Summed()
			for i := range 4 {
				began := time.Now()
				h, err := s.History(p.t.Context(), q)
				took := time.Since(began)
				if err != nil || len(h.Trends) != max(1, len(a.nodes))*len(a.signals) || len(h.Trends[0].Points) == 0 {
					p.t.Fatalf("%s: got %d trends, %v", a.name, len(h.Trends), err)
				}
				points, source = len(h.Trends[0].Points), h.Source
				if i == 0 {
					cold = append(cold, took)
				} else {
					warm = append(warm, took)
				}
			}
		}
		figure(p.t, "%s (%d points of rows of %v): cold %s, warm %s", a.name, points, source, spread(cold), spread(warm))
	}
}

// chill opens the database anew, with nothing of it in memory.
func (p *past) chill() {
	p.close()
	f, err := os.Open(filepath.Join(p.dir, store.FileName))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		p.t.Fatal(err)
	}
	const dontNeed = 4 // POSIX_FADV_DONTNEED: the kernel forgets the file's pages
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
		p.t.Fatal(errno)
	}
	f.Close()
	p.open()
}

func spread(of []time.Duration) string {
	slices.Sort(of)
	return fmt.Sprintf("p50 %s most %s", short(of[len(of)/2]), short(of[len(of)-1]))
}

func short(d time.Duration) string { return d.Round(d / 200).String() }

// upkeep measures a minute of keeping: six writes of all series, with what they sum
// up and what grows too old meanwhile.
func (p *past) upkeep() {
	rnd := rand.New(rand.NewPCG(5, 6))
	finest := scale.Resolutions()[0].Span
	patterns := patternsOf(rnd, finest, p.nodes)
	write := func(from time.Time, bound int64) []time.Duration {
		var took []time.Duration
		for k := range 90 {
			at := from.Add(time.Duration(k) * finest)
			var rows []scale.NodeRollup
			var sums []scale.Promotion
			for i := range p.nodes + 1 {
				r := patterns[min(i, 1)][at.Hour()][rnd.IntN(variants)]
				r.From = at
				rows = append(rows, scale.NodeRollup{Node: p.name(i), Rollup: r})
				for _, t := range scale.Resolutions()[1:] {
					if at.Add(finest).Truncate(t.Span).Equal(at.Add(finest)) {
						sums = append(sums, scale.Promotion{Node: p.name(i), From: at.Truncate(t.Span), Span: t.Span})
					}
				}
			}
			slices.SortStableFunc(sums, func(a, b scale.Promotion) int { return int(a.Span - b.Span) })
			began := time.Now()
			if err := p.db.PutRollups(p.t.Context(), rows, sums, at, bound); err != nil {
				p.t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		return took
	}
	took := write(p.end, 0)
	sum := time.Duration(0)
	for _, d := range took {
		sum += d
	}
	figure(p.t, "keeping %d series, each 10 s a write with its sums and what is too old: %s; a minute of it costs %s of the writer", p.nodes+1, spread(took), short(sum/15))
	size, _ := p.db.Size()
	took = write(p.end.Add(15*time.Minute), size/2)
	figure(p.t, "the same while the database is larger than its bound, so that each write makes room: %s", spread(took))
	began := time.Now()
	freed, err := p.db.Compact(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	figure(p.t, "giving %d KB back to the disk: %s in all", freed>>10, short(time.Since(began)))
}

// forecast measures what a look ahead costs: reading 35 days and fitting them.
func (p *past) forecast() {
	span := 15 * time.Minute
	from := p.end.Add(-min(35, time.Duration(p.days)) * 24 * time.Hour)
	began := time.Now()
	var points []scale.Point
	err := p.db.Rollups(p.t.Context(), scale.RollupQuery{Span: span, Nodes: []string{""}, From: from, To: p.end, Signals: []scale.Signal{scale.Connections, scale.MessagesIn, scale.Memory, scale.CPU, scale.Descriptors}}, func(_ string, r *scale.Rollup) error {
		pt := scale.Point{At: r.From, Instances: p.nodes}
		pt.Values.Set(scale.Connections, r.Stat(scale.Connections).Avg)
		points = append(points, pt)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	read := time.Since(began)
	series, err := scale.SeriesOf(points, scale.Connections, span)
	if err != nil {
		p.t.Fatal(err)
	}
	began = time.Now()
	f, err := scale.ForecastOf(scale.Connections, series, 3*time.Hour)
	if err != nil {
		p.t.Fatal(err)
	}
	figure(p.t, "forecast of connections, each 15 minutes: reading %d points %s, fitting with its own backtest %s (accuracy %+v)", len(points), short(read), short(time.Since(began)), f.Accuracy)
}

// TestAlertCost measures a second of the leader of HISTORY_NODES nodes: view, rules,
// decision.
func TestAlertCost(t *testing.T) {
	nodes := sized(t, "HISTORY_NODES", 20)
	rnd := rand.New(rand.NewPCG(7, 8))
	engine, err := scale.NewEngine(scale.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := scale.NewAlerts(scale.DefaultRules(), scale.DocumentCapacity())
	if err != nil {
		t.Fatal(err)
	}
	view := scale.NewView(scale.FleetConfig{})
	now := time.Now().UTC().Truncate(time.Second)
	started := now.Add(-time.Hour)
	var see, judge, tick []time.Duration
	for second := range sized(t, "HISTORY_SECONDS", 120) {
		at := now.Add(time.Duration(second) * time.Second)
		for i := range nodes {
			slot := secondOf(rnd, 0.9, 1)
			view.Observe(scale.Sample{Node: fmt.Sprintf("node-%02d", i), At: at, Started: started, Ready: started, Values: slot.Values, Delivery: slot.Delivery, API: slot.API})
		}
		a := time.Now()
		f := view.Fleet(at)
		b := time.Now()
		alerts.Observe(&f)
		c := time.Now()
		if _, err := engine.Tick(at, f); err != nil {
			t.Fatal(err)
		}
		d := time.Now()
		see, judge, tick = append(see, b.Sub(a)), append(judge, c.Sub(b)), append(tick, d.Sub(c))
		if live := f.Live(); live != nodes {
			t.Fatalf("got %d live nodes, want %d", live, nodes)
		}
	}
	figure(t, "a second of the leader of %d nodes: fleet view %s; %d alert rules alone %s; rules, decision and entries %s", nodes, spread(see), len(scale.DefaultRules()), spread(judge), spread(tick))
	if most := tick[len(tick)/2]; most > 50*time.Millisecond {
		t.Errorf("a tick takes %v in the middle, want less than 50ms of each second", most)
	}
}
