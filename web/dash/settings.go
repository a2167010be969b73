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
	running  bool   // the doctor is still at work
	fault    string // why it is not
	admin    bool
	worst    string
	word     string
	filter   string
	changed  bool // only what differs from the default
	entries  []Setting
	stream   StreamStats
}

const (
	// examinedFor is how long the doctor's findings are good: looking takes seconds
	// and asks the machine.
	examinedFor = time.Minute
	// examineTime bounds one examination.
	examineTime = 30 * time.Second
	// examineWait is how long a page waits for the findings, most of which are made
	// at once, before it is drawn without those that are not there.
	examineWait = 300 * time.Millisecond
)

// An examination holds the doctor's findings, also while they are being made.
type examination struct {
	mu       sync.Mutex
	findings []doctor.Finding // Guarded by mu. Without a result: not made yet
}

func (x *examination) begin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.findings = doctor.Planned()
}

func (x *examination) take(place int, f doctor.Finding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if place < len(x.findings) {
		x.findings[place] = f
	}
}

func (x *examination) list() []doctor.Finding {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.findings)
}

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
	view := &view{title: "Settings", body: settingsPage(v), plain: true}
	if v.admin && r.query.Get("examine") != "" {
		b.examine(r, s, v, examineWait, r.c != nil)
		view.parts = []part{{"doctor", doctorPart(v)}}
	}
	if v.running {
		view.every, view.refresh = 1, soonRefresh
	}
	return view, nil
}

// examine has the doctor look at this server and shows what is found so far. The
// stream of a page only asks how far it is.
func (b *Board) examine(r *request, s Settings, v *settingsView, wait time.Duration, begin bool) {
	var look func(context.Context) struct{}
	if begin {
		look = func(ctx context.Context) struct{} {
			b.examination.begin()
			s.Examine(ctx, b.examination.take)
			return struct{}{}
		}
	}
	p, err := b.examinations.get("", wait, look)
	if err != nil {
		v.fault = err.Error()
		return
	}
	v.findings = b.examination.list()
	if p == nil {
		v.running = true
		if len(v.findings) == 0 { // it has not begun
			v.findings = doctor.Planned()
		}
		return // in the order of the list
	}
	order := map[doctor.Result]int{doctor.Fail: 0, doctor.Warn: 1, doctor.OK: 2, doctor.Skipped: 3}
	slices.SortStableFunc(v.findings, func(a, c doctor.Finding) int { return order[a.Result] - order[c.Result] })
	v.examined = r.stamp(p.ended)
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
	if r == "" {
		return "info", "At work"
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
