package scale

import (
	"slices"
	"strings"
	"testing"
)

// question is one about a rule on a fleet of 4, with a decision that acts.
func question(rule string, l level, change func(*Question)) *Question {
	rules := DefaultRules()
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == rule })
	p := DefaultPolicy(Capacity{})
	p.Mode = Act
	f := fleetOf(start, 4, l)
	d, _ := Decide(&p, State{}, InputsOf(&f, &p))
	q := Ask(Alert{Rule: rule, State: Firing, Value: 0.95}, rules[i], d, &p, &f, Capacity{}, "")
	if change != nil {
		change(&q)
	}
	return &q
}

// TestLeaves reaches every leaf of the flowchart, by every way that the code has.
func TestLeaves(t *testing.T) {
	none := level{}
	tests := []struct {
		name   string
		q      *Question
		leaf   Box
		advice string
	}{
		{"auto-scaling acts", question("connections_warning", calm(), nil), BoxMonitor, "Auto-scaling answers"},
		{"advice only", question("connections_warning", calm(), func(q *Question) { q.Decision.Mode = Advise }), BoxManual, "Review auto-scaling settings"},
		{"advice to grow", question("cpu_critical", calm(), func(q *Question) { q.Decision.Mode, q.Decision.Desired = Advise, 6 }), BoxManual, "Go from 4 to 6 instances by hand"},
		{"at the maximum", question("cpu_critical", calm().with(CPU, 1).with(Connections, 5000), nil), BoxManual, "Raise the maximum of 20"},
		{"paused", question("cpu_critical", calm(), func(q *Question) { q.Pause = PauseOut }), BoxManual, ""},
		{"pinned", question("cpu_critical", calm(), func(q *Question) { q.Pinned = 4 }), BoxManual, ""},
		{"actuator broken", question("cpu_critical", calm(), func(q *Question) { q.Broken = "the API answers 403" }), BoxManual, ""},
		{"late", question("cpu_critical", calm(), func(q *Question) { q.Decision.Late = true }), BoxManual, ""},
		{"partial", question("cpu_critical", calm(), func(q *Question) {
			q.Decision.Suppressions = []Suppression{{By: ByPartial}}
		}), BoxManual, ""},

		{"slow, processors", question("latency_critical", calm().with(CPU, 0.71), nil), BoxResources, "cpu 71.0%"},
		{"slow, memory", question("latency_critical", calm().with(Memory, 0.81), nil), BoxResources, "memory 81.0%"},
		{"slow, kernel memory", question("latency_critical", calm().with(KernelMemory, 0.31), nil), BoxResources, "kernel_memory 31.0%"},
		{"slow, descriptors", question("latency_critical", calm().with(Descriptors, 0.81), nil), BoxResources, "descriptors 81.0%"},
		{"slow, connections", question("latency_critical", calm().with(Connections, 701), nil), BoxResources, "connections at 70.1% of capacity"},
		{"slow, messages", question("latency_critical", calm().with(MessagesIn, 61), nil), BoxResources, "messages_in at 61.0% of capacity"},
		{"slow, queues", question("latency_critical", calm().with(QueueBytes, 100e6), nil), BoxResources, "100.0 MB wait"},
		{"slow, nothing known", question("latency_critical", none, nil), BoxResources, "can be taken back"},
		{"slow, nothing short", question("latency_warning", calm(), nil), BoxOptimize, "No resource is short"},
		{"slow answers", question("api_critical", calm(), nil), BoxOptimize, ""},

		{"errors, memory", question("errors_critical", calm().with(Memory, 0.91), nil), BoxIncrease, "memory 91.0%"},
		{"errors, processors", question("errors_critical", calm().with(CPU, 0.91), nil), BoxIncrease, "cpu 91.0%"},
		{"errors, busy is not exhausted", question("errors_critical", calm().with(CPU, 0.85), nil), BoxFix, "No resource is exhausted"},
		{"errors, calm", question("errors_warning", calm(), nil), BoxFix, "No resource is exhausted"},
		{"errors, broker down", question("errors_critical", calm().with(Broker, 0).with(CPU, 0.95), nil), BoxFix, "The broker does not answer"},
		{"errors, nothing known", question("errors_critical", none, nil), BoxFix, "restore the samples"},
	}
	reached := map[Box]bool{}
	taken := map[Arrow]bool{}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := Take(tt.q)
			if w.Leaf != tt.leaf || !strings.Contains(w.Advice, tt.advice) {
				t.Fatalf("got %s (%s), want %s with %q\n%s", w.Leaf, w.Advice, tt.leaf, tt.advice, w.Text())
			}
			reached[w.Leaf] = true
			for _, a := range arrows(&w) {
				if !slices.Contains(Flowchart(), a) {
					t.Errorf("got the arrow %v, which the document does not have\n%s", a, w.Text())
				}
				taken[a] = true
			}
			if last := w.Stops[len(w.Stops)-1]; last.Box != BoxDocument {
				t.Errorf("got the end %s, want every walk to end in the scaling log", last.Box)
			}
			for _, s := range w.Stops {
				if (s.Box == BoxSufficient || s.Box == BoxIssue || s.Box == BoxSource || s.Box == BoxType) && (s.Answer == "" || len(s.Evidence) == 0) {
					t.Errorf("box %s: got answer %q on %d facts, want an answer with evidence", s.Box, s.Answer, len(s.Evidence))
				}
				if BoxText(s.Box) == "" {
					t.Errorf("box %s has no text", s.Box)
				}
			}
		})
	}
	for _, leaf := range []Box{BoxMonitor, BoxManual, BoxResources, BoxOptimize, BoxIncrease, BoxFix} {
		if !reached[leaf] {
			t.Errorf("no test reaches %s (%s)", leaf, BoxText(leaf))
		}
	}
	for _, a := range Flowchart() {
		if !taken[a] {
			t.Errorf("no test takes the arrow %v", a)
		}
	}
}

// arrows are the arrows that a walk took.
func arrows(w *Walk) (out []Arrow) {
	for i := range len(w.Stops) - 1 {
		out = append(out, Arrow{From: w.Stops[i].Box, Answer: w.Stops[i].Answer, To: w.Stops[i+1].Box})
	}
	return out
}

// mermaid is the flowchart as the document has it.
const mermaid = `
    A[Monitoring Alert] --> B{Alert Type}
    B -->|Capacity| C[Capacity Alert]
    B -->|Performance| D[Performance Alert]
    B -->|Error| E[Error Rate Alert]
    C --> F{Auto-scaling Sufficient?}
    F -->|Yes| G[Monitor Auto-scaling]
    F -->|No| H[Manual Capacity Adjustment]
    D --> I{Performance Issue Type}
    I -->|Resource Constraint| J[Increase Resources]
    I -->|Optimization Needed| K[Implement Optimizations]
    E --> L{Error Source}
    L -->|Resource Exhaustion| M[Increase Capacity]
    L -->|Code Issue| N[Deploy Fix]
    G --> O[Document in Scaling Log]
    H --> O
    J --> O
    K --> O
    M --> O
    N --> O
`

func TestFlowchartIsTheDocuments(t *testing.T) {
	var want []Arrow
	for line := range strings.Lines(strings.TrimSpace(mermaid)) {
		from, rest, _ := strings.Cut(strings.TrimSpace(line), " -->")
		var a Arrow
		if answer, ok := strings.CutPrefix(rest, "|"); ok {
			a.Answer, rest, _ = strings.Cut(answer, "|")
		}
		a.From, a.To = Box(from[:1]), Box(strings.TrimSpace(rest)[:1])
		for _, box := range []string{from, strings.TrimSpace(rest)} {
			if text := strings.Trim(box[1:], "[]{}"); text != "" && BoxText(Box(box[:1])) != text {
				t.Errorf("box %s: got %q, want %q", box[:1], BoxText(Box(box[:1])), text)
			}
		}
		want = append(want, a)
	}
	got := Flowchart()
	for _, a := range want {
		if !slices.Contains(got, a) {
			t.Errorf("the arrow %v is missing", a)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d arrows, want %d", len(got), len(want))
	}
}

func TestWalkText(t *testing.T) {
	w := Take(question("errors_critical", calm().with(Memory, 0.91), nil))
	text := w.Text()
	for _, want := range []string{"B  Alert Type -> Error", "L  Error Source -> Resource Exhaustion", "+ memory 91.0%, short above 90%",
		"? kernel_memory is not known", "O  Document in Scaling Log", "=> Increase capacity"} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}
}
