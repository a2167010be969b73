package monitor

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// committed reads the list of metrics back from the table that is in the tree.
func committed(t *testing.T) List {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "monitoring", "METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []Metric
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") && len(cells) == 4 {
			all = append(all, Metric{Name: strings.Trim(cells[0], "| `"), Kind: Kind(cells[1]), Label: strings.TrimSpace(cells[2]), Help: strings.TrimSuffix(strings.TrimSpace(cells[3]), " |")})
		}
	}
	list, err := NewList(all)
	if err != nil || len(list) < 50 {
		t.Fatalf("got %d metrics, %v", len(list), err)
	}
	return list
}

func TestEveryMetricHasAPanelAndEveryPanelIsValid(t *testing.T) {
	list := committed(t)
	text, err := Dashboard(list)
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: panels\n    rules:\n")
	used, places, n := map[string]bool{}, map[string]int{}, 0
	for _, p := range board.Panels {
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d is wider than the page: %+v", p.ID, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[fmt.Sprint(x, y)]; other != 0 {
					t.Fatalf("the panels %d and %d lie on each other", other, p.ID)
				}
				places[fmt.Sprint(x, y)] = p.ID
			}
		}
		for _, target := range p.Targets {
			for _, name := range ours.FindAllString(target.Expr, -1) {
				used[strings.TrimSuffix(name, "_bucket")] = true
			}
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(target.Expr)
			fmt.Fprintf(&rules, "      - {record: 'panel:%d', expr: %s}\n", n, quoted(expr))
			n++
		}
	}
	for _, m := range list {
		if !used[m.Name] && m.Name != "agentnet_node_info" && m.Name != "agentnet_start_time_seconds" {
			t.Errorf("%s is on no panel", m.Name)
		}
	}
	// Prometheus itself says whether every expression can be read.
	file := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput()
	if err != nil || !regexp.MustCompile(fmt.Sprintf(`SUCCESS: %d rules`, n)).Match(out) {
		t.Errorf("promtool (apt-get install prometheus): %v\n%s", err, out)
	}
}

func TestWhatIsCommittedIsWhatTheListGives(t *testing.T) {
	list := committed(t)
	dashboard, err := Dashboard(list)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Rules(list)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"agentnet.dashboard.json": append(dashboard, '\n'), "agentnet.rules.yml": rules} {
		got, err := os.ReadFile(filepath.Join("..", "..", "packaging", "monitoring", name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is stale (%v): sh scripts/generate.sh", name, err)
		}
	}
}

func TestANameThatNoMetricHasIsRefused(t *testing.T) {
	list := committed(t)
	if err := list.check("rule X", "rate(agentnet_connections_accepted_totals[5m])"); err == nil || !strings.Contains(err.Error(), "agentnet_connections_accepted_totals") {
		t.Errorf("got %v, want an error that names the metric", err)
	}
	if _, err := Rules(nil); err == nil {
		t.Error("rules without metrics: got no error")
	}
	if _, err := NewList([]Metric{{Name: "a", Kind: Gauge}, {Name: "a", Kind: Counter}}); err == nil {
		t.Error("one name, two metrics: got no error")
	}
}

func TestUnits(t *testing.T) {
	for m, want := range map[Metric]string{
		{Name: "agentnet_x_bytes", Kind: Gauge}: "bytes", {Name: "agentnet_x_bytes_total", Kind: Counter}: "Bps", {Name: "agentnet_x_seconds", Kind: Gauge}: "s",
		{Name: "agentnet_x_total", Kind: Counter}: "ops", {Name: "agentnet_x_share", Kind: Gauge}: "percentunit", {Name: "agentnet_agents", Kind: Gauge}: "short",
	} {
		if got := unit(m); got != want {
			t.Errorf("%s: got %s, want %s", m.Name, got, want)
		}
	}
}
