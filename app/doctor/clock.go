package doctor

import (
	"context"
	"fmt"
	"math"
	"time"
)

const (
	// warnOffset and failOffset are how far a clock may be off before tokens with a
	// short life, and times in logs of several nodes, stop to agree.
	warnOffset = 500 * time.Millisecond
	failOffset = 10 * time.Second
)

// clock compares with the server at URL, and asks the kernel whether anything
// keeps its clock right.
func clock(ctx context.Context, c *Config) outcome {
	synchronised, known := kernelClock()
	state := "what keeps it right cannot be seen here"
	if known && synchronised {
		state = "the kernel says that it is synchronised"
	} else if known {
		state = "the kernel says that nothing synchronises it"
	}
	fix := "run a time service: apt-get install systemd-timesyncd (or chrony); timedatectl shows what it does. In a container the host's clock counts."
	if c.URL != "" {
		if offset, within, err := serverOffset(ctx, c); err == nil {
			evidence := fmt.Sprintf("%s the server's at %s (± %s); %s", offsetText(offset), c.URL, short(within), state)
			return judgeOffset(offset, within, evidence, fix, !known || synchronised)
		}
	}
	switch {
	case !known:
		return skip("%s", state)
	case !synchronised:
		return warn(state, fix)
	}
	return good("%s", state)
}

func judgeOffset(offset, within time.Duration, evidence, fix string, kept bool) outcome {
	off := time.Duration(math.Abs(float64(offset))) - within
	switch {
	case off > failOffset:
		return fail(evidence, fix)
	case off > warnOffset || !kept:
		return warn(evidence, fix)
	}
	return good("%s", evidence)
}

func offsetText(d time.Duration) string {
	switch {
	case d > 0:
		return short(d) + " behind"
	case d < 0:
		return short(-d) + " ahead of"
	}
	return "the same as"
}
