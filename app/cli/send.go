package cli

import (
	"context"
	"fmt"
	"time"

	"agentnet/app/client"
	"agentnet/app/wire"
)

// sendCommand is `agentnet send`.
type sendCommand struct {
	To   string `arg:"" help:"Agent that gets it."`
	Data string `arg:"" help:"JSON, or text that is sent as a JSON string; - reads standard input."`

	connection
	content
	TTL          time.Duration `name:"ttl" help:"Let it wait so long in the mailbox when the agent is away, such as 1h."`
	Key          string        `help:"Dedup key: the same key within two minutes is accepted once."`
	Receipts     bool          `help:"Also wait until the receiver says what became of it."`
	ReceiptsWait time.Duration `default:"60s" help:"Longest wait for receipts."`
	Timeout      time.Duration `default:"15s" help:"Longest wait for the answer."`
	JSON         bool          `name:"json" help:"Print JSON."`
}

// sentJSON is what --json prints.
type sentJSON struct {
	ID       string       `json:"id"`
	Outcome  wire.Outcome `json:"outcome"`
	Sessions int          `json:"sessions"`
}

type receiptJSON struct {
	ID    string            `json:"id"`
	State wire.ReceiptState `json:"state"`
	From  string            `json:"from,omitempty"`
	Note  string            `json:"note,omitempty"`
}

// Run sends one message.
func (c *sendCommand) Run(ctx context.Context, env *Env) error {
	payload, err := c.payload(env, c.Data)
	if err != nil {
		return err
	}
	opts, err := c.options()
	if err != nil {
		return err
	}
	if c.TTL > 0 {
		opts = append(opts, client.TTL(c.TTL))
	}
	if c.Key != "" {
		opts = append(opts, client.Key(c.Key))
	}
	receipts := make(chan wire.Receipt, 64)
	if c.Receipts {
		opts = append(opts, client.Receipts())
	}
	conn, err := c.dial(ctx, env, func(cfg *client.Config) {
		cfg.OnReceipt = func(r wire.Receipt) {
			select {
			case receipts <- r:
			default: // of other messages; ours has a handful
			}
		}
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	sent, err := conn.Send(answer, c.To, payload, opts...)
	if err != nil {
		return fmt.Errorf("to %s: %w", c.To, err)
	}
	if c.JSON {
		err = printJSON(env.Stdout, sentJSON{sent.MessageID, sent.Outcome, sent.Sessions})
	} else {
		_, err = fmt.Fprintln(env.Stdout, sentText(sent))
	}
	if err != nil || !c.Receipts {
		return err
	}
	return c.await(ctx, env, sent.MessageID, receipts)
}

func sentText(s client.Sent) string {
	switch {
	case s.Outcome == wire.Parked:
		return fmt.Sprintf("parked %s: it waits until the agent is back", s.MessageID)
	case s.Sessions == 1:
		return fmt.Sprintf("%s %s", s.Outcome, s.MessageID)
	}
	return fmt.Sprintf("%s %s to %d sessions", s.Outcome, s.MessageID, s.Sessions)
}

// await prints receipts until one is the last.
func (c *sendCommand) await(ctx context.Context, env *Env, id string, receipts <-chan wire.Receipt) error {
	timer := time.NewTimer(c.ReceiptsWait)
	defer timer.Stop()
	for {
		select {
		case r := <-receipts:
			if r.MessageID != id {
				continue
			}
			if err := c.printReceipt(env, r); err != nil {
				return err
			}
			switch r.State {
			case wire.ReceiptDone, wire.ReceiptRefused, wire.ReceiptExpired:
				return nil
			}
		case <-timer.C:
			return &wire.Error{Code: wire.Timeout, Message: fmt.Sprintf("no final receipt within %v", c.ReceiptsWait)}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *sendCommand) printReceipt(env *Env, r wire.Receipt) error {
	if c.JSON {
		return printJSON(env.Stdout, receiptJSON{r.MessageID, r.State, r.From, r.Note})
	}
	line := string(r.State)
	if r.From != "" {
		line += " by " + r.From
	}
	if r.Note != "" {
		line += ": " + r.Note
	}
	_, err := fmt.Fprintln(env.Stdout, line)
	return err
}
