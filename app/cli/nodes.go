package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
)

// nodesCommands are `agentnet nodes …`; without a word they list.
type nodesCommands struct {
	List      nodesCommand   `cmd:"" default:"withargs" help:"List the nodes that are one relay together."`
	Drain     nodesDrain     `cmd:"" help:"Have a node take no new clients and send those that it has to others."`
	Undrain   nodesUndrain   `cmd:"" help:"Take a drain back."`
	Rebalance nodesRebalance `cmd:"" help:"Have a node send some of its clients to others."`
}

// nodesCommand is `agentnet nodes`.
type nodesCommand struct {
	office
	JSON bool `name:"json" help:"Print one JSON object a line."`
}

// nodesReply is the answer of /v1/nodes.
type nodesReply struct {
	Nodes  []nodeJSON `json:"nodes"`
	Cut    bool       `json:"cut"`
	Leader string     `json:"leader"`
}

type nodeJSON struct {
	Node         string   `json:"node"`
	Region       string   `json:"region"`
	State        string   `json:"state"`
	Self         bool     `json:"self"`
	Leader       bool     `json:"leader"`
	Routed       bool     `json:"routed"`
	URL          string   `json:"url,omitempty"`
	Version      string   `json:"version,omitempty"`
	Fingerprint  string   `json:"fingerprint,omitempty"`
	Drift        []string `json:"drift,omitempty"`
	StartedMS    int64    `json:"started_ms"`
	SeenMS       int64    `json:"seen_ms"`
	RTTMS        float64  `json:"rtt_ms"`
	Connections  int      `json:"connections"`
	Capacity     int      `json:"capacity,omitempty"`
	CPU          float64  `json:"cpu"`
	Memory       float64  `json:"memory"`
	MessagesPerS float64  `json:"messages_per_s"`
}

// Run lists the nodes.
func (c *nodesCommand) Run(ctx context.Context, env *Env) error {
	var reply nodesReply
	if err := c.call(ctx, env, http.MethodGet, "/v1/nodes", nil, &reply); err != nil {
		return err
	}
	if c.JSON {
		for _, n := range reply.Nodes {
			if err := printJSON(env.Stdout, n); err != nil {
				return fmt.Errorf("output: %w", err)
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tREGION\tSTATE\tCONNECTIONS\tMSG/S\tRTT\tSEEN\tVERSION\tURL\tNOTES")
	for _, n := range reply.Nodes {
		rtt := "-"
		if n.RTTMS > 0 {
			rtt = fmt.Sprintf("%.1f ms", n.RTTMS)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.0f\t%s\t%s\t%s\t%s\t%s\n", n.Node, n.Region, n.State, n.Connections, n.MessagesPerS, rtt, ago(n.SeenMS),
			orDash(n.Version), orDash(n.URL), n.notes())
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	if reply.Cut {
		fmt.Fprintln(env.Stderr, "agentnet: the node that answers is cut off from the others of its region; it serves its own clients (is its Redis running?)")
	}
	return nil
}

// notes is what a person should know of a node.
func (n *nodeJSON) notes() string {
	var notes []string
	if n.Self {
		notes = append(notes, "answers")
	}
	if n.Leader {
		notes = append(notes, "leads")
	}
	if !n.Routed {
		notes = append(notes, "not routed yet")
	}
	if len(n.Drift) > 0 {
		notes = append(notes, "configured differently: "+strings.Join(n.Drift, " "))
	}
	return strings.Join(notes, ", ")
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
