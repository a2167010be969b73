package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"

	"agentnet/app/scale"
	"agentnet/store"
)

// A logArchive is an archive that was read, and how it stands to the others.
type logArchive struct {
	Path string `json:"archive"`
	scale.LogArchive
	Beside string `json:"beside"` // to the log
}

// readArchives reads and checks archives, in the order of their entries.
func readArchives(paths []string) ([]logArchive, error) {
	var out []logArchive
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, usagef("--archive: %v", err)
		}
		a, err := store.ReadLogArchive(f, nil)
		_ = f.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("--archive %s: %w", path, err)
		}
		out = append(out, logArchive{Path: path, LogArchive: a})
	}
	slices.SortFunc(out, func(a, b logArchive) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.After.Seq, b.After.Seq))
	})
	for i := range out[min(1, len(out)):] {
		before, a := &out[i], &out[i+1]
		if a.Origin == before.Origin && a.After.Seq == before.End.Seq && a.After.Hash != before.End.Hash {
			a.Faults = append(a.Faults, scale.Fault{Seq: a.After.Seq + 1, Kind: scale.FaultReplaced, Text: fmt.Sprintf("entry %d does not follow the end of %s", a.After.Seq+1, before.Path)})
		}
	}
	return out, nil
}

// archives says of each archive whether it is whole and fits to the log.
func (c *logVerify) archives(w io.Writer, all []logArchive, reports []scale.LogReport) (faults int, rows uint64, err error) {
	for i := range all {
		a := &all[i]
		at := slices.IndexFunc(reports, func(r scale.LogReport) bool { return r.Origin == a.Origin })
		if at < 0 {
			a.Beside = "there is no log of this origin here"
		} else {
			text, fault := a.LogArchive.Beside(reports[at].Anchor)
			if a.Beside = text; fault != nil {
				a.Faults = append(a.Faults, *fault)
			}
		}
		faults, rows = faults+len(a.Faults), rows+a.Entries
		switch {
		case c.JSON:
			err = printJSON(w, a)
		case len(a.Faults) == 0:
			_, err = fmt.Fprintf(w, "%s: whole, entries %d to %d of %s; %s\n", a.Path, a.After.Seq+1, a.End.Seq, a.Origin, a.Beside)
		default:
			for _, f := range a.Faults {
				if _, err = fmt.Fprintf(w, "%s: entry %d of %s %s: %s\n", a.Path, f.Seq, a.Origin, f.Kind, f.Text); err != nil {
					break
				}
			}
		}
		if err != nil {
			return faults, rows, fmt.Errorf("output: %w", err)
		}
	}
	return faults, rows, nil
}
