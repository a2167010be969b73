package actuate

import (
	"context"
	"fmt"

	"agentnet/app/scale"
)

// advise changes nothing: it tells a person what to do.
type advise struct{}

func (advise) name() string { return "advise" }

func (advise) count(context.Context) (int, error) { return 0, scale.ErrNotTold }

func (advise) set(_ context.Context, o *scale.Order, s *steps) error {
	s.byHand = true
	s.advice = fmt.Sprintf("Go from %d to %d instances by hand: %s", o.From, o.To, o.Reason)
	if len(o.Victims) > 0 && o.To < o.From {
		s.advice += fmt.Sprintf(". End %v first: they carry the fewest connections", o.Victims)
	}
	return nil
}
