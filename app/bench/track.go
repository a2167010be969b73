package bench

// A track follows what one receiver gets from one sender. It remembers which of
// the last 64 messages came, so that a late message is told from a doubled one.
type track struct {
	next uint32 // the message that should come now
	seen uint64 // bit i: message next-1-i came
}

// trackWindow is how many messages back a late one is still recognised.
const trackWindow = 64

// accept counts the arrival of message seq into c.
func (t *track) accept(seq uint32, c *Counts) {
	ahead := int32(seq - t.next)
	if ahead >= 0 {
		c.Lost += uint64(ahead) // taken back when they come late
		shift := uint(ahead) + 1
		if shift >= trackWindow {
			t.seen = 0
		} else {
			t.seen <<= shift
		}
		t.seen |= 1
		t.next = seq + 1
		return
	}
	back := uint(-ahead) - 1
	if back >= trackWindow {
		// Too old to know: either way it did not come in order.
		c.OutOfOrder++
		return
	}
	bit := uint64(1) << back
	if t.seen&bit != 0 {
		c.Doubled++
		return
	}
	t.seen |= bit
	c.OutOfOrder++
	if c.Lost > 0 {
		c.Lost--
	}
}

// finish counts what was sent and never came; sent is how many there were.
func (t *track) finish(sent uint32, c *Counts) {
	if missing := int32(sent - t.next); missing > 0 {
		c.Lost += uint64(missing)
	}
}
