package scale

import (
	"regexp"
	"testing"
	"time"
)

// TestDefaultRulesReadInTrueUnits holds how each default rule, and each document
// row behind it, is shown to people: no number without a unit, none that is only
// there for the machine.
func TestDefaultRulesReadInTrueUnits(t *testing.T) {
	now := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	want := map[string][5]string{ // limit, back, unit, an alert's value of 1.5 times the limit, notification
		"connections_warning":  {"70% of capacity", "63% of capacity", "share", "105% of capacity", "connections at 105.0% of capacity"},
		"connections_critical": {"90% of capacity", "81% of capacity", "share", "135% of capacity", "connections at 135.0% of capacity"},
		"cpu_warning":          {"70%", "63%", "share", "105%", "cpu 105.0%"},
		"cpu_critical":         {"90%", "81%", "share", "135%", "cpu 135.0%"},
		"memory_warning":       {"70%", "63%", "share", "105%", "memory 105.0%"},
		"memory_critical":      {"90%", "81%", "share", "135%", "memory 135.0%"},
		"errors_warning":       {"2%", "1.8%", "share", "3%", "error_rate 3.0%"},
		"errors_critical":      {"5%", "4.5%", "share", "7.5%", "error_rate 7.5%"},
		"latency_warning":      {"500 ms", "450 ms", "seconds", "750 ms", "delivery_p95 750 ms"},
		"latency_critical":     {"1 s", "900 ms", "seconds", "1.5 s", "delivery_p95 1500 ms"},
		"api_critical":         {"3 s", "2.7 s", "seconds", "4.5 s", "api_p95 4500 ms"},
		"broker_down":          {"50%", "100%", "share", "75%", "broker 75.0%"},
		"kernel_memory":        {"30%", "27%", "share", "45%", "kernel_memory 45.0%"},
		"descriptors":          {"80%", "72%", "share", "120%", "descriptors 120.0%"},
		"messages_capacity":    {"90% of capacity", "81% of capacity", "share", "135% of capacity", "messages_in at 135.0% of capacity"},
		"reconnect_storm":      {"500 connections/s", "450 connections/s", "connections/s", "750 connections/s", "accept_rate 750"},
		"node_silent":          {"no sample for 10 s", "samples again", "seconds", "no sample for 12 s", "no sample for 12 s"},
	}
	unitless := regexp.MustCompile(`\d$`)
	for _, r := range DefaultRules() {
		w, ok := want[r.Name]
		if !ok {
			t.Errorf("%s: is not in the table", r.Name)
			continue
		}
		delete(want, r.Name)
		a := Alert{Rule: r.Name, State: Firing, Value: 1.5 * r.Threshold, Worst: 1.5 * r.Threshold, Seen: now.Add(-12 * time.Second), NoData: r.OfSilence()}
		j := Judgement{Rule: r, After: a, Observation: Observation{At: now}}
		d := j.detail()
		got := [5]string{r.Limit(), r.Back(), r.Unit(), r.Standing(&a, now), d.Value}
		if got != w {
			t.Errorf("%s:\n got %q\nwant %q", r.Name, got, w)
		}
		for _, text := range got[:4] {
			if unitless.MatchString(text) {
				t.Errorf("%s: %q has no unit", r.Name, text)
			}
		}
		value, threshold := r.Figures(&a, now)
		if r.OfSilence() && (value != 12 || threshold != 10) || !r.OfSilence() && (value != a.Value || threshold != r.Threshold) {
			t.Errorf("%s: figures %v and %v", r.Name, value, threshold)
		}
	}
	for name := range want {
		t.Errorf("%s: is no default rule any more", name)
	}
}

// TestSilenceIsToldInWords follows a node that goes silent and is forgotten, and one
// that comes back, and wants no machine's number in any text.
func TestSilenceIsToldInWords(t *testing.T) {
	begin := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	i := 0
	rules := DefaultRules()
	for ; rules[i].Name != "node_silent"; i++ {
	}
	r := &rules[i]
	for name, c := range map[string]struct {
		after Validity
		want  []string
	}{
		"back": {Fresh, []string{"connections has had no value for 10s", "it has been heard again for 2m0s"}},
		"gone": {Idle, []string{"connections has had no value for 10s", "it has been away for good, or forgotten, for 2m0s"}},
	} {
		a, texts := Alert{Rule: r.Name, Node: "n2"}, []string{}
		for s := range 200 {
			o := Observation{At: begin.Add(time.Duration(s) * time.Second), Reading: Reading{State: Fresh, Value: 40}}
			switch {
			case s >= 20 && s < 45:
				o.Reading = Reading{State: Stale}
			case s >= 45:
				o.Reading = Reading{State: c.after, Value: 40}
			}
			var events []Event
			a, events = Judge(r, a, o)
			for _, e := range events {
				texts = append(texts, e.Why)
			}
		}
		if len(texts) != 2 || texts[0] != c.want[0] || texts[1] != c.want[1] {
			t.Errorf("%s: got %q, want %q", name, texts, c.want)
		}
	}
}
