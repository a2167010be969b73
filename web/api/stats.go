package api

import (
	"net/http"
	"strconv"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// StatsReply is one reading of a node. Counters only grow while the process
// lives; started_ms tells a restart.
type StatsReply struct {
	Node      string        `json:"node"`
	Region    string        `json:"region"`
	Version   string        `json:"version,omitempty"`
	StartedMS int64         `json:"started_ms" doc:"Milliseconds since 1970."`
	TimeMS    int64         `json:"time_ms" doc:"When this was read."`
	Level     string        `json:"level" doc:"Overload level." enum:"normal,elevated,degraded,critical"`
	Draining  bool          `json:"draining"`
	Gauges    StatsGauges   `json:"gauges"`
	Counters  StatsCounters `json:"counters"`
	Delivery  StatsLatency  `json:"delivery" doc:"From the arrival of a message to its writing to a local receiver."`
	Reply     StatsLatency  `json:"reply" doc:"From a request to its first reply."`
}

// StatsGauges is what is now.
type StatsGauges struct {
	Connections   int   `json:"connections" doc:"Sockets, with those not yet authenticated."`
	Sessions      int   `json:"sessions"`
	Resumable     int   `json:"resumable" doc:"Sessions whose socket is gone and that can resume."`
	Agents        int   `json:"agents"`
	Channels      int   `json:"channels"`
	Subscriptions int   `json:"subscriptions"`
	Requests      int   `json:"requests" doc:"Waiting for a reply."`
	QueueFrames   int64 `json:"queue_frames"`
	QueueBytes    int64 `json:"queue_bytes"`
	MailboxCount  int64 `json:"mailbox_messages"`
	MailboxBytes  int64 `json:"mailbox_bytes"`
	Moving        int   `json:"moving" doc:"Sessions that are being handed over to another node."`
}

// StatsCounters is what has happened since the start.
type StatsCounters struct {
	Accepted  uint64            `json:"accepted" doc:"Connections."`
	Refused   map[string]uint64 `json:"refused" doc:"Connections refused before the upgrade, by reason."`
	Connects  map[string]uint64 `json:"connects" doc:"Connect frames by result."`
	Closed    map[string]uint64 `json:"closed" doc:"Connections by close code."`
	FramesIn  map[string]uint64 `json:"frames_in" doc:"By kind."`
	BytesIn   uint64            `json:"bytes_in"`
	FramesOut uint64            `json:"frames_out"`
	BytesOut  uint64            `json:"bytes_out"`
	Messages  uint64            `json:"messages" doc:"Accepted send, request, reply, publish."`
	Delivered uint64            `json:"delivered" doc:"Handed to sessions."`
	Outcomes  map[string]uint64 `json:"outcomes" doc:"Of sends."`
	Errors    map[string]uint64 `json:"errors" doc:"Refused commands, by code."`
	Dropped   map[string]uint64 `json:"dropped" doc:"Messages, by reason."`
	Gaps      uint64            `json:"gaps"`

	Parcels        uint64 `json:"parcels" doc:"From other nodes."`
	ParcelsUnknown uint64 `json:"parcels_unknown" doc:"Of these, not understood."`
	ParcelsLost    uint64 `json:"parcels_lost" doc:"From other nodes, lost on the way."`
}

// StatsLatency sums a histogram up, over the life of the process.
type StatsLatency struct {
	Count uint64  `json:"count"`
	SumMS float64 `json:"sum_ms"`
	P50MS float64 `json:"p50_ms"`
	P95MS float64 `json:"p95_ms"`
	P99MS float64 `json:"p99_ms"`
}

func (a *API) stats(c *fiber.Ctx, _ *relay.Identity) error {
	s := a.cfg.Relay.Stats()
	return writeJSON(c, http.StatusOK, StatsReply{
		Node: s.Node, Region: s.Region, Version: a.cfg.Version,
		StartedMS: s.Started.UnixMilli(), TimeMS: s.Now.UnixMilli(), Level: s.Level, Draining: s.Draining,
		Gauges: StatsGauges{
			Connections: s.Connections, Sessions: s.Sessions, Resumable: s.Resumable, Agents: s.Agents,
			Channels: s.Channels, Subscriptions: s.Subscriptions, Requests: s.Requests,
			QueueFrames: s.QueueFrames, QueueBytes: s.QueueBytes, MailboxCount: s.MailboxCount, MailboxBytes: s.MailboxBytes, Moving: s.Moving,
		},
		Counters: StatsCounters{
			Accepted: s.Accepted, Refused: words(s.Refused), Connects: words(s.Connects), Closed: words(closeWords(s.Closed)),
			FramesIn: words(kindWords(s.FramesIn)), BytesIn: s.BytesIn, FramesOut: s.FramesOut, BytesOut: s.BytesOut,
			Messages: s.MessagesIn, Delivered: s.DeliveredOut, Outcomes: words(s.Outcomes), Errors: words(s.Errors),
			Dropped: words(s.Dropped), Gaps: s.Gaps, Parcels: s.Parcels, ParcelsUnknown: s.ParcelsOdd, ParcelsLost: s.ParcelsLost,
		},
		Delivery: latency(&s.Delivery), Reply: latency(&s.Reply),
	})
}

func latency(h *relay.Histogram) StatsLatency {
	return StatsLatency{Count: h.Count(), SumMS: milliseconds(h.Sum),
		P50MS: milliseconds(h.Quantile(0.5)), P95MS: milliseconds(h.Quantile(0.95)), P99MS: milliseconds(h.Quantile(0.99))}
}

// words turns a counter's keys into plain strings; a nil map becomes an empty one.
func words[K ~string](counts map[K]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for k, n := range counts {
		out[string(k)] = n
	}
	return out
}

func closeWords(counts map[wire.CloseCode]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for code, n := range counts {
		out[strconv.Itoa(int(code))] += n
	}
	return out
}

func kindWords(counts map[wire.Kind]uint64) map[string]uint64 {
	out := make(map[string]uint64, len(counts))
	for kind, n := range counts {
		out[kind.String()] += n
	}
	return out
}
