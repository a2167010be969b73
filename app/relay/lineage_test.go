package relay

import (
	"fmt"
	"strings"

	"agentnet/app/wire"
)

// A lineage is one session as its client lives through it, over all its sockets,
// and what it may rightly expect.
type lineage struct {
	agent  string
	number int
	born   int // the log's clock
	ended  bool

	p       *peer // nil while away
	was     *peer // the last one
	resume  uint64
	handled map[uint64]string // direct seqs and what they were
	here    map[uint64]bool   // those that came on the present socket
	upTo    uint64            // everything up to it was handled or is told as lost
	gaps    int               // gap frames for direct frames
	gapAt   int               // how many answers there had been when the last came
	ids     map[string]bool   // message ids
	last    map[string]int    // by sender's lineage and class: the last number
	places  map[string]*place
	asks    map[uint64]bool // own requests that wait: true once cancelled
	finals  map[uint64]int
	todo    []uint64          // requests to answer
	clean   bool              // all that the last socket took was read
	unread  bool              // what was read last was not all
	waits   map[uint64]string // commands without an answer on this socket
}

// A place is where a client stands in a channel.
type place struct {
	epoch   string
	offset  uint64
	missed  uint64
	unknown bool
	unnamed bool // the resume did not name it: what the relay was not sure of may come again
	maybe   bool // the answer to subscribe was lost with its socket: the first message tells where it begins
}

func newLineage(agent string, number, born int) *lineage {
	return &lineage{agent: agent, number: number, born: born, handled: map[uint64]string{}, ids: map[string]bool{}, last: map[string]int{},
		places: map[string]*place{}, asks: map[uint64]bool{}, finals: map[uint64]int{}}
}

// attach begins a socket's part of the lineage.
func (n *lineage) attach(p *peer, resume uint64) {
	n.was = p
	n.p, n.resume, n.here, n.waits = p, resume, map[uint64]bool{}, map[uint64]string{}
}

// detach notes that the socket is gone.
func (n *lineage) detach() {
	unread, clean, full := n.p.sock.rest()
	n.clean = clean && !n.unread
	n.p = nil
	for id := range n.waits { // an error that ended a request has no seq: it is lost with its socket
		if _, ask := n.asks[id]; ask && (full || unread[id]) {
			n.asks[id] = true
		}
	}
	n.lost()
}

// lost notes that answers may have been lost with their socket.
func (n *lineage) lost() {
	for _, what := range n.waits {
		if ch, ok := strings.CutPrefix(what, "subscribe "); ok && n.places[ch] == nil {
			n.places[ch] = &place{maybe: true}
		}
	}
}

// sent is what is known of one message.
type sent struct {
	from    *lineage
	to      string
	at      int
	since   int // how many answers there had been to others
	class   wire.Class
	ttlMS   int64
	outcome wire.Outcome
	answer  int // the how manieth answer told it; 0: none did
	expired bool
	got     map[*lineage]int
}

// annals are what happened in a run, and the rules that they must follow.
type annals struct {
	fault func(format string, args ...any)
	clock int
	sends map[int]*sent
	ids   map[string]int // message ids of sends
	pubs  map[string]int // the last offset of a channel and epoch that was accepted
	all   []*lineage

	lossy   bool // parcels between nodes get lost
	answers int  // to sends, so far
	behind  []overtaken
	copies  bool // nodes keep copies of their own, and each tells when its one expires
}

// overtaken is a message that came to a session after a later one of its sender and
// class.
type overtaken struct {
	n            *lineage
	number, last int
	gapAt        int // of the session, when it came
}

// late says that a message may have been overtaken: it was lost on its way between
// nodes and then parked, and its sender had not been told so when it sent the other;
// its sender was never told that it was accepted; or it was lost on its way to the
// session, which was told so by a gap, and another node had it too.
func (h *annals) late(o overtaken) bool {
	s, last := h.sends[o.number], h.sends[o.last]
	return s.outcome == "" || s.outcome == wire.Parked && s.answer > last.since || o.gapAt > 0 && o.gapAt >= s.since
}

// take checks one event that came to n.
func (h *annals) take(n *lineage, ev *wire.Event) {
	switch ev.Kind {
	case wire.KindMessage:
		if ev.Message.Channel != "" {
			h.publication(n, &ev.Message)
			return
		}
		if h.direct(n, ev.Message.Seq, "message "+ev.Message.MessageID) {
			h.message(n, &ev.Message)
		}
	case wire.KindRequest:
		if h.direct(n, ev.Request.Seq, fmt.Sprint("request ", ev.Request.Request)) {
			n.todo = append(n.todo, ev.Request.Request)
		}
	case wire.KindReply:
		if h.direct(n, ev.Reply.Seq, fmt.Sprint("reply ", ev.ID, string(ev.Reply.Payload.Data))) && !ev.Reply.More {
			h.final(n, ev.ID)
		}
	case wire.KindReceipt:
		if h.direct(n, ev.Receipt.Seq, "receipt "+string(ev.Receipt.State)+ev.Receipt.MessageID) && ev.Receipt.State == wire.ReceiptExpired {
			if s := h.sends[h.ids[ev.Receipt.MessageID]]; s != nil {
				if s.expired = true; len(s.got) > 0 && !h.copies {
					h.fault("a message was told as expired after it had been delivered")
				}
			}
		}
	case wire.KindGap:
		if ev.Gap.Channel == "" {
			n.gaps++
			n.gapAt = h.answers
		} else if pl := n.places[ev.Gap.Channel]; pl != nil {
			if ev.Gap.Epoch != "" && ev.Gap.Epoch != pl.epoch && !pl.maybe { // the channel began anew
				*pl = place{epoch: ev.Gap.Epoch, offset: ev.Gap.Offset}
				return
			}
			pl.missed += ev.Gap.Missed
			pl.unknown = pl.unknown || ev.Gap.Missed == 0
		}
	case wire.KindOK, wire.KindError:
		h.answer(n, ev)
	}
}

// direct notes a frame with a seq; true when it is new to the lineage.
func (h *annals) direct(n *lineage, seq uint64, what string) bool {
	if seq == 0 || n.here[seq] {
		h.fault("%s/%d: seq %d (%s) came twice on one socket", n.agent, n.number, seq, what)
	}
	n.here[seq] = true
	if seq <= n.resume {
		h.fault("%s/%d: seq %d came although the client resumed from %d", n.agent, n.number, seq, n.resume)
	}
	if old, ok := n.handled[seq]; ok {
		if old != what {
			h.fault("%s/%d: seq %d was %q and is %q", n.agent, n.number, seq, old, what)
		}
		return false
	}
	n.handled[seq] = what
	for n.handled[n.upTo+1] != "" {
		n.upTo++
	}
	return true
}

func (h *annals) message(n *lineage, m *wire.Message) {
	var number int
	fmt.Sscanf(strings.Trim(string(m.Payload.Data), `"`), "m%d", &number)
	s := h.sends[number]
	switch {
	case s == nil:
		h.fault("%s got a message that nobody sent: %q", n.agent, m.Payload.Data)
		return
	case m.To != n.agent || s.to != n.agent || m.From != s.from.agent:
		h.fault("message %d from %s to %s reached %s as from %s to %s", number, s.from.agent, s.to, n.agent, m.From, m.To)
	case n.ids[m.MessageID]:
		h.fault("message %d came to %s/%d twice", number, n.agent, n.number)
	case s.expired && !h.copies:
		h.fault("message %d was delivered after it was told as expired", number)
	}
	n.ids[m.MessageID] = true
	s.got[n]++
	stream := fmt.Sprint(s.from.number, s.class)
	switch {
	case s.at < n.born || n.last[stream] < number:
	case h.lossy: // what its sender was told is known in the end
		h.behind = append(h.behind, overtaken{n, number, n.last[stream], n.gapAt})
	default:
		h.fault("message %d came to %s/%d after %d of the same sender and class", number, n.agent, n.number, n.last[stream])
	}
	n.last[stream] = max(n.last[stream], number)
}

func (h *annals) publication(n *lineage, m *wire.Message) {
	pl := n.places[m.Channel]
	if pl == nil {
		h.fault("%s/%d got a publication of %s without being subscribed", n.agent, n.number, m.Channel)
		return
	}
	if want := "\"" + m.Channel + "\""; string(m.Payload.Data) != want {
		h.fault("a publication of %s came through %s", m.Payload.Data, m.Channel)
	}
	if pl.maybe {
		*pl = place{offset: m.Offset - 1}
	}
	if pl.unnamed && m.Offset <= pl.offset {
		return
	}
	want := pl.offset + 1 + pl.missed
	toldAgain := pl.unnamed && m.Offset < want // a gap was in the queue when the socket was lost
	if m.Offset != want && !toldAgain && !(pl.unknown && m.Offset > pl.offset) {
		h.fault("%s/%d: %s offset %d came after %d and gaps of %d", n.agent, n.number, m.Channel, m.Offset, pl.offset, pl.missed)
	}
	pl.offset, pl.missed, pl.unknown = m.Offset, 0, false
}

// answer checks the answer to a command.
func (h *annals) answer(n *lineage, ev *wire.Event) {
	if ev.ID == 0 && ev.Kind == wire.KindError && ev.Error.Err.Code == wire.Gone {
		return // a reply to a request that ended meanwhile
	}
	what, ok := n.waits[ev.ID]
	if !ok {
		h.fault("%s/%d: an answer to %d, which waits for none: %+v", n.agent, n.number, ev.ID, ev.Error.Err)
		return
	}
	delete(n.waits, ev.ID)
	kind, rest, _ := strings.Cut(what, " ")
	if ev.Kind == wire.KindError {
		if kind == "request" {
			h.final(n, ev.ID)
		}
		return
	}
	switch kind {
	case "send":
		var number int
		fmt.Sscan(rest, &number)
		s := h.sends[number]
		if s.outcome = ev.OK.Outcome; s.answer == 0 {
			h.answers++
			s.answer = h.answers
		}
		h.ids[ev.OK.MessageID] = number
	case "publish":
		key := rest + " " + ev.OK.Epoch
		h.pubs[key] = max(h.pubs[key], int(ev.OK.Offset))
	case "subscribe":
		if pl := n.places[rest]; pl == nil || pl.maybe || pl.unknown { // behind a gap of unknown size any offset is right
			n.places[rest] = &place{epoch: ev.OK.Epoch, offset: ev.OK.Offset}
		} else if ev.OK.Offset <= pl.offset+pl.missed { // asked again: the relay says where it goes on
			*pl = place{epoch: ev.OK.Epoch, offset: ev.OK.Offset, unnamed: true}
		} else {
			h.fault("%s/%d: asked again for %s, which goes on at %d after %d", n.agent, n.number, rest, ev.OK.Offset, pl.offset+pl.missed)
		}
	}
}

func (h *annals) final(n *lineage, id uint64) {
	n.finals[id]++
	if cancelled, ok := n.asks[id]; !ok || n.finals[id] > 1 && !cancelled {
		h.fault("%s/%d: request %d got %d final answers", n.agent, n.number, id, n.finals[id])
	}
}

// finish judges the whole run, after everything that could come has come. gentle
// says that no session ended and no bound was met.
func (h *annals) finish(gentle bool) {
	hurt := map[string]bool{} // agents with a gap or an ended session
	for _, n := range h.all {
		if n.ended || n.gaps > 0 {
			hurt[n.agent] = true
		}
		if n.ended {
			continue
		}
		for seq := range n.handled {
			if seq > n.upTo {
				h.fault("%s/%d: seq %d came, %d never did", n.agent, n.number, seq, n.upTo+1)
				break
			}
		}
		for id, cancelled := range n.asks {
			if n.finals[id] == 0 && !cancelled && n.gaps == 0 {
				h.fault("%s/%d: request %d was never answered", n.agent, n.number, id)
			}
		}
		for ch, pl := range n.places {
			if pl.missed == 0 && !pl.maybe && !pl.unknown && pl.offset < uint64(h.pubs[ch+" "+pl.epoch]) {
				h.fault("%s/%d: %s ended at offset %d of %d in epoch %s", n.agent, n.number, ch, pl.offset, h.pubs[ch+" "+pl.epoch], pl.epoch)
			}
		}
	}
	for _, o := range h.behind {
		if !h.late(o) {
			h.fault("message %d came to %s/%d after %d of the same sender and class", o.number, o.n.agent, o.n.number, o.last)
		}
	}
	for number, s := range h.sends {
		if s.outcome == "" || s.expired {
			continue
		}
		if len(s.got) == 0 && s.ttlMS == 0 && !hurt[s.to] {
			h.fault("message %d to %s was answered %s and never came", number, s.to, s.outcome)
		}
		for _, n := range h.all {
			strict := gentle || s.outcome == wire.Delivered && !n.ended && n.gaps == 0
			if strict && n.agent == s.to && n.born < s.at && s.got[n] != 1 {
				h.fault("message %d came to session %d of %s %d times", number, n.number, s.to, s.got[n])
			}
		}
	}
}
