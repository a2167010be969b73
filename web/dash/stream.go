package dash

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"agentnet/app/wire"

	"github.com/gofiber/fiber/v2"
)

const (
	// renderEvery is how often watched pages are rendered, unless the board is told
	// otherwise: once for all who watch.
	renderEvery = time.Second
	// maxTopics bounds the different pages that are watched at one time.
	maxTopics = 64
	// viewerQueue is how many renderings may wait for one slow socket.
	viewerQueue = 3
	// writeTime bounds one write to a viewer.
	writeTime = 5 * time.Second
)

// StreamStats counts viewers.
type StreamStats struct {
	Viewers  int               `json:"viewers"`
	Topics   int               `json:"topics"`
	Opened   uint64            `json:"opened"`
	Ended    map[string]uint64 `json:"ended"`   // by reason: gone, slow, stopped, signed_out
	Refused  map[string]uint64 `json:"refused"` // by reason: viewers, topics, stopped
	Renders  uint64            `json:"renders"`
	RenderUS float64           `json:"render_us"` // mean time of one round, in microseconds
}

// Why a viewer's stream ended.
const (
	endGone = iota
	endSlow
	endStopped
	endSignedOut
	endReasons
)

var endWords = [endReasons]string{"gone", "slow", "stopped", "signed_out"}

// A stream renders pages for all who watch and hands the bytes out. One goroutine
// renders; each viewer has one that writes.
type stream struct {
	board *Board
	most  int
	every time.Duration

	mu      sync.Mutex
	topics  map[string]*topic // Guarded by mu.
	viewers int               // Guarded by mu.
	closed  bool              // Guarded by mu.

	opened  atomic.Uint64
	ended   [endReasons]atomic.Uint64
	refused [3]atomic.Uint64 // viewers, topics, stopped
	renders atomic.Uint64
	spent   atomic.Int64 // ns in rounds
	rounds  atomic.Uint64
}

// A topic is one page as several see it at once.
type topic struct {
	key     string
	request request // without connection and visitor's name

	viewers map[*viewer]struct{} // Guarded by stream.mu.

	// Used by the rendering goroutine only.
	last  map[string][]byte // parts as they were sent last
	turn  int
	every int
	title string
}

// A viewer is one open stream.
type viewer struct {
	out  chan []byte   // renderings; never closed
	done chan struct{} // closed by the renderer to end the stream
	why  int           // set before done is closed
	once sync.Once
	role Role
	new  bool // has not got a snapshot yet. Guarded by stream.mu.
}

func (v *viewer) end(why int) {
	v.once.Do(func() { v.why = why; close(v.done) })
}

func newStream(b *Board, most int, every time.Duration) *stream {
	return &stream{board: b, most: most, every: every, topics: map[string]*topic{}}
}

func (s *stream) stats() StreamStats {
	s.mu.Lock()
	out := StreamStats{Viewers: s.viewers, Topics: len(s.topics)}
	s.mu.Unlock()
	out.Opened, out.Renders = s.opened.Load(), s.renders.Load()
	out.Ended = map[string]uint64{}
	for i, w := range endWords {
		out.Ended[w] = s.ended[i].Load()
	}
	out.Refused = map[string]uint64{"viewers": s.refused[0].Load(), "topics": s.refused[1].Load(), "stopped": s.refused[2].Load()}
	if n := s.rounds.Load(); n > 0 {
		out.RenderUS = float64(s.spent.Load()) / 1000 / float64(n)
	}
	return out
}

// run renders until ctx ends.
func (s *stream) run(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	defer s.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.round()
		}
	}
}

// close ends all streams.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, t := range s.topics {
		for v := range t.viewers {
			v.end(endStopped)
		}
	}
}

// join adds a viewer to the topic of its page.
func (s *stream) join(r *request) (*viewer, *topic, error) {
	key := r.path + "?" + r.query.Encode() + " " + r.zone.String() + " " + r.who.Role.String()
	refuse := func(i int, text string) error {
		s.refused[i].Add(1)
		return &wire.Error{Code: wire.Overloaded, Message: text, RetryAfterMS: 10_000}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, nil, refuse(2, "the server is stopping")
	case s.viewers >= s.most:
		return nil, nil, refuse(0, "too many pages are watched at once; this one shows what was true when it was loaded")
	}
	t := s.topics[key]
	if t == nil {
		if len(s.topics) >= maxTopics {
			return nil, nil, refuse(1, "too many different pages are watched at once; this one shows what was true when it was loaded")
		}
		t = &topic{key: key, viewers: map[*viewer]struct{}{}, last: map[string][]byte{}}
		t.request = request{who: Visitor{Role: r.who.Role}, path: r.path, query: r.query, zone: r.zone, base: r.base}
		s.topics[key] = t
	}
	v := &viewer{out: make(chan []byte, viewerQueue), done: make(chan struct{}), role: r.who.Role, new: true}
	t.viewers[v] = struct{}{}
	s.viewers++
	s.opened.Add(1)
	return v, t, nil
}

func (s *stream) leave(t *topic, v *viewer, why int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := t.viewers[v]; !ok {
		return
	}
	delete(t.viewers, v)
	s.viewers--
	s.ended[why].Add(1)
	if len(t.viewers) == 0 && s.topics[t.key] == t {
		delete(s.topics, t.key)
	}
}

// round renders every watched page once and hands it to its viewers.
func (s *stream) round() {
	began := time.Now()
	s.mu.Lock()
	topics := slices.Collect(maps.Values(s.topics))
	s.mu.Unlock()
	for _, t := range topics {
		s.render(t)
	}
	if len(topics) > 0 {
		s.spent.Add(int64(time.Since(began)))
		s.rounds.Add(1)
	}
}

// render draws the parts of one page. Those who are new get all of it, the others
// what has changed.
func (s *stream) render(t *topic) {
	s.mu.Lock()
	fresh := false
	for v := range t.viewers {
		fresh = fresh || v.new
	}
	s.mu.Unlock()
	var changed, all bytes.Buffer
	now := time.Now()
	if t.turn == 0 || fresh || t.every > 0 && t.turn%t.every == 0 {
		if err := s.draw(t, now, &changed, &all); err != nil {
			s.board.cfg.Logger.Warn("a watched page could not be drawn", "page", t.request.path, "error", err)
		}
	}
	t.turn++
	tick := fmt.Appendf(nil, "event: tick\ndata: %d\n\n", now.UnixMilli())
	delta := append(changed.Bytes(), tick...)
	snapshot := append(all.Bytes(), tick...)
	s.hand(t, delta, snapshot)
}

// draw renders the parts into what has changed and into all.
func (s *stream) draw(t *topic, now time.Time, changed, all *bytes.Buffer) error {
	r := t.request
	r.now = now
	make, ok := s.board.shown[r.path]
	if !ok {
		return fiber.ErrNotFound
	}
	v, err := make(&r)
	if err != nil {
		return err
	}
	if v == nil {
		return nil
	}
	t.every = v.every
	page := s.board.frame(&r, v)
	parts := append(slices.Clone(v.parts), framed(page)...)
	var body bytes.Buffer
	for _, p := range parts {
		body.Reset()
		if err := p.body.Render(context.Background(), &body); err != nil {
			return fmt.Errorf("draw part %s: %w", p.id, err)
		}
		s.renders.Add(1)
		event(all, p.id, body.Bytes())
		if !bytes.Equal(t.last[p.id], body.Bytes()) {
			t.last[p.id] = bytes.Clone(body.Bytes())
			event(changed, p.id, body.Bytes())
		}
	}
	event(all, "title", []byte(page.TabTitle()))
	if t.title != page.TabTitle() {
		t.title = page.TabTitle()
		event(changed, "title", []byte(t.title))
	}
	return nil
}

// event writes one event; its data may have several lines.
func event(b *bytes.Buffer, name string, data []byte) {
	b.WriteString("event: " + name + "\n")
	for line := range bytes.Lines(data) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

// hand gives every viewer its bytes. One whose queue is full is sent away: its
// browser comes back and gets a snapshot.
func (s *stream) hand(t *topic, delta, snapshot []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for v := range t.viewers {
		bytes := delta
		if v.new {
			bytes, v.new = snapshot, false
		}
		select {
		case v.out <- bytes:
		default:
			v.end(endSlow)
		}
	}
}

// watch answers GET /live: a stream of the parts of one page.
func (b *Board) watch(r *request) error {
	page := r.query.Get("page")
	if _, ok := b.shown[page]; !ok {
		return &wire.Error{Code: wire.NotFound, Message: "there is no such page to watch"}
	}
	query, err := url.ParseQuery(r.query.Get("query"))
	if err != nil || len(query.Encode()) > 1024 {
		return &wire.Error{Code: wire.BadFrame, Message: "query: cannot be read"}
	}
	query.Del("said")
	query.Del("bad")
	watched := &request{who: r.who, path: page, query: query, zone: zoneOf(r.query.Get("zone")), base: r.base}
	v, t, err := b.stream.join(watched)
	if err != nil {
		return err
	}
	head := b.streamHead(r.c)
	still := r.who.Still
	r.c.Context().HijackSetNoResponse(true)
	r.c.Context().Hijack(func(conn net.Conn) {
		defer conn.Close() // the server leaves connections that were taken over to us
		why := b.stream.write(conn, v, head, still)
		b.stream.leave(t, v, why)
	})
	return nil
}

// streamHead is the head of the answer. The connection is taken over, because the
// server's own deadline for an answer would end it; it carries the same headers as
// every answer.
func (b *Board) streamHead(c *fiber.Ctx) []byte {
	h := &c.Context().Response.Header
	h.SetContentType("text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.SetConnectionClose()
	h.SetNoDefaultContentType(true)
	var out bytes.Buffer
	out.WriteString("HTTP/1.1 200 OK\r\n")
	for name, value := range h.All() {
		if string(name) == fiber.HeaderContentLength || string(name) == fiber.HeaderTransferEncoding {
			continue
		}
		out.Write(name)
		out.WriteString(": ")
		out.Write(value)
		out.WriteString("\r\n")
	}
	out.WriteString("\r\nretry: " + strconv.Itoa(2000) + "\n\n")
	return out.Bytes()
}

// write sends what is rendered until the viewer is gone, and says why it ended.
// Something is sent each second, so that a dead connection is noticed.
func (s *stream) write(conn net.Conn, v *viewer, head []byte, still func() bool) int {
	out := bufio.NewWriterSize(conn, 16<<10)
	put := func(p []byte) error {
		if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
		if _, err := out.Write(p); err != nil {
			return err
		}
		return out.Flush()
	}
	if put(head) != nil {
		return endGone
	}
	for {
		select {
		case <-v.done:
			_ = put([]byte("event: bye\ndata: " + endWords[v.why] + "\n\n")) // it ends either way
			return v.why
		case p := <-v.out:
			if still != nil && !still() {
				_ = put([]byte("event: bye\ndata: signed out\n\n")) // it ends either way
				return endSignedOut
			}
			if put(p) != nil {
				return endGone
			}
		}
	}
}
