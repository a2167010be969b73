package dash

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"agentnet/app/scale"
	"agentnet/app/scale/watch"
)

// heldCard is a piece of advice that an admin has put away.
type heldCard struct {
	adviceCard
	answer watch.Answer
}

// weigh says what a card's evidence amounts to, so coarsely that it changes only when
// somebody should look again: how urgent it is, and tens of percent or the count.
func weigh(card *adviceCard, amount float64) string { return fmt.Sprintf("%s %.0f", card.kind, amount) }

// sift takes the cards out that an admin has put away while their evidence is what it
// was.
func sift(cards []adviceCard, answers []watch.Answer, now time.Time) (open []adviceCard, held []heldCard) {
	for _, card := range cards {
		i := slices.IndexFunc(answers, func(a watch.Answer) bool { return a.Advice == card.key && a.Holds(card.weight, now) })
		if i < 0 {
			open = append(open, card)
		} else {
			held = append(held, heldCard{card, answers[i]})
		}
	}
	return open, held
}

// words say how a card was put away.
func (h *heldCard) words(r *request) string {
	text := "dismissed by " + h.answer.By
	if h.answer.Verdict == watch.Snooze {
		text = "snoozed by " + h.answer.By + " until " + r.stamp(h.answer.Until)
	}
	if h.answer.Reason != "" {
		text += ": " + h.answer.Reason
	}
	return text
}

// snoozeTimes are how long a piece of advice can be put off from the page.
var snoozeTimes = []struct {
	word string
	span time.Duration
}{{"1 day", 24 * time.Hour}, {"7 days", 7 * 24 * time.Hour}, {"30 days", 30 * 24 * time.Hour}}

// cardNamed is the card that a form names, put away or not.
func (b *Board) cardNamed(r *request) (adviceCard, error) {
	sc, name := b.cfg.Sources.Scaling, r.c.FormValue("advice")
	if sc == nil {
		return adviceCard{}, errors.New("this node has no scaling engine")
	}
	st, out := sc.Status(), b.outlook()
	cards, _ := b.advise(r, sc, b.limitRows(r, sc, &out), &st)
	if i := slices.IndexFunc(cards, func(c adviceCard) bool { return c.key == name }); i >= 0 {
		return cards[i], nil
	}
	return adviceCard{}, fmt.Errorf("%.60q is not advised any more", name)
}

// answerAdvice puts a card away, or brings it back.
func (b *Board) answerAdvice(r *request) error {
	card, err := b.cardNamed(r)
	if err != nil {
		return r.report("/capacity", "", err)
	}
	a := watch.Answer{Advice: card.key, Weight: card.weight, Verdict: watch.Verdict(strings.Clone(r.c.FormValue("verdict"))), Reason: strings.Clone(r.c.FormValue("reason"))}
	if a.Verdict == watch.Snooze {
		for _, t := range snoozeTimes {
			if t.word == r.c.FormValue("for") {
				a.Until = time.Now().Add(t.span)
			}
		}
	}
	return b.order(r, "/capacity", "Done.", watch.Command{Op: watch.OpAnswer, Answer: &a})
}

// applyAdvice makes the change of a card that can be made at run time.
func (b *Board) applyAdvice(r *request) error {
	card, err := b.cardNamed(r)
	if err == nil && card.apply == nil {
		err = errors.New("this change cannot be made while the server runs: copy the lines")
	}
	if err != nil {
		return r.report("/capacity", "", err)
	}
	reason := strings.TrimSpace(r.c.FormValue("reason"))
	if len(reason) > 200 || !utf8.ValidString(reason) {
		return r.report("/capacity", "", errors.New("reason: longer than 200 bytes, or not UTF-8"))
	}
	change := *card.apply
	if reason != "" {
		change.Reason += ": " + reason
	}
	return b.order(r, "/capacity", "The change is in force.", change)
}

// actCommand lets the engine carry out what it advises.
func actCommand() *watch.Command {
	mode := scale.Act
	return &watch.Command{Op: watch.OpPolicy, Mode: &mode, Reason: "advice was applied"}
}

// Advice is what the page of capacity advises at this moment, with what was put away
// behind what is open.
func (b *Board) Advice() []watch.Piece {
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return nil
	}
	r := &request{path: "/capacity", now: time.Now(), zone: time.UTC, base: b.cfg.Base}
	st, out := sc.Status(), b.outlook()
	cards, _ := b.advise(r, sc, b.limitRows(r, sc, &out), &st)
	open, held := sift(cards, sc.Answers(), r.now)
	var all []watch.Piece
	for i := range open {
		all = append(all, open[i].piece("open", nil))
	}
	for i := range held {
		state := "dismissed"
		if held[i].answer.Verdict == watch.Snooze {
			state = "snoozed"
		}
		all = append(all, held[i].piece(state, &held[i].answer))
	}
	return all
}

// piece is a card for machines.
func (c *adviceCard) piece(state string, answer *watch.Answer) watch.Piece {
	facts := func(list []Fact) []watch.AdviceFact {
		out := []watch.AdviceFact{}
		for _, f := range list {
			out = append(out, watch.AdviceFact{Name: f.Name, Value: f.Value})
		}
		return out
	}
	p := watch.Piece{Advice: c.key, Weight: c.weight, Urgency: map[string]string{"crit": "now", "warn": "soon"}[c.kind], Title: c.title, Evidence: facts(c.evidence), Effect: facts(c.effect),
		Change: []string{}, Risk: c.risk, Applies: c.apply != nil, State: state, Answer: answer, Apply: c.apply}
	if p.Urgency == "" {
		p.Urgency = "later"
	}
	for _, l := range c.change {
		p.Change = append(p.Change, l.text)
	}
	return p
}

// adviceTable is the advice for machines.
func (b *Board) adviceTable(*request) (*table, error) {
	t := &table{columns: []string{"advice", "weight", "urgency", "title", "evidence", "effect", "change", "risk", "applies", "state", "until", "by", "reason"}}
	facts := func(list []watch.AdviceFact) string {
		var all []string
		for _, f := range list {
			all = append(all, f.Name+": "+f.Value)
		}
		return strings.Join(all, "; ")
	}
	for _, p := range b.Advice() {
		var until any
		by, reason := "", ""
		if a := p.Answer; a != nil {
			by, reason = a.By, a.Reason
			if !a.Until.IsZero() {
				until = a.Until
			}
		}
		t.add(p.Advice, p.Weight, p.Urgency, p.Title, facts(p.Evidence), facts(p.Effect), strings.Join(p.Change, "\n"), p.Risk, p.Applies, p.State, until, by, reason)
	}
	return t, nil
}
