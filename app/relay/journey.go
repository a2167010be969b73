package relay

// A journey is what a session needs only because it moves between nodes, or because
// other nodes hold its agent too. Most sessions never do: theirs is nil, and the
// methods that only read take that. Session.mu guards it.
type journey struct {
	from     string              // the node that it came from; "": it began here
	cameAt   int64               // and when
	owed     uint64              // letters that it is not whole without, once its tail is here
	letters  uint64              // those that came
	tailHere bool                // its tail is
	tailed   map[string]struct{} // messages of its tail, which may be in the mailbox too
	detour   detour              // messages that come through its old node too
	lately   []late              // messages of the last seconds, while other nodes hold the agent too
	served   map[uint64]string   // requests to answer that another node numbered, when the session moved
	movedTo  string              // the node that it went to; "": it is here
	tailN    uint64              // frames that were sent after it
}

// travel returns the session's journey, made at the first call. s.mu must be held.
func (s *Session) travel() *journey {
	if s.journey == nil {
		s.journey = new(journey)
	}
	return s.journey
}

// origin is the node that the session came from, "" when it began here.
func (j *journey) origin() string {
	if j == nil {
		return ""
	}
	return j.from
}

// destination is the node that the session went to, "" while it is here.
func (j *journey) destination() string {
	if j == nil {
		return ""
	}
	return j.movedTo
}

// waits says that copies of messages are missing which the old node sends.
func (j *journey) waits() bool { return j != nil && len(j.detour.wait) > 0 }

// over notes that the old node's copy of a message has come.
func (j *journey) over(id string) {
	if j != nil {
		j.detour.over(id)
	}
}

// whole says that the tail is here, and the letters that came with the session.
func (j *journey) whole() bool { return j != nil && j.tailHere && j.letters >= j.owed }

// recent are the messages that came lately.
func (j *journey) recent() []late {
	if j == nil {
		return nil
	}
	return j.lately
}

// toAnswer are the requests that another node numbered, with that node.
func (j *journey) toAnswer() map[uint64]string {
	if j == nil {
		return nil
	}
	return j.served
}

// serve notes that the session is to answer a request which node numbered.
func (j *journey) serve(number uint64, node string) {
	if j.served == nil {
		j.served = make(map[uint64]string)
	}
	j.served[number] = node
}
