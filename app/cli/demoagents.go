package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// The agents of the demo. A planner asks a researcher, which streams its findings;
// a critic judges the draft; the result is published to a channel to which an
// archivist listens, who tells the planner by a direct message. So each way to
// talk is seen once in a round. Their knowledge is a small table: what the demo
// shows is the talking.
const (
	plannerName    = "demo/planner"
	researcherName = "demo/researcher"
	criticName     = "demo/critic"
	archivistName  = "demo/archivist"
	resultsChannel = "demo/results"
)

// A topic is a question that the agents work on.
type topic struct {
	Question string
	Findings []string
}

var questions = []topic{
	{"How should two agents agree on a time to meet?", []string{
		"Both know their free times; neither needs the other's whole calendar.",
		"Offering three times at once saves messages against asking one by one.",
		"An answer must have a deadline, else both wait for ever."}},
	{"What does an agent do while the other is away?", []string{
		"A message may wait in a mailbox until its time is over.",
		"The sender is told whether it was delivered or parked.",
		"A receipt later says what became of it."}},
	{"How do many agents hear the same news?", []string{
		"A channel gives each message a number.",
		"Whoever was gone for a moment asks for what came after the last number.",
		"A slow listener does not hold up the others."}},
}

// troupe is the agents that take part.
type troupe struct {
	ctx    context.Context
	out    io.Writer
	pace   time.Duration
	cfg    client.Config
	agents []*client.Client
}

// say prints a line of the play.
func (t *troupe) say(who, text string) {
	if who != "" {
		who = fmt.Sprintf("%-11s", strings.TrimPrefix(who, "demo/"))
	}
	fmt.Fprintln(t.out, printable(who+text))
}

// think takes its time.
func (t *troupe) think(ctx context.Context) error {
	select {
	case <-time.After(t.pace):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// join connects one agent.
func (t *troupe) join(name string, add func(*client.Config)) (*client.Client, error) {
	cfg := t.cfg
	cfg.Agent = name
	add(&cfg)
	ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.agents = append(t.agents, c)
	return c, nil
}

func (t *troupe) leave() {
	for _, c := range t.agents {
		_ = c.Close()
	}
}

// gather connects all and returns the planner, who leads.
func (t *troupe) gather() (*planner, error) {
	if _, err := t.join(researcherName, func(c *client.Config) { c.OnRequest = t.research }); err != nil {
		return nil, err
	}
	if _, err := t.join(criticName, func(c *client.Config) { c.OnRequest = t.criticise }); err != nil {
		return nil, err
	}
	archivist, err := t.join(archivistName, func(*client.Config) {})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.ctx, 15*time.Second)
	defer cancel()
	if _, err := archivist.Subscribe(ctx, resultsChannel, client.SubscribeOptions{}, func(ctx context.Context, m *client.Message) {
		t.archive(ctx, archivist, m)
	}); err != nil {
		return nil, err
	}
	p := &planner{troupe: t, filed: make(chan struct{}, 16)}
	p.Client, err = t.join(plannerName, func(c *client.Config) { c.OnMessage = p.hear })
	return p, err
}

// research streams what is known of a question.
func (t *troupe) research(ctx context.Context, r *client.Request) (wire.Payload, error) {
	var question string
	if err := json.Unmarshal(r.Payload.Data, &question); err != nil {
		return wire.Payload{}, &wire.Error{Code: wire.BadFrame, Message: "want a question as a string"}
	}
	for _, known := range questions {
		if known.Question != question {
			continue
		}
		for i, finding := range known.Findings {
			if err := t.think(ctx); err != nil {
				return wire.Payload{}, err
			}
			p, err := client.JSON(finding)
			if err != nil || i == len(known.Findings)-1 {
				return p, err
			}
			if err := r.Reply(ctx, p); err != nil {
				return wire.Payload{}, err
			}
		}
	}
	return wire.Payload{}, &wire.Error{Code: wire.NotFound, Message: "nothing is known of that"}
}

// verdict is what the critic says.
type verdict struct {
	Good    bool   `json:"good"`
	Comment string `json:"comment"`
}

// criticise judges a draft by the number of its findings.
func (t *troupe) criticise(ctx context.Context, r *client.Request) (wire.Payload, error) {
	var draft []string
	if err := json.Unmarshal(r.Payload.Data, &draft); err != nil {
		return wire.Payload{}, &wire.Error{Code: wire.BadFrame, Message: "want a draft as a list of strings"}
	}
	if err := t.think(ctx); err != nil {
		return wire.Payload{}, err
	}
	if len(draft) < 3 {
		return client.JSON(verdict{false, fmt.Sprintf("only %d findings: ask for more", len(draft))})
	}
	return client.JSON(verdict{true, "enough to go on, publish it"})
}

// archive files a published result and tells its author.
func (t *troupe) archive(ctx context.Context, self *client.Client, m *client.Message) {
	t.say(archivistName, fmt.Sprintf("hears #%s number %d and files it", m.Channel, m.Offset))
	p, err := client.JSON(fmt.Sprintf("filed as number %d", m.Offset))
	if err == nil {
		_, err = self.Send(ctx, m.From, p)
	}
	if err != nil && ctx.Err() == nil {
		t.say(archivistName, "could not tell "+m.From+": "+err.Error())
	}
}

// planner leads the work.
type planner struct {
	*troupe
	*client.Client
	filed chan struct{}
}

// hear takes the archivist's word.
func (p *planner) hear(_ context.Context, m *client.Message) {
	p.say(plannerName, fmt.Sprintf("hears from %s: %s", strings.TrimPrefix(m.From, "demo/"), m.Payload.Data))
	select {
	case p.filed <- struct{}{}:
	default:
	}
}

// round works on one question.
func (p *planner) round(q topic) error {
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute+10*p.pace)
	defer cancel()
	p.say(plannerName, "asks the researcher: "+q.Question)
	question, err := client.JSON(q.Question)
	if err != nil {
		return err
	}
	var draft []string
	for piece, err := range p.RequestStream(ctx, researcherName, "research", question) {
		if err != nil {
			return err
		}
		var finding string
		if err := json.Unmarshal(piece.Payload.Data, &finding); err != nil {
			return fmt.Errorf("answer of the researcher: %w", err)
		}
		draft = append(draft, finding)
		p.say(researcherName, fmt.Sprintf("  %d. %s", len(draft), finding))
	}
	if err := p.judge(ctx, draft); err != nil {
		return err
	}
	result, err := client.JSON(map[string]any{"question": q.Question, "findings": draft})
	if err != nil {
		return err
	}
	at, err := p.Publish(ctx, resultsChannel, result)
	if err != nil {
		return err
	}
	p.say(plannerName, fmt.Sprintf("publishes to #%s as number %d", resultsChannel, at.Offset))
	select {
	case <-p.filed:
	case <-ctx.Done():
		return fmt.Errorf("the archivist did not answer: %w", context.Cause(ctx))
	}
	p.say("", "")
	return p.think(ctx)
}

// judge asks the critic.
func (p *planner) judge(ctx context.Context, draft []string) error {
	payload, err := client.JSON(draft)
	if err != nil {
		return err
	}
	reply, err := p.Request(ctx, criticName, "criticise", payload)
	if err != nil {
		return err
	}
	var v verdict
	if err := json.Unmarshal(reply.Payload.Data, &v); err != nil {
		return fmt.Errorf("answer of the critic: %w", err)
	}
	p.say(criticName, v.Comment)
	if !v.Good {
		return fmt.Errorf("the critic was not content: %s", v.Comment)
	}
	return nil
}
