package client

import (
	"context"
	"fmt"
	"iter"

	"agentnet/app/wire"
)

// agentsPage is how many agents are asked for at a time.
const agentsPage = 200

// History returns up to limit messages of a channel after since, in order, and the
// channel's end. A nil since means from the oldest that is kept.
func (c *Client) History(ctx context.Context, channel string, since *wire.Since, limit int) ([]wire.Message, wire.Since, error) {
	cmd := &wire.Command{Kind: wire.KindHistory, Channel: []byte(channel), Limit: limit, Class: wire.Normal}
	if since != nil {
		cmd.HasSince, cmd.Since = true, *since
	}
	ok, err := c.do(ctx, cmd, always)
	if err != nil {
		return nil, wire.Since{}, fmt.Errorf("history of %s: %w", channel, err)
	}
	return ok.Messages, wire.Since{Epoch: ok.Epoch, Offset: ok.Offset}, nil
}

// Presence returns who listens to a channel.
func (c *Client) Presence(ctx context.Context, channel string) ([]wire.Member, error) {
	return c.presence(ctx, &wire.Command{Channel: []byte(channel)}, channel)
}

// AgentPresence returns how an agent is.
func (c *Client) AgentPresence(ctx context.Context, agent string) ([]wire.Member, error) {
	return c.presence(ctx, &wire.Command{Agent: []byte(agent)}, agent)
}

func (c *Client) presence(ctx context.Context, cmd *wire.Command, of string) ([]wire.Member, error) {
	cmd.Kind, cmd.Class = wire.KindPresence, wire.Normal
	ok, err := c.do(ctx, cmd, always)
	if err != nil {
		return nil, fmt.Errorf("presence of %s: %w", of, err)
	}
	return ok.Members, nil
}

// Agents yields the agents whose names match the glob ("" for all), page by page.
// An error ends it.
func (c *Client) Agents(ctx context.Context, match string) iter.Seq2[wire.AgentInfo, error] {
	return func(yield func(wire.AgentInfo, error) bool) {
		after := ""
		for {
			ok, err := c.do(ctx, &wire.Command{
				Kind: wire.KindAgents, Match: []byte(match), After: []byte(after), Limit: agentsPage, Class: wire.Normal,
			}, always)
			if err != nil {
				yield(wire.AgentInfo{}, fmt.Errorf("agents: %w", err))
				return
			}
			for _, a := range ok.Agents {
				if !yield(a, nil) {
					return
				}
			}
			if ok.Next == "" || ok.Next == after {
				return
			}
			after = ok.Next
		}
	}
}

// Profile publishes what this agent is: its card, its keys, its state. What is left
// out stays as it was. It is published again when a new session begins.
func (c *Client) Profile(ctx context.Context, p wire.Profile) error {
	for name, text := range map[string][]byte{"card": p.Card, "keys": p.Keys} {
		if err := checkPayload(wire.Payload{Data: text}); err != nil {
			return fmt.Errorf("profile: %s: %w", name, err)
		}
	}
	if _, err := c.do(ctx, &wire.Command{Kind: wire.KindProfile, Profile: &p, Class: wire.Normal}, always); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	merged := p
	if old := c.profile; old != nil {
		if merged.Card == nil {
			merged.Card = old.Card
		}
		if merged.Keys == nil {
			merged.Keys = old.Keys
		}
		if merged.State == "" {
			merged.State = old.State
		}
	}
	c.profile = &merged
	return nil
}
