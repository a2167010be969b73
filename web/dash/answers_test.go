package dash

import (
	"testing"
	"time"

	"agentnet/app/scale/watch"
)

func TestAdviceComesBackWithOtherEvidence(t *testing.T) {
	now := time.Now()
	card := adviceCard{kind: "warn", key: "memory@n1"}
	card.weight = weigh(&card, 7)
	worse := card
	worse.kind = "crit"
	worse.weight = weigh(&worse, 9)
	snooze := watch.Answer{Advice: "memory@n1", Verdict: watch.Snooze, Weight: card.weight, Until: now.Add(time.Hour)}
	dismiss := watch.Answer{Advice: "memory@n1", Verdict: watch.Dismiss, Weight: card.weight}
	for _, c := range []struct {
		what   string
		card   adviceCard
		answer watch.Answer
		at     time.Time
		held   int
	}{
		{"snoozed", card, snooze, now, 1}, {"its time is over", card, snooze, now.Add(2 * time.Hour), 0}, {"snoozed, and worse", worse, snooze, now, 0},
		{"dismissed", card, dismiss, now.Add(900 * time.Hour), 1}, {"dismissed, and worse", worse, dismiss, now, 0},
		{"opened again", card, watch.Answer{Advice: "memory@n1", Verdict: watch.Reopen, Weight: card.weight}, now, 0}, {"another's", card, watch.Answer{Advice: "cpu@n1", Verdict: watch.Dismiss, Weight: card.weight}, now, 0},
	} {
		open, held := sift([]adviceCard{c.card}, []watch.Answer{c.answer}, c.at)
		if len(held) != c.held || len(open)+len(held) != 1 {
			t.Errorf("%s: got %d held and %d open, want %d held", c.what, len(held), len(open), c.held)
		}
	}
}
