//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"agentnet/app/scale"
	"agentnet/store"

	"github.com/chromedp/chromedp"
)

// A newcomer is somebody who has an empty folder, the program and a browser.
type newcomer struct {
	t     *testing.T
	b     *browser
	house *house
	node  *process
	shots int
	token string
}

// shot keeps a numbered picture of this step.
func (n *newcomer) shot(name string) {
	n.t.Helper()
	n.shots++
	n.b.shot(fmt.Sprintf("newcomer-%d-%s", n.shots, name))
}

// sees opens a page and waits until a word stands on it, loading it again where it
// does not change by itself.
func (n *newcomer) sees(path, word string, within time.Duration) {
	n.t.Helper()
	n.b.open(n.node.url + path)
	var text string
	waitFor(within, func() bool {
		n.b.eval(`document.getElementById("main").innerText`, &text)
		if strings.Contains(text, word) {
			return true
		}
		n.b.open(n.node.url + path)
		n.b.live()
		return false
	}, func() { n.t.Fatalf("%s: %q did not appear in %v: %s\n%s", path, word, within, text, n.node.log) })
}

// nodeCapacity is the one thing in the file of the newcomer: how much a node takes.
// A guess would be no reason to act while the machine is calm, as it is here. The demo
// sends more than three times as much, so that it is too much on a slow machine too.
const nodeCapacity = "  instance_messages: 40\n"

// TestNewcomersFirstHour goes the way of the first hour with the program itself, as
// processes: an empty folder, the link that serve prints, the first admin, the first
// token, the demo's agents, an alert by a rule that was made strict, the advice, the
// change that it names, the decision in the log, and what came of it.
func TestNewcomersFirstHour(t *testing.T) {
	dir := t.TempDir()
	n := &newcomer{t: t, house: &house{t: t, dir: dir, config: filepath.Join(dir, "agentnet.yaml")}}
	if err := os.WriteFile(n.house.config, []byte("scaling:\n"+nodeCapacity), 0o600); err != nil {
		t.Fatal(err)
	}
	n.node = n.house.start()
	n.b = openBrowser(t, 4*time.Minute)
	n.b.resize(laptop)
	n.account()
	n.demo()
	n.b.live()
	n.shot("demo-agents")
	n.alert()
	n.advice()
	n.outcome()
	n.b.check("the first hour")
}

// account goes from the printed link to the first token.
func (n *newcomer) account() {
	n.t.Helper()
	const password = "four words and more"
	var link []byte
	waitFor(20*time.Second, func() bool {
		link = regexp.MustCompile(`http://[^"\s]+/setup/[^"\s]+`).Find([]byte(n.node.log.String()))
		return link != nil
	}, func() { n.t.Fatalf("serve printed no setup link:\n%s", n.node.log) })
	n.b.open(string(link))
	n.shot("setup")
	n.b.send("the first admin", "form button.go", "input[name=name]", "anna", "input[name=password]", password, "input[name=again]", password)
	n.b.live()
	n.shot("empty")
	n.b.open(n.node.url + "/access")
	n.b.send("the first token", "form[action='/access/tokens'] button.go", "input[name=name]", "demo", "input[name=agents]", "demo/**")
	n.token = strings.TrimSpace(n.b.text("#secret"))
	// A picture that people pass on must not hold a token, even a dead one.
	n.b.eval(`document.getElementById("secret").textContent = "agn_… (shown once)"; true`, nil)
	n.shot("token")
}

// demo starts the agents of `agentnet demo` until the test ends.
func (n *newcomer) demo() {
	n.t.Helper()
	cmd := program(n.t, "demo", "--url", n.node.url, "--rounds", "0", "--pace", "4ms")
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "AGENTNET_TOKEN="+n.token)
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	waitFor(20*time.Second, func() bool { return strings.Contains(said.String(), "hears from archivist") }, func() { n.t.Fatalf("the demo does not talk: %s", said) })
	n.sees("/agents", "demo/planner", 20*time.Second)
}

// alert makes a rule strict in the editor, and waits until it fires.
func (n *newcomer) alert() {
	n.t.Helper()
	n.b.open(n.node.url + "/alerts?rule=messages_capacity")
	n.b.send("try a rule", "#rule form[method=get] button", "input[name=threshold]", "50", "input[name=clear]", "40", "input[name=hold]", "3", "input[name=keep]", "600")
	n.b.do("save the rule", chromedp.Click(`form[action$="/alerts/rules"] button`, chromedp.NodeVisible))
	n.b.says("The rule is in force")
	n.sees("/alerts", "nobody has taken it yet", 40*time.Second)
	n.shot("alert")
	n.b.open(n.node.url + "/")
	n.b.live()
	n.shot("overview")
}

// advice reads what the page says and does it: the change goes into the file, the
// server is started again, and the engine writes its decision to the log.
func (n *newcomer) advice() {
	n.t.Helper()
	n.sees("/capacity", "Allow more nodes", 40*time.Second)
	n.shot("advice")
	change := n.b.text(".diff")
	want := regexp.MustCompile(`\+\s+max: (\d+)`).FindStringSubmatch(change)
	if want == nil {
		n.t.Fatalf("got %q as the exact change, want a new maximum", change)
	}
	n.restart("scaling:\n" + nodeCapacity + "  max: " + want[1] + "\n")
	n.demo() // the one before ended with its server
	n.sees("/log?kind=decisions", "scale up from 1 to", 60*time.Second)
	n.b.press(`.log a.what, .log .what a, .log a`)
	n.shot("log-entry")
}

func (n *newcomer) restart(config string) {
	n.t.Helper()
	n.b.do("leave before the node stops", chromedp.Navigate("about:blank"))
	_ = n.node.cmd.Process.Signal(os.Interrupt)
	n.node.endsWell(30 * time.Second)
	if err := os.WriteFile(n.house.config, []byte(config), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.node = n.house.startAt(n.node.addr)
}

// outcome shows the half hours before and after the decision. They cannot be waited
// for: while the server is stopped, the decision that the engine has just made is
// written to the log once more as of 40 minutes ago, with made-up samples of the
// hour around it. Comparing them, the verdict and the entry are the server's own.
func (n *newcomer) outcome() {
	n.t.Helper()
	n.b.do("leave before the node stops", chromedp.Navigate("about:blank"))
	_ = n.node.cmd.Process.Signal(os.Interrupt)
	n.node.endsWell(30 * time.Second)
	desired := n.past()
	n.node = n.house.startAt(n.node.addr)
	n.sees("/log?kind=actions", fmt.Sprintf("1 to %d instances", desired), 40*time.Second)
	n.b.press(`.log a.what, .log .what a, .log a`)
	n.b.wants("#main", "Delivery p95")
	n.shot("before-after")
}

// past stores a decision of 40 minutes ago and ten-second samples around it.
func (n *newcomer) past() (desired int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := store.Open(ctx, store.Config{Dir: filepath.Join(n.house.dir, "data")})
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	page, err := db.ScaleLogPage(ctx, scale.LogFilter{Kinds: []scale.Kind{scale.KindDecision}, Limit: 100})
	if err != nil {
		n.t.Fatal(err)
	}
	at := time.Now().Add(-40 * time.Minute).Truncate(10 * time.Second)
	for i := range page {
		var d scale.DecisionData
		if err := json.Unmarshal(page[i].Data, &d); err != nil {
			n.t.Fatal(err)
		}
		if !d.Decision.Changed() {
			continue
		}
		desired = d.Decision.Desired
		e := scale.Entry{At: at, Kind: scale.KindDecision, Actor: page[i].Actor, Region: page[i].Region, Summary: page[i].Summary, Data: bytes.Clone(page[i].Data)}
		if _, err := db.AppendScaleLog(ctx, "n1", []scale.Entry{e}); err != nil {
			n.t.Fatal(err)
		}
		break
	}
	if desired == 0 {
		n.t.Fatalf("no decision of %d changes the count", len(page))
	}
	var rows []scale.NodeRollup
	for from := at.Add(-scale.CompareSpan); from.Before(at.Add(scale.CompareSpan)); from = from.Add(10 * time.Second) {
		instances := 1
		if !from.Before(at.Add(time.Minute)) { // what was asked for needs a moment to start
			instances = desired
		}
		rows = append(rows, scale.NodeRollup{Rollup: madeUp(from, 10*time.Second, instances, 4, 240)})
	}
	if err := db.PutRollups(ctx, rows, nil, time.Now(), 0); err != nil {
		n.t.Fatal(err)
	}
	return desired
}
