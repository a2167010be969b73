package dash

// events are the newest of a range from the scaling log.
func (b *Board) events(r *request, rng timeRange, most int) []eventRow { return nil }
