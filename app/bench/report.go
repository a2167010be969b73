package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is the outcome of one run. Times of latencies are in microseconds,
// sizes in bytes, rates a second.
type Report struct {
	Server      string    `json:"server"` // the dialect's name
	Mode        string    `json:"mode"`
	URL         string    `json:"url"`
	Encoding    string    `json:"encoding"`
	Started     time.Time `json:"started"`
	Size        int       `json:"payload_bytes"`
	Rate        float64   `json:"rate,omitempty"`
	Pairs       int       `json:"pairs,omitempty"`
	Subscribers int       `json:"subscribers,omitempty"`
	Processes   int       `json:"processes"`

	Connect Connecting `json:"connect"`

	Seconds      float64      `json:"seconds"` // measured time
	Parts        []PartReport `json:"parts,omitempty"`
	Total        Counts       `json:"total"`
	DeliveriesPS float64      `json:"deliveries_per_s"`

	CPU     *CPU     `json:"server_cpu,omitempty"` // nil when the server's process is not known
	Memory  *Memory  `json:"server_memory,omitempty"`
	With    *With    `json:"with,omitempty"`
	Self    float64  `json:"generator_cpu_share"` // of one core, in the measured time, with its worker processes
	Others  float64  `json:"others_cpu_share"`    // of one core, by processes other than server and generator
	Remarks []string `json:"remarks,omitempty"`
}

// Disturbed is the share of one core that other processes may take before the
// figures of a run say more about them than about the server.
const Disturbed = 0.15

// Connecting is how the connections came to be.
type Connecting struct {
	Connections uint64    `json:"connections"`
	Seconds     float64   `json:"seconds"`
	PerS        float64   `json:"per_s"`
	Failed      uint64    `json:"failed"`
	Refused     uint64    `json:"refused"`
	Reasons     Codes     `json:"reasons,omitempty"`
	Latency     Latencies `json:"latency"`
	CPUMicros   float64   `json:"server_cpu_us_each,omitempty"`
}

// PartReport is one part of the load.
type PartReport struct {
	Name         string     `json:"name"`
	Counts       Counts     `json:"counts"`
	DeliveriesPS float64    `json:"deliveries_per_s"`
	Latency      Latencies  `json:"latency"`
	Away         *Latencies `json:"away,omitempty"` // how long connections were gone that the server moved
}

// Latencies are quantiles in microseconds.
type Latencies struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_us"`
	P95   float64 `json:"p95_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	Max   float64 `json:"max_us"`
}

// CPU is what the server's process used in the measured time.
type CPU struct {
	PID            []int   `json:"pid"`
	Share          float64 `json:"share"`            // of one core
	PerDelivery    float64 `json:"us_per_delivery"`  // 0 where nothing was delivered
	SecondsOverall float64 `json:"seconds_measured"` // CPU seconds in the measured time
}

// With is what the processes beside the server used, such as its Redis.
type With struct {
	PID         []int   `json:"pid"`
	Share       float64 `json:"share"` // of one core
	PerDelivery float64 `json:"us_per_delivery"`
	Memory      int64   `json:"rss"`
}

// Memory is what the server's process held.
type Memory struct {
	Before        int64   `json:"rss_before"`    // before the first connection
	Connected     int64   `json:"rss_connected"` // a second after the last
	After         int64   `json:"rss_after"`     // at the end of the measured time
	PerConnection float64 `json:"bytes_per_connection"`
}

func newReport(o *Options, server string) *Report {
	r := &Report{Server: server, Mode: o.Mode, URL: o.URL, Encoding: o.Encoding, Started: time.Now().UTC().Truncate(time.Second),
		Size: o.Size, Rate: o.Rate, Processes: o.Processes}
	switch o.Mode {
	case ModeDirect, ModeRequest:
		r.Pairs = o.Pairs
	case ModeFanout, ModeSlow:
		r.Subscribers = o.Connections
	}
	return r
}

// connected takes over how the connections came to be.
func (r *Report) connected(c *Connects) {
	r.Connect = Connecting{Connections: c.Ready, Failed: c.Failed, Refused: c.Refused, Reasons: c.Reasons,
		Latency: latencies(c.Latency), Seconds: time.Duration(c.Last - c.First).Seconds()}
	if r.Connect.Seconds > 0 {
		r.Connect.PerS = float64(c.Ready) / r.Connect.Seconds
	}
}

// finish takes over what the parts have counted and the server has used.
func (r *Report) finish(parts []PartResult, w *watch) {
	for i := range parts {
		p := &parts[i]
		one := PartReport{Name: p.Name, Counts: p.Counts, Latency: latencies(p.Latency)}
		if p.Away != nil {
			away := latencies(p.Away)
			one.Away = &away
		}
		if r.Seconds > 0 {
			one.DeliveriesPS = float64(p.Counts.Delivered) / r.Seconds
		}
		r.Parts = append(r.Parts, one)
		r.Total.merge(&p.Counts)
		r.DeliveriesPS += one.DeliveriesPS
	}
	if r.Seconds > 0 {
		r.Self = (w.to.self - w.from.self).Seconds() / r.Seconds
	}
	if len(w.pids) == 0 {
		return
	}
	r.used(w)
	r.disturbed(w)
}

// disturbed tells how much CPU other processes took: in the measured time, or
// while connecting where nothing else was measured.
func (r *Report) disturbed(w *watch) {
	from, to := w.from, w.to
	if r.Seconds == 0 {
		from, to = w.idle, w.open
	}
	span := to.at.Sub(from.at)
	if span <= 0 {
		return
	}
	others := (to.all - from.all) - (to.server.cpu - from.server.cpu) - (to.with.cpu - from.with.cpu)
	if !slices.Contains(w.pids, os.Getpid()) {
		others -= to.self - from.self
	}
	if r.Others = max(others.Seconds()/span.Seconds(), 0); r.Others > Disturbed {
		r.Remarks = append(r.Remarks, fmt.Sprintf("other processes took %.0f%% of a core meanwhile: rates, latencies and what depends on batching are not to be trusted; measure on a quiet machine", 100*r.Others))
	}
}

// used takes over the CPU time and the memory of the server.
func (r *Report) used(w *watch) {
	last := w.settled
	if r.Seconds > 0 {
		last = w.to
		spent := w.to.server.cpu - w.from.server.cpu
		r.CPU = &CPU{PID: w.pids, SecondsOverall: spent.Seconds(), Share: spent.Seconds() / r.Seconds}
		if r.Total.Delivered > 0 {
			r.CPU.PerDelivery = micros(spent) / float64(r.Total.Delivered)
		}
	}
	if len(w.with) > 0 {
		r.With = &With{PID: w.with, Memory: last.with.rss}
		if r.Seconds > 0 {
			r.With.Share = (w.to.with.cpu - w.from.with.cpu).Seconds() / r.Seconds
		}
		if r.Total.Delivered > 0 {
			r.With.PerDelivery = micros(w.to.with.cpu-w.from.with.cpu) / float64(r.Total.Delivered)
		}
	}
	r.Memory = &Memory{Before: w.idle.server.rss, Connected: w.settled.server.rss, After: last.server.rss}
	if n := float64(r.Connect.Connections); n > 0 {
		r.Memory.PerConnection = float64(last.server.rss-w.idle.server.rss) / n
		r.Connect.CPUMicros = micros(w.open.server.cpu-w.idle.server.cpu) / n
	}
}

func latencies(h *Histogram) Latencies {
	q := func(share float64) float64 { return micros(h.Quantile(share)) }
	return Latencies{Count: h.Count(), P50: q(0.50), P95: q(0.95), P99: q(0.99), P999: q(0.999), Max: micros(h.Max())}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// Table is the report for people.
func (r *Report) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s at %s, %s, %d-byte payloads", r.Server, r.Mode, r.URL, r.Encoding, r.Size)
	switch {
	case r.Pairs > 0:
		fmt.Fprintf(&b, ", %d pairs", r.Pairs)
	case r.Subscribers > 0:
		fmt.Fprintf(&b, ", %d subscribers", r.Subscribers)
	}
	if r.Rate > 0 {
		fmt.Fprintf(&b, ", %g/s", r.Rate)
	}
	b.WriteString("\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	c := &r.Connect
	fmt.Fprintf(t, "connections\t%d in %.2f s\t%.0f/s\tp50 %s\tp99 %s\tmax %s\n", c.Connections, c.Seconds, c.PerS,
		span(c.Latency.P50), span(c.Latency.P99), span(c.Latency.Max))
	if c.Failed+c.Refused > 0 {
		fmt.Fprintf(t, "\t%d refused, %d failed, tried again\t%s\n", c.Refused, c.Failed, reasons(c.Reasons))
	}
	for i := range r.Parts {
		r.Parts[i].table(t)
	}
	if len(r.Parts) > 1 {
		fmt.Fprintf(t, "together\t%d deliveries\t%.0f/s\n", r.Total.Delivered, r.DeliveriesPS)
	}
	r.costs(t)
	_ = t.Flush()
	for _, remark := range r.Remarks {
		fmt.Fprintf(&b, "note: %s\n", remark)
	}
	return b.String()
}

// table writes the lines of one part that has done something.
func (p *PartReport) table(t *tabwriter.Writer) {
	n := &p.Counts
	if n.Sent+n.Delivered+n.Strange+n.Broken+n.Moved == 0 {
		return
	}
	l := &p.Latency
	fmt.Fprintf(t, "%s\t%d sent, %d delivered\t%.0f/s\tp50 %s\tp95 %s\tp99 %s\tp99.9 %s\tmax %s\n", p.Name, n.Sent, n.Delivered, p.DeliveriesPS,
		span(l.P50), span(l.P95), span(l.P99), span(l.P999), span(l.Max))
	fmt.Fprintf(t, "\tlost %d, doubled %d, out of order %d\tanswered %d, refused %d\n", n.Lost, n.Doubled, n.OutOfOrder, n.Answered, n.Refused)
	if n.Gaps+n.Strange+n.Stalls+n.Broken > 0 {
		fmt.Fprintf(t, "\tgaps told %d, strange %d, stalls %d, connections broken %d\n", n.Gaps, n.Strange, n.Stalls, n.Broken)
	}
	if n.Moved > 0 {
		fmt.Fprintf(t, "\tmoved to another node %d, with a new session %d, never there %d, commands without an answer %d", n.Moved, n.Fresh, n.Stranded, n.Unanswered)
		if a := p.Away; a != nil {
			fmt.Fprintf(t, "\taway p50 %s\tp99 %s\tmax %s", span(a.P50), span(a.P99), span(a.Max))
		}
		fmt.Fprintln(t)
	}
	if len(n.Codes) > 0 {
		fmt.Fprintf(t, "\t%s\n", reasons(n.Codes))
	}
}

// costs writes what the server and the generator have used.
func (r *Report) costs(t *tabwriter.Writer) {
	if r.CPU != nil {
		fmt.Fprintf(t, "server CPU\t%.1f%% of a core", 100*r.CPU.Share)
		if r.CPU.PerDelivery > 0 {
			fmt.Fprintf(t, "\t%.2f µs a delivery", r.CPU.PerDelivery)
		}
		fmt.Fprintln(t)
	}
	if w := r.With; w != nil {
		fmt.Fprintf(t, "beside it\t%.1f%% of a core\t%.2f µs a delivery\t%.1f MB\n", 100*w.Share, w.PerDelivery, float64(w.Memory)/1e6)
	}
	if m := r.Memory; m != nil {
		fmt.Fprintf(t, "server memory\t%.1f MB before, %.1f MB after\t%.1f KB a connection\n",
			float64(m.Before)/1e6, float64(m.After)/1e6, m.PerConnection/1e3)
	}
	if r.Connect.CPUMicros > 0 && r.Mode == ModeConnect {
		fmt.Fprintf(t, "server CPU\t%.1f µs a connection\n", r.Connect.CPUMicros)
	}
	if r.Seconds > 0 {
		fmt.Fprintf(t, "generator CPU\t%.1f%% of a core\n", 100*r.Self)
	}
}

// reasons lists reasons, the most frequent first.
func reasons(codes Codes) string {
	names := make([]string, 0, len(codes))
	for name := range codes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if codes[a] != codes[b] {
			return int(int64(codes[b]) - int64(codes[a]))
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d × %s", codes[name], name)
	}
	return b.String()
}

// span writes microseconds the way people read them.
func span(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.0f µs", us)
	case us < 1e6:
		return fmt.Sprintf("%.1f ms", us/1e3)
	}
	return fmt.Sprintf("%.2f s", us/1e6)
}
