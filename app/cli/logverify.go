package cli

import (
	"fmt"
	"io"

	"agentnet/app/scale"
)

type logVerify struct {
	logPlace
	Archive []string `placeholder:"FILE" help:"Check these archives of entries that left the database too, and that they fit to each other and to the log."`
	JSON    bool     `name:"json" help:"Print JSON."`
}

type logReplay struct {
	entryArg
	logPlace
	JSON bool `name:"json" help:"Print JSON."`
}

func reportText(w io.Writer, r *scale.LogReport) error {
	if len(r.Faults) == 0 {
		before := ""
		if a := r.Anchor; a != nil {
			before = fmt.Sprintf(" behind entry %d (%d have left", a.Head.Seq, a.Entries)
			if a.File != "" {
				before += ", the last ones for " + a.File
			}
			before += ")"
		}
		_, err := fmt.Fprintf(w, "%s: whole, %d entries%s, end %d:%s\n", r.Origin, r.Rows, before, r.End.Seq, r.End.Hash)
		return err
	}
	for _, f := range r.Faults {
		if _, err := fmt.Fprintf(w, "%s:%d %s: %s\n", r.Origin, f.Seq, f.Kind, f.Text); err != nil {
			return err
		}
	}
	return nil
}
