package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/scale/watch"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// A Scaling watches the fleet. *watch.Service is one. All methods may be called
// concurrently; errors that are the caller's are *watch.Fault.
type Scaling interface {
	Status() watch.Status
	Desired() watch.Desire
	Outlook() watch.Outlook
	Planner() scale.Planner
	History(ctx context.Context, q watch.HistoryQuery) (watch.History, error)
	Nodes(ctx context.Context) ([]string, error)

	Log(ctx context.Context, f scale.LogFilter) ([]scale.LogEntry, error)
	LogEntry(ctx context.Context, origin string, seq uint64) (scale.LogEntry, []scale.LogEntry, error)
	Verify(ctx context.Context) ([]scale.LogReport, error)
	Note(ctx context.Context, actor, text string, cause uint64) (scale.LogEntry, error)

	Alerts() []scale.Alert
	Silences() []scale.Silence
	Rules() ([]scale.Rule, scale.Capacity)
	Origins() map[string]watch.Origin
	Answers() []watch.Answer
	Backtest(ctx context.Context, r scale.Rule, from, to time.Time) (scale.Backtested, error)
	Calibrate(m scale.Measurement, secondsPerMessage float64, now time.Time) (scale.Capacity, error)
	Do(ctx context.Context, c watch.Command) (scale.LogEntry, error)
}

// scalingCodes are the refusals of all routes of scaling.
func scalingCodes(more ...wire.Code) []wire.Code {
	return append(more, wire.BadFrame, wire.Forbidden, wire.Unavailable, wire.Internal)
}

// scalingRoutes are those about how many nodes there should be; none without a
// Scaling.
func (a *API) scalingRoutes() []Route {
	if a.cfg.Scaling == nil {
		return nil
	}
	codes := scalingCodes
	routes := []Route{
		{Method: "GET", Path: "/v1/scaling/status", Name: "scaling.status", Access: Viewer, Reply: watch.Status{}, handle: a.scalingStatus, Codes: codes(),
			Summary: "Where scaling stands: who decides, how many nodes there are and should be, and why."},
		{Method: "GET", Path: "/v1/scaling/desired", Name: "scaling.desired", Access: Scrape, Query: DesiredQuery{}, Reply: watch.Desire{}, handle: a.scalingDesired, Codes: codes(wire.NotFound),
			Summary: "The wanted number of instances, for control planes that ask.",
			Doc: "KEDA's metrics-api scaler reads it with valueLocation: desired, or signals.connections.total against a target of its own. " +
				"With format=plain the answer is one number: the wanted count, or with signal the fleet's total of that signal. Open to whom /metrics is open to."},
		{Method: "GET", Path: "/v1/scaling/history", Name: "scaling.history", Access: Viewer, Query: HistoryQuery{}, Reply: watch.History{}, handle: a.scalingHistory, Codes: codes(),
			Summary: "Trends: minimum, mean, maximum and quantiles of signals over a range of up to 400 days.",
			Doc:     "The step follows from the range, so that a trend has at most 600 points. With Accept: text/csv as a table."},
		{Method: "GET", Path: "/v1/scaling/outlook", Name: "scaling.outlook", Access: Viewer, Reply: watch.Outlook{}, handle: a.scalingOutlook, Codes: codes(),
			Summary: "The forecast beside what came, when each limit is reached, and measured capacity."},
		{Method: "GET", Path: "/v1/scaling/nodes", Name: "scaling.nodes", Access: Viewer, Reply: NodesReply{}, handle: a.scalingNodes, Codes: codes(),
			Summary: "Lists the nodes that have a history."},
		{Method: "GET", Path: "/apis/external.metrics.k8s.io/v1beta1/namespaces/:namespace/:metric", Name: "scaling.external", Access: Scrape, Reply: ExternalMetrics{}, handle: a.externalMetric,
			Codes: codes(wire.NotFound), Summary: "One value in the form that the Kubernetes HPA reads external metrics in.",
			Doc: "metric is agentnet_desired_instances or agentnet_ with a signal's name, such as agentnet_connections. Open to whom /metrics is open to."},
	}
	return slices.Concat(routes, a.adviceRoutes(), a.scalingLogRoutes(), a.scalingAskRoutes(), a.alertRoutes(), []Route{a.incidentRoute()})
}

func (a *API) scalingStatus(c *fiber.Ctx, _ *relay.Identity) error {
	return writeJSON(c, http.StatusOK, a.cfg.Scaling.Status())
}

func (a *API) scalingOutlook(c *fiber.Ctx, _ *relay.Identity) error {
	return writeJSON(c, http.StatusOK, a.cfg.Scaling.Outlook())
}

// DesiredQuery chooses the form of the wanted count.
type DesiredQuery struct {
	Format string `query:"format" doc:"plain: one number." enum:"json,plain" default:"json"`
	Signal string `query:"signal" doc:"With format=plain: the fleet's total of this signal instead of the count."`
}

func (a *API) scalingDesired(c *fiber.Ctx, _ *relay.Identity) error {
	d := a.cfg.Scaling.Desired()
	switch c.Query("format", "json") {
	case "json":
		return writeJSON(c, http.StatusOK, d)
	case "plain":
	default:
		return &wire.Error{Code: wire.BadFrame, Message: "format: expected json or plain"}
	}
	v := float64(d.Desired)
	if name := c.Query("signal"); name != "" {
		s, known := d.Signals[name]
		if !known || !s.Known {
			return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("signal %.40q: the policy does not use it, or it has no value now", name)}
		}
		v = s.Total
	}
	c.Set(fiber.HeaderContentType, "text/plain; charset=utf-8")
	return c.SendString(strconv.FormatFloat(v, 'f', -1, 64) + "\n")
}

// ExternalMetrics is an ExternalMetricValueList of Kubernetes.
type ExternalMetrics struct {
	Kind       string           `json:"kind"`
	APIVersion string           `json:"apiVersion"`
	Metadata   struct{}         `json:"metadata"`
	Items      []ExternalMetric `json:"items"`
}

// An ExternalMetric is one value.
type ExternalMetric struct {
	MetricName   string            `json:"metricName"`
	MetricLabels map[string]string `json:"metricLabels"`
	Timestamp    time.Time         `json:"timestamp"`
	Value        string            `json:"value" doc:"A quantity of Kubernetes; in thousandths, with the suffix m, where it is not whole."`
}

func (a *API) externalMetric(c *fiber.Ctx, _ *relay.Identity) error {
	d, name := a.cfg.Scaling.Desired(), c.Params("metric")
	v, known := 0.0, false
	if name == "agentnet_desired_instances" {
		v, known = float64(d.Desired), true
	} else if s, ok := d.Signals[strings.TrimPrefix(name, "agentnet_")]; ok && strings.HasPrefix(name, "agentnet_") {
		v, known = s.Total, s.Known
	}
	if !known {
		return &wire.Error{Code: wire.NotFound, Message: fmt.Sprintf("metric %.80q: unknown, or without a value now; want agentnet_desired_instances or agentnet_ with a signal of the policy", name)}
	}
	quantity := strconv.FormatFloat(v, 'f', -1, 64)
	if v != float64(int64(v)) {
		quantity = strconv.FormatInt(int64(v*1000+0.5), 10) + "m"
	}
	return writeJSON(c, http.StatusOK, ExternalMetrics{Kind: "ExternalMetricValueList", APIVersion: "external.metrics.k8s.io/v1beta1",
		Items: []ExternalMetric{{MetricName: name, MetricLabels: map[string]string{}, Timestamp: d.At.UTC().Truncate(time.Second), Value: quantity}}})
}

// NodesReply lists nodes.
type NodesReply struct {
	Nodes []string `json:"nodes"`
}

func (a *API) scalingNodes(c *fiber.Ctx, _ *relay.Identity) error {
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	names, err := a.cfg.Scaling.Nodes(ctx)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, NodesReply{Nodes: append([]string{}, names...)})
}

// HistoryQuery chooses trends.
type HistoryQuery struct {
	Range   string `query:"range" doc:"Time up to the end, such as 15m, 6h, 30d or 400d; instead of from." default:"1h"`
	From    string `query:"from" doc:"Beginning: RFC 3339, or milliseconds since 1970."`
	To      string `query:"to" doc:"End; absent: now."`
	Signals string `query:"signals" doc:"Names with commas between. Absent: connections, messages_in, cpu, memory, delivery_p95."`
	Nodes   string `query:"nodes" doc:"Names with commas between; fleet is the whole fleet. Absent: fleet."`
	Points  int    `query:"points" doc:"Points of a trend at most." default:"600" min:"1" max:"600"`
}

func (a *API) scalingHistory(c *fiber.Ctx, _ *relay.Identity) error {
	q := watch.HistoryQuery{}
	var err error
	if q.From, q.To, err = timeRange(c, time.Hour); err != nil {
		return err
	}
	if q.Points, err = number(c, "points", watch.MaxPoints, 1, watch.MaxPoints); err != nil {
		return err
	}
	for name := range strings.SplitSeq(c.Query("signals", "connections,messages_in,cpu,memory,delivery_p95"), ",") {
		var s scale.Signal
		if err := s.UnmarshalText([]byte(strings.TrimSpace(name))); err != nil {
			return &wire.Error{Code: wire.BadFrame, Message: "signals: " + err.Error()}
		}
		q.Signals = append(q.Signals, s)
	}
	for name := range strings.SplitSeq(c.Query("nodes", "fleet"), ",") {
		if name = strings.TrimSpace(name); name == "fleet" {
			name = ""
		}
		q.Nodes = append(q.Nodes, strings.Clone(name))
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	h, err := a.cfg.Scaling.History(ctx, q)
	if err != nil {
		return asScaling(err)
	}
	if !asTable(c) {
		return writeJSON(c, http.StatusOK, h)
	}
	rows := [][]string{{"node", "signal", "unit", "at", "count", "min", "avg", "max", "p50", "p95", "p99"}}
	for i := range h.Trends {
		t := &h.Trends[i]
		for _, p := range t.Points {
			rows = append(rows, []string{t.Node, t.Signal.String(), t.Unit, p.At.Format(time.RFC3339), strconv.FormatUint(p.Count, 10),
				decimal(p.Min), decimal(p.Avg), decimal(p.Max), decimal(p.P50), decimal(p.P95), decimal(p.P99)})
		}
	}
	return writeTable(c, "history", rows)
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', 7, 64) }

// asScaling puts an error of the engine into the words of the protocol.
func asScaling(err error) error {
	f, ok := errors.AsType[*watch.Fault](err)
	if !ok {
		return err
	}
	code := map[watch.FaultKind]wire.Code{watch.FaultInvalid: wire.BadFrame, watch.FaultNotFound: wire.NotFound, watch.FaultUnavailable: wire.Unavailable}[f.Kind]
	if code == "" {
		code = wire.Internal
	}
	return &wire.Error{Code: code, Message: f.Text}
}
