package dash

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"agentnet/app/wire"
	"agentnet/web/ui"
)

// traceSpans are how long a trace can be asked for from the page.
var traceSpans = []struct {
	word string
	span time.Duration
}{{"1 minute", time.Minute}, {"5 minutes", 5 * time.Minute}, {"15 minutes", 15 * time.Minute}}

// traceOnPage is how many of the newest envelopes the page shows; the tables for
// machines have all.
const traceOnPage = 100

// readTrace reads what was noted of the agent that is open, for those who may see it.
func (b *Board) readTrace(v *agentsView, agent string) {
	if !v.operates || b.cfg.Sources.Traces == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), findTime)
	defer cancel()
	tr := b.cfg.Sources.Traces.Traced(ctx, agent)
	v.trace = &tr
	v.traceRows = slices.Clone(tr.Rows[max(0, len(tr.Rows)-traceOnPage):])
	slices.Reverse(v.traceRows)
}

// traceWords say how a trace stands.
func traceWords(v *agentsView) string {
	tr := v.trace
	switch {
	case tr.Running:
		return ui.Plural(int(tr.Seen), "message", "messages") + ", until " + v.r.stamp(tr.Ends) + ", by " + orNone(tr.By)
	case tr.Started.IsZero():
		return "Off"
	}
	return ui.Plural(int(tr.Seen), "message", "messages") + ", ended " + v.r.stamp(tr.Ends)
}

// beginTrace notes the envelopes of an agent from now on.
func (b *Board) beginTrace(r *request) error {
	agent, err := r.named("agent")
	if err != nil {
		return r.report("/agents", "", err)
	}
	span := traceSpans[0]
	for _, s := range traceSpans {
		if s.word == r.c.FormValue("for") {
			span = s
		}
	}
	b.note(r.c, agent, span.word)
	return b.tracing(r, agent, "Envelopes are noted for "+span.word+".", func(ctx context.Context, t Traces) error {
		_, err := t.Trace(ctx, agent, r.who.Name, span.span)
		return err
	})
}

// endTrace stops before the time.
func (b *Board) endTrace(r *request) error {
	agent, err := r.named("agent")
	if err != nil {
		return r.report("/agents", "", err)
	}
	b.note(r.c, agent, "")
	return b.tracing(r, agent, "The trace has ended; its rows stay for ten minutes.", func(ctx context.Context, t Traces) error {
		return t.EndTrace(ctx, agent, r.who.Name)
	})
}

func (b *Board) tracing(r *request, agent, done string, do func(context.Context, Traces) error) error {
	back := "/agents?agent=" + url.QueryEscape(agent)
	if b.cfg.Sources.Traces == nil {
		return r.report(back, "", errors.New("this server traces nobody"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), orderTime)
	defer cancel()
	err := do(ctx, b.cfg.Sources.Traces)
	if e, ok := errors.AsType[*wire.Error](err); ok {
		err = errors.New(e.Message)
	}
	return r.report(back, done, err)
}
