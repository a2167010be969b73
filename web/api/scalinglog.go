package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"
	"agentnet/app/scale"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

func (a *API) scalingLogRoutes() []Route {
	codes := scalingCodes
	return []Route{
		{Method: "GET", Path: "/v1/scaling/log", Name: "scaling.log", Access: Viewer, Query: LogQuery{}, Reply: LogReply{}, handle: a.scalingLog, Codes: codes(),
			Summary: "The scaling log of all nodes, the newest entry first.", Doc: "With Accept: text/csv or format=csv as a table."},
		{Method: "GET", Path: "/v1/scaling/log/export", Name: "scaling.log.export", Access: Viewer, Query: LogQuery{}, ReplyType: mimeLines, handle: a.scalingLogExport, Codes: codes(),
			Summary: "All entries that the filter chooses, oldest first, one JSON object a line.", Doc: "With format=csv as a table. The limit does not count: all of the range comes, a page at a time. A last line that begins with error ends one that broke."},
		{Method: "GET", Path: "/v1/scaling/log/entry", Name: "scaling.log.entry", Access: Viewer, Query: EntryQuery{}, Reply: EntryReply{}, handle: a.scalingEntry, Codes: codes(wire.NotFound),
			Summary: "One entry with all its evidence, and the entries that it led to."},
		{Method: "GET", Path: "/v1/scaling/log/replay", Name: "scaling.log.replay", Access: Viewer, Query: EntryQuery{}, Reply: ReplayReply{}, handle: a.scalingReplay, Codes: codes(wire.NotFound),
			Summary: "Computes an entry anew from the inputs that it holds.", Doc: "Decisions, walks and alerts hold a computation; other kinds are what happened."},
		{Method: "GET", Path: "/v1/scaling/log/verify", Name: "scaling.log.verify", Access: Viewer, Reply: LogVerifyReply{}, handle: a.scalingVerify, Codes: codes(wire.Overloaded),
			Summary: "Reads the whole log of every node and names each row that is not as it was written."},
		{Method: "POST", Path: "/v1/scaling/log/notes", Name: "scaling.note", Access: Operator, Body: NoteBody{}, Reply: scale.LogEntry{}, handle: a.scalingNote, Codes: codes(),
			Summary: "Writes a note into the log."},
	}
}

// LogQuery filters and pages the log.
type LogQuery struct {
	Kinds  string `query:"kinds" doc:"Kinds with commas between, such as decision,alert. Absent: all."`
	Origin string `query:"origin" doc:"Whose log, as entries name it. Absent: all."`
	Actor  string `query:"actor" doc:"Who did it: engine, a node, an account or token."`
	Match  string `query:"match" doc:"Part of the summary, in any case."`
	Range  string `query:"range" doc:"Time up to the end, such as 6h or 30d; instead of from. Absent: all."`
	From   string `query:"from" doc:"RFC 3339, or milliseconds since 1970."`
	To     string `query:"to" doc:"The same."`
	Order  string `query:"order" enum:"newest,oldest" default:"newest"`
	Before int    `query:"before" doc:"The next of the page before." min:"0"`
	Limit  int    `query:"limit" doc:"Entries on a page." default:"100" min:"1" max:"1000"`
	Format string `query:"format" enum:"json,csv" default:"json"`
}

// LogReply is one page.
type LogReply struct {
	Entries []scale.LogEntry `json:"entries"`
	Next    uint64           `json:"next,omitempty" doc:"The before of the next page; absent on the last."`
}

func logFilter(c *fiber.Ctx) (f scale.LogFilter, err error) {
	f = scale.LogFilter{Origin: c.Query("origin"), Actor: c.Query("actor"), Match: c.Query("match")}
	if len(f.Origin)+len(f.Actor)+len(f.Match) > 1000 {
		return f, &wire.Error{Code: wire.BadFrame, Message: "origin, actor or match: too long"}
	}
	if text := c.Query("kinds"); text != "" {
		for name := range strings.SplitSeq(text, ",") {
			var k scale.Kind
			if err := k.UnmarshalText([]byte(strings.TrimSpace(name))); err != nil || len(f.Kinds) > 30 {
				return f, &wire.Error{Code: wire.BadFrame, Message: fmt.Sprintf("kinds: %.200v", err)}
			}
			f.Kinds = append(f.Kinds, k)
		}
	}
	if c.Query("range") != "" || c.Query("from") != "" || c.Query("to") != "" {
		if f.From, f.To, err = timeRange(c, longestSpan); err != nil {
			return f, err
		}
	}
	switch c.Query("order", "newest") {
	case "newest":
	case "oldest":
		f.Oldest = true
	default:
		return f, &wire.Error{Code: wire.BadFrame, Message: "order: expected newest or oldest"}
	}
	if f.Limit, err = number(c, "limit", listLimit, 1, maxListLimit); err != nil {
		return f, err
	}
	before, err := number(c, "before", 0, 0, 1<<53)
	f.Before = uint64(before)
	return f, err
}

func (a *API) scalingLog(c *fiber.Ctx, _ *relay.Identity) error {
	f, err := logFilter(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	page, err := a.cfg.Scaling.Log(ctx, f)
	if err != nil {
		return asScaling(err)
	}
	if asTable(c) {
		rows := [][]string{logHeading()}
		for i := range page {
			rows = append(rows, logRow(&page[i]))
		}
		return writeTable(c, "scaling-log", rows)
	}
	reply := LogReply{Entries: append([]scale.LogEntry{}, page...)}
	if len(page) == f.Limit {
		reply.Next = page[len(page)-1].Place
	}
	return writeJSON(c, http.StatusOK, reply)
}

func logHeading() []string {
	return []string{"origin", "seq", "at", "kind", "actor", "region", "summary", "cause", "data", "prev", "hash"}
}

func logRow(e *scale.LogEntry) []string {
	cause := ""
	if e.Cause > 0 {
		cause = strconv.FormatUint(e.Cause, 10)
	}
	return []string{e.Origin, strconv.FormatUint(e.Seq, 10), e.At.Format(time.RFC3339Nano), e.Kind.String(), e.Actor, e.Region, e.Summary, cause, string(e.Data), e.Prev, e.Hash}
}

// scalingLogExport streams the log, a page at a time.
func (a *API) scalingLogExport(c *fiber.Ctx, _ *relay.Identity) error {
	f, err := logFilter(c)
	if err != nil {
		return err
	}
	f.Oldest, f.Limit = true, 500
	table := asTable(c)
	c.Set(fiber.HeaderContentType, mimeLines)
	name := "agentnet-scaling-log.jsonl"
	if table {
		c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
		name = "agentnet-scaling-log.csv"
	}
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+name+`"`)
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		if err := a.exportLog(w, f, table); err != nil {
			a.cfg.Logger.Warn("an export of the scaling log ended early", "error", err)
			if table {
				fmt.Fprintln(w, "error,the export ended early; the server's log says why")
			} else {
				fmt.Fprintln(w, `{"error":"the export ended early; the server's log says why"}`)
			}
		}
	})
	return nil
}

// How long an export waits for calm before its first page, and before each other:
// under pressure it is slow, and comes to its end.
const (
	exportHold = 10 * time.Second
	exportPace = 250 * time.Millisecond
)

func (a *API) exportLog(w *bufio.Writer, f scale.LogFilter, table bool) error {
	if table {
		if err := writeRows(w, [][]string{logHeading()}); err != nil {
			return err
		}
	}
	hold := exportHold
	for {
		if a.cfg.Hold != nil {
			if err := a.cfg.Hold(a.ctx, hold); err != nil {
				return err
			}
			hold = exportPace
		}
		ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
		page, err := a.cfg.Scaling.Log(ctx, f)
		cancel()
		if err != nil {
			return err
		}
		for i := range page {
			if table {
				err = writeRows(w, [][]string{logRow(&page[i])})
			} else {
				err = writeLine(w, &page[i])
			}
			if err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(page) < f.Limit {
			return nil
		}
		f.Before = page[len(page)-1].Place
	}
}

func writeLine(w *bufio.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// EntryQuery names an entry.
type EntryQuery struct {
	ID string `query:"id" doc:"ORIGIN:SEQ, or SEQ for the log of the node that answers."`
}

// EntryReply is one entry.
type EntryReply struct {
	Entry scale.LogEntry   `json:"entry"`
	Led   []scale.LogEntry `json:"led" doc:"Entries that name it as their cause."`
}

func (a *API) namedEntry(c *fiber.Ctx) (scale.LogEntry, []scale.LogEntry, error) {
	origin, text, found := "", c.Query("id"), false
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		origin, text, found = text[:i], text[i+1:], true
	}
	seq, err := strconv.ParseUint(text, 10, 53)
	if err != nil || found && origin == "" {
		return scale.LogEntry{}, nil, &wire.Error{Code: wire.BadFrame, Message: "id: expected ORIGIN:SEQ or SEQ"}
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	e, led, err := a.cfg.Scaling.LogEntry(ctx, origin, seq)
	if err != nil {
		return e, nil, asScaling(err)
	}
	return e, led, nil
}

func (a *API) scalingEntry(c *fiber.Ctx, _ *relay.Identity) error {
	e, led, err := a.namedEntry(c)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, EntryReply{Entry: e, Led: append([]scale.LogEntry{}, led...)})
}

// ReplayReply is an entry beside the same computed anew.
type ReplayReply struct {
	Same  bool           `json:"same" doc:"The code of today comes to the same, bit by bit."`
	Why   string         `json:"why,omitempty" doc:"Why it could not be computed."`
	Entry scale.LogEntry `json:"entry"`
	Again *scale.Entry   `json:"again,omitempty" doc:"Where it differs: what the code of today comes to."`
}

func (a *API) scalingReplay(c *fiber.Ctx, _ *relay.Identity) error {
	e, _, err := a.namedEntry(c)
	if err != nil {
		return err
	}
	reply := ReplayReply{Entry: e}
	again, err := scale.Replay(e.Entry)
	switch {
	case errors.Is(err, scale.ErrNoReplay):
		return &wire.Error{Code: wire.BadFrame, Message: "an entry of the kind " + e.Kind.String() + " records what happened and holds no computation"}
	case err != nil:
		reply.Why = err.Error()
	case again.Hash == e.Hash:
		reply.Same = true
	default:
		reply.Again = &again
	}
	return writeJSON(c, http.StatusOK, reply)
}

// LogVerifyReply says whether the logs are as they were written.
type LogVerifyReply struct {
	Whole   bool              `json:"whole" doc:"No row of any log was changed."`
	Reports []scale.LogReport `json:"reports"`
}

func (a *API) scalingVerify(c *fiber.Ctx, _ *relay.Identity) error {
	select {
	case a.heavy <- struct{}{}:
		defer func() { <-a.heavy }()
	default:
		return &wire.Error{Code: wire.Overloaded, Message: "the server verifies or simulates already; try again", RetryAfterMS: 2000}
	}
	ctx, cancel := context.WithTimeout(a.ctx, heavyTime)
	defer cancel()
	reports, err := a.cfg.Scaling.Verify(ctx)
	if err != nil {
		return asScaling(err)
	}
	reply := LogVerifyReply{Whole: true, Reports: append([]scale.LogReport{}, reports...)}
	for i := range reply.Reports {
		r := &reply.Reports[i]
		reply.Whole = reply.Whole && len(r.Faults) == 0
		if r.Faults == nil {
			r.Faults = []scale.Fault{}
		}
	}
	return writeJSON(c, http.StatusOK, reply)
}

// NoteBody is a note.
type NoteBody struct {
	Text  string `json:"text" doc:"What whoever comes next should know, up to 2,000 bytes."`
	Cause uint64 `json:"cause,omitempty" doc:"Number of the entry of this node's log that it is about."`
}

func (a *API) scalingNote(c *fiber.Ctx, id *relay.Identity) error {
	var b NoteBody
	if err := readBody(c, &b); err != nil {
		return err
	}
	if strings.TrimSpace(b.Text) == "" || len(b.Text) > 2000 {
		return &wire.Error{Code: wire.BadFrame, Message: "text: expected 1 to 2000 bytes"}
	}
	ctx, cancel := context.WithTimeout(a.ctx, operationTimeout)
	defer cancel()
	e, err := a.cfg.Scaling.Note(ctx, actor(id), b.Text, b.Cause)
	if err != nil {
		return asScaling(err)
	}
	return writeJSON(c, http.StatusOK, e)
}
