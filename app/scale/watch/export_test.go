package watch

import "context"

// CatchUp sums up what was not, as Run does when it begins.
func (s *Service) CatchUp(ctx context.Context) error { return s.catchUp(ctx) }

// Summed says that nothing is missing.
func (s *Service) Summed() { s.summed.Store(true) }
