package api

import (
	"encoding/json"
	"net/http"

	"agentnet/app/relay"
	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

// AgentsReply is one page of the directory.
type AgentsReply struct {
	Agents []Agent `json:"agents"`
	Next   string  `json:"next,omitempty" doc:"The after of the next page; absent on the last."`
	Gaps
}

// Gaps say what a list of all nodes lacks.
type Gaps struct {
	Partial bool     `json:"partial,omitempty" doc:"True when not every node could be asked: what only others know is missing."`
	Missing []string `json:"missing,omitempty" doc:"The nodes that did not answer in time."`
}

// An Agent is one entry of the directory.
type Agent struct {
	Agent        string          `json:"agent"`
	State        wire.AgentState `json:"state" enum:"available,busy,away,offline"`
	Sessions     int             `json:"sessions"`
	LastActiveMS int64           `json:"last_active_ms" doc:"Milliseconds since 1970."`
	Queue        int             `json:"queue" doc:"Frames that wait for it."`
	Card         json.RawMessage `json:"card,omitempty" doc:"What the agent published of itself."`
	Keys         json.RawMessage `json:"keys,omitempty" doc:"Its public keys."`
}

func (a *API) agents(c *fiber.Ctx, id *relay.Identity) error {
	q, err := page(c)
	if err != nil {
		return err
	}
	found, p, err := a.cfg.Relay.Agents(c.UserContext(), id, q.Match, q.After, q.Limit)
	if err != nil {
		return err
	}
	reply := AgentsReply{Agents: make([]Agent, len(found)), Next: p.Next, Gaps: Gaps{p.Partial, p.Missing}}
	for i, f := range found {
		reply.Agents[i] = Agent{Agent: f.Agent, State: f.State, Sessions: f.Sessions,
			LastActiveMS: f.LastActiveMS, Queue: f.Queue, Card: f.Card, Keys: f.Keys}
	}
	return writeJSON(c, http.StatusOK, reply)
}

// ChannelsReply is one page of the list of channels.
type ChannelsReply struct {
	Channels []relay.ChannelInfo `json:"channels"`
	Next     string              `json:"next,omitempty" doc:"The after of the next page; absent on the last."`
	Gaps
}

func (a *API) channels(c *fiber.Ctx, id *relay.Identity) error {
	q, err := page(c)
	if err != nil {
		return err
	}
	found, p, err := a.cfg.Relay.Channels(c.UserContext(), id, q.Match, q.After, q.Limit)
	if err != nil {
		return err
	}
	if found == nil {
		found = []relay.ChannelInfo{}
	}
	return writeJSON(c, http.StatusOK, ChannelsReply{Channels: found, Next: p.Next, Gaps: Gaps{p.Partial, p.Missing}})
}
