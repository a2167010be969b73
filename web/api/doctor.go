package api

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"agentnet/app/doctor"
	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

const (
	// probeStreams bounds the streams of GET /v1/probe/stream at one time.
	probeStreams = 16
	probeEvents  = 4
	probeEvery   = 200 * time.Millisecond
	maxProbeIdle = 10 * time.Minute
	// doctorTime bounds one examination, and freshTime is how long its findings are
	// told again instead of making another.
	doctorTime = time.Minute
	freshTime  = 15 * time.Second
)

// ProbeQuery chooses the kind of a stream.
type ProbeQuery struct {
	Idle int `query:"idle_ms" doc:"Instead of a few events, one at the start and one after so long a silence. Needs the role viewer, operator or admin." min:"0" max:"600000"`
}

// DoctorReply is one examination of the node.
type DoctorReply struct {
	Result   doctor.Result    `json:"result" doc:"The worst of all." enum:"ok,warn,fail"`
	TimeMS   int64            `json:"time_ms" doc:"When it was made."`
	Findings []doctor.Finding `json:"findings"`
}

// doctorRoutes are what the doctor asks a server, and what it answers with itself.
func (a *API) doctorRoutes() []Route {
	return []Route{
		{Method: "GET", Path: "/v1/doctor", Name: "doctor", Access: Admin, Reply: DoctorReply{}, handle: a.doctor,
			Codes:   []wire.Code{wire.Forbidden, wire.Unavailable, wire.Internal},
			Summary: "Examines the node: machine, data, network, Redis.",
			Doc:     "Each finding has its evidence and, when it is not ok, a fix. Takes seconds; asked again within 15 s it answers with the same findings. Needs the role admin."},
		{Method: "GET", Path: "/v1/probe", Name: "probe", Access: Public, Reply: doctor.Seen{}, handle: a.probe,
			Summary: "Says how this very request arrived.",
			Doc:     "For finding faults of proxies: whose address the server takes for the client's, and whether it trusts whoever passed the request on."},
		{Method: "GET", Path: "/v1/probe/stream", Name: "probeStream", Access: Public, Query: ProbeQuery{}, ReplyType: mimeEvents, handle: a.probeStream,
			Codes:   []wire.Code{wire.BadFrame, wire.Forbidden, wire.Overloaded},
			Summary: "Sends four events, 200 ms apart.",
			Doc:     "For finding proxies that hold events back or end silent connections."},
	}
}

// An examiner makes one examination at a time and shares its findings.
type examiner struct {
	run func(context.Context) []doctor.Finding

	mu   sync.Mutex // held through an examination: who comes meanwhile waits for it
	last DoctorReply
}

// examine returns findings that are at most freshTime old.
func (e *examiner) examine(ctx context.Context) DoctorReply {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(time.UnixMilli(e.last.TimeMS)) < freshTime {
		return e.last
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	found := e.run(ctx)
	e.last = DoctorReply{Result: doctor.Worst(found), TimeMS: time.Now().UnixMilli(), Findings: found}
	return e.last
}

func (a *API) doctor(c *fiber.Ctx, _ *relay.Identity) error {
	if a.cfg.Doctor == nil {
		return &wire.Error{Code: wire.Unavailable, Message: "this node cannot examine itself"}
	}
	return writeJSON(c, http.StatusOK, a.examiner.examine(a.ctx))
}

func (a *API) probe(c *fiber.Ctx, _ *relay.Identity) error {
	seen := doctor.Seen{Client: a.cfg.ClientAddr(c).String()}
	if a.cfg.Seen != nil {
		seen = a.cfg.Seen(c)
	}
	if !a.confides(c) {
		seen.Peer = ""
	}
	seen.Host, seen.TimeMS = string(c.Context().Request.Host()), time.Now().UnixMilli()
	return writeJSON(c, http.StatusOK, seen)
}

func (a *API) probeStream(c *fiber.Ctx, _ *relay.Identity) error {
	idle := time.Duration(0)
	if text := c.Query("idle_ms"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms < 0 || ms > int(maxProbeIdle.Milliseconds()) {
			return &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("idle_ms: expected a number from 0 to %d", maxProbeIdle.Milliseconds())}
		}
		idle = time.Duration(ms) * time.Millisecond
	}
	if idle > 0 {
		id, refused := a.identify(c)
		if refused != nil {
			return refused
		}
		if !watches(id) {
			return &wire.Error{Code: wire.Forbidden, Message: "idle_ms needs a token with the role viewer, operator or admin"}
		}
	}
	select {
	case a.probing <- struct{}{}:
	default:
		return &wire.Error{Code: wire.Overloaded, Message: "too many probes at one time", RetryAfterMS: 1000}
	}
	c.Set(fiber.HeaderContentType, mimeEvents)
	c.Set("X-Accel-Buffering", "no")
	conn := c.Context().Conn()
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer func() { <-a.probing }()
		out := &replyWriter{w: w, conn: conn, media: mimeEvents}
		for i := range probeEvents {
			word, wait := "event", probeEvery
			if idle > 0 {
				if word, wait = "begin", idle; i > 0 {
					_ = out.write("probe", []byte("end")) // nobody is left to tell
					return
				}
			}
			if out.write("probe", []byte(word)) != nil || i == probeEvents-1 {
				return
			}
			select {
			case <-time.After(wait):
			case <-a.ctx.Done():
				return
			}
		}
	})
	return nil
}
