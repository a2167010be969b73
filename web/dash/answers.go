package dash

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	return b.order(r, "/capacity", "The change is in force.", *card.apply)
}

// actCommand lets the engine carry out what it advises.
func actCommand() *watch.Command {
	mode := scale.Act
	return &watch.Command{Op: watch.OpPolicy, Mode: &mode, Reason: "advice was applied"}
}

// adviceTable is the advice for machines.
func (b *Board) adviceTable(r *request) (*table, error) {
	t := &table{columns: []string{"advice", "weight", "urgency", "title", "change", "risk", "applies", "state", "until", "by", "reason"}}
	sc := b.cfg.Sources.Scaling
	if sc == nil {
		return t, nil
	}
	st, out := sc.Status(), b.outlook()
	cards, _ := b.advise(r, sc, b.limitRows(r, sc, &out), &st)
	open, held := sift(cards, sc.Answers(), r.now)
	lines := func(c *adviceCard) string {
		var all []string
		for _, l := range c.change {
			all = append(all, l.text)
		}
		return strings.Join(all, "\n")
	}
	for i := range open {
		c := &open[i]
		t.add(c.key, c.weight, c.word, c.title, lines(c), c.risk, c.apply != nil, "open", nil, "", "")
	}
	for i := range held {
		c := &held[i]
		var until any
		if !c.answer.Until.IsZero() {
			until = c.answer.Until
		}
		t.add(c.key, c.weight, c.word, c.title, lines(&c.adviceCard), c.risk, c.apply != nil, string(c.answer.Verdict), until, c.answer.By, c.answer.Reason)
	}
	return t, nil
}
