package dash

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"agentnet/app/doctor"
)

// brokerView is the page of the broker.
type brokerView struct {
	r                    *request
	kind, word, sentence string
	groups               []Group
}

func (b *Board) broker(r *request) (*view, error) {
	v := &brokerView{r: r, kind: "none", word: "Unknown", sentence: "This server says nothing of its broker."}
	if s := b.cfg.Sources.Broker; s != nil {
		v.kind, v.word, v.sentence = s.State()
		v.groups = s.Groups()
	}
	return &view{title: "Broker", body: brokerPage(v), plain: true, every: 2, parts: []part{{"broker", brokerFacts(v)}}}, nil
}

// settingsView is the page of settings.
type settingsView struct {
	r        *request
	findings []doctor.Finding
	examined string
	admin    bool
	worst    string
	word     string
	filter   string
	changed  bool // only what differs from the default
	entries  []Setting
	stream   StreamStats
}

// examination keeps the doctor's last findings: looking takes seconds and asks
// the machine, so that a page asks at most once a minute.
type examination struct {
	mu       sync.Mutex
	at       time.Time
	findings []doctor.Finding
}

const examinedFor = time.Minute

func (b *Board) settings(r *request) (*view, error) {
	v := &settingsView{r: r, admin: r.who.Role >= Admin, filter: r.query.Get("q"), changed: r.query.Get("changed") != "", stream: b.stream.stats()}
	s := b.cfg.Sources.Config
	if s == nil {
		return &view{title: "Settings", body: settingsPage(v), plain: true}, nil
	}
	for _, e := range s.Entries() {
		if v.changed && e.Source == "default" || !strings.Contains(e.Name+" "+e.Doc, v.filter) {
			continue
		}
		v.entries = append(v.entries, e)
	}
	if v.admin && r.query.Get("examine") != "" {
		b.examine(r, s, v)
	}
	return &view{title: "Settings", body: settingsPage(v), plain: true}, nil
}

func (b *Board) examine(r *request, s Settings, v *settingsView) {
	x := &b.examination
	x.mu.Lock()
	defer x.mu.Unlock()
	if time.Since(x.at) > examinedFor {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		x.findings, x.at = s.Examine(ctx), time.Now()
	}
	v.findings = slices.Clone(x.findings)
	order := map[doctor.Result]int{doctor.Fail: 0, doctor.Warn: 1, doctor.OK: 2, doctor.Skipped: 3}
	slices.SortStableFunc(v.findings, func(a, c doctor.Finding) int { return order[a.Result] - order[c.Result] })
	v.examined = r.stamp(x.at)
	v.worst, v.word = findingLook(doctor.Worst(v.findings))
}

func findingLook(r doctor.Result) (kind, word string) {
	switch r {
	case doctor.OK:
		return "ok", "OK"
	case doctor.Warn:
		return "warn", "Look at it"
	case doctor.Fail:
		return "crit", "Wrong"
	}
	return "none", "Not looked at"
}

func (b *Board) settingTable(r *request) (*table, error) {
	t := &table{columns: []string{"name", "value", "default", "source", "help"}}
	if s := b.cfg.Sources.Config; s != nil {
		for _, e := range s.Entries() {
			t.add(e.Name, e.Value, e.Default, e.Source, e.Doc)
		}
	}
	return t, nil
}

// privacyView is the page that says what is stored.
type privacyView struct {
	r    *request
	kept []Keeping
}

func (b *Board) privacy(r *request) (*view, error) {
	v := &privacyView{r: r}
	if s := b.cfg.Sources.Config; s != nil {
		v.kept = s.Kept()
	}
	return &view{title: "Privacy", body: privacyPage(v), plain: true}, nil
}

func (b *Board) privacyTable(r *request) (*table, error) {
	t := &table{columns: []string{"what", "where", "why", "how_long", "now"}}
	if s := b.cfg.Sources.Config; s != nil {
		for _, k := range s.Kept() {
			t.add(k.What, k.Where, k.Why, k.HowLong, k.Now)
		}
	}
	return t, nil
}
