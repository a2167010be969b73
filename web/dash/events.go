package dash

import (
	"context"
	"fmt"
	"strings"
	"time"

	"agentnet/app/scale"
)

// eventKinds are what is worth a mark in a chart.
var eventKinds = []scale.Kind{scale.KindDecision, scale.KindAction, scale.KindResult, scale.KindAlert, scale.KindConfig, scale.KindDrain, scale.KindStorm, scale.KindNote, scale.KindNode, scale.KindDrill}

// events are the newest of a range from the scaling log, the newest first.
func (b *Board) events(r *request, rng timeRange, most int) []eventRow {
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	entries, err := sc.Log(ctx, scale.LogFilter{Kinds: eventKinds, From: rng.from, To: rng.to, Limit: most})
	if err != nil {
		b.cfg.Logger.Warn("the scaling log could not be read", "error", err)
		return nil
	}
	out := make([]eventRow, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		kind, icon, word := entryLook(e)
		out = append(out, eventRow{when: e.At, at: r.clock(e.At), kind: kind, icon: icon, word: word, text: e.Summary, note: e.Actor, path: entryPath(r, e)})
	}
	return out
}

// entryPath is the page of one entry.
func entryPath(r *request, e *scale.LogEntry) string {
	return r.base + "/log/entry?seq=" + fmt.Sprint(e.Seq) + "&origin=" + strings.ReplaceAll(e.Origin, "&", "%26")
}

// entryLook is the colour, symbol and word of an entry. What is past is quiet.
func entryLook(e *scale.LogEntry) (kind, icon, word string) {
	switch e.Kind {
	case scale.KindDecision:
		return "none", "up", "Decision"
	case scale.KindAlert:
		return "none", "warn", "Alert"
	case scale.KindWalk:
		return "none", "log", "Walk"
	case scale.KindAction:
		return "none", "deploy", "Action"
	case scale.KindResult:
		return "none", "ok", "Result"
	case scale.KindOutcome:
		return "none", "trends", "Before, after"
	case scale.KindConfig:
		return "none", "settings", "Config"
	case scale.KindDrain:
		return "none", "down", "Drain"
	case scale.KindStorm:
		return "none", "bolt", "Storm"
	case scale.KindNote:
		return "none", "note", "Note"
	case scale.KindSilence:
		return "none", "mute", "Silence"
	case scale.KindForecast:
		return "none", "trends", "Forecast"
	case scale.KindDrill:
		return "none", "simulator", "Drill"
	case scale.KindPlanning:
		return "none", "capacity", "Planning"
	case scale.KindNode:
		return "none", "nodes", "Node"
	}
	return "none", "none", e.Kind.String()
}

// sentence begins a text with a capital.
func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
