package cluster

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"

	"github.com/redis/rueidis"
)

// A channel has two keys. The hash says epoch, run id of Redis, offset and age;
// the stream, one for each epoch, holds the publications under the ids offset-0,
// so that Redis itself refuses an offset that it has. At least the last entry is
// always kept, for that check.
const (
	fieldEpoch  = "e"
	fieldRun    = "r"
	fieldOffset = "o"
	fieldAge    = "a" // ms, 0: no limit
	fieldBody   = "p" // of a stream entry

	// idleFor is how long an idle channel's place is remembered, and its history
	// when that has no age of its own.
	idleFor = 7 * 24 * time.Hour

	// page is how many entries one command reads or writes.
	page = 128
	// maxRead bounds the entries of one Read.
	maxRead = 10_000
	// maxTrimmed bounds the memory of when channels were last looked at.
	maxTrimmed = 10_000
)

func metaKey(channel string) string { return prefix + "{" + channel + "}" }

func streamKey(channel, epoch string) string { return prefix + "{" + channel + "}:" + epoch }

func entryID(offset uint64) string { return strconv.FormatUint(offset, 10) + "-0" }

// A place is what the hash of a channel says.
type place struct {
	epoch, run string
	offset     uint64
	age        time.Duration
}

func (b *Broker) metaCommand(channel string) rueidis.Completed {
	return b.client.B().Hmget().Key(metaKey(channel)).Field(fieldEpoch, fieldRun, fieldOffset, fieldAge).Build()
}

func parsePlace(r rueidis.RedisResult) (p place, err error) {
	fields, err := r.ToArray()
	if err != nil || len(fields) != 4 {
		return p, fmt.Errorf("redis: unexpected answer about a channel: %w", err)
	}
	texts := [4]string{}
	for i := range fields {
		if texts[i], err = fields[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return p, redisError(err)
		}
	}
	p.epoch, p.run = texts[0], texts[1]
	p.offset, _ = strconv.ParseUint(texts[2], 10, 64) // absent: 0
	ms, _ := strconv.ParseInt(texts[3], 10, 64)
	p.age = time.Duration(ms) * time.Millisecond
	return p, nil
}

// Open implements relay.Broker.
func (b *Broker) Open(ctx context.Context, channel, newEpoch string) (relay.Position, error) {
	pos, err := b.open(ctx, channel, newEpoch)
	if err != nil {
		return pos, fmt.Errorf("open history of %s: %w", channel, err)
	}
	return pos, nil
}

func (b *Broker) open(ctx context.Context, channel, newEpoch string) (pos relay.Position, err error) {
	results, err := b.do(ctx, b.infoCommand(), b.metaCommand(channel))
	if err != nil {
		return pos, err
	}
	run, err := b.takeRunID(results[0])
	if err != nil {
		return pos, err
	}
	p, err := parsePlace(results[1])
	if err != nil {
		return pos, err
	}
	if p.epoch == "" || p.run != run {
		return relay.Position{Epoch: newEpoch}, b.begin(ctx, channel, p.epoch, newEpoch, run)
	}
	last, err := b.lastEntry(ctx, channel, p.epoch)
	if err != nil {
		return pos, err
	}
	if last > p.offset {
		// An Append was cut off in the middle: the hash does not tell of its entries yet.
		p.offset = last
		_, err = b.do(ctx, b.client.B().Hset().Key(metaKey(channel)).FieldValue().FieldValue(fieldOffset, strconv.FormatUint(last, 10)).Build())
	}
	return relay.Position{Epoch: p.epoch, Offset: p.offset}, err
}

// begin starts a new epoch and drops what is stored of the old one.
func (b *Broker) begin(ctx context.Context, channel, oldEpoch, newEpoch, run string) error {
	key := metaKey(channel)
	cmds := []rueidis.Completed{
		b.client.B().Hset().Key(key).FieldValue().FieldValue(fieldEpoch, newEpoch).FieldValue(fieldRun, run).FieldValue(fieldOffset, "0").Build(),
		b.client.B().Pexpire().Key(key).Milliseconds(idleFor.Milliseconds()).Build(),
	}
	if oldEpoch != "" {
		cmds = append(cmds, b.client.B().Del().Key(streamKey(channel, oldEpoch)).Build())
	}
	_, err := b.do(ctx, cmds...)
	return err
}

// lastEntry returns the offset of the newest stored publication, 0 for none.
func (b *Broker) lastEntry(ctx context.Context, channel, epoch string) (uint64, error) {
	results, err := b.do(ctx, b.client.B().Xrevrange().Key(streamKey(channel, epoch)).End("+").Start("-").Count(1).Build())
	if err != nil {
		return 0, err
	}
	entries, err := results[0].AsXRange()
	if err != nil && !rueidis.IsRedisNil(err) {
		return 0, redisError(err)
	}
	if len(entries) == 0 {
		return 0, nil
	}
	return entryOffset(entries[0].ID)
}

func entryOffset(id string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimSuffix(id, "-0"), 10, 64)
	if err != nil {
		return 0, errPublication
	}
	return n, nil
}

// Append implements relay.Broker. A Count of 0 or less stores no publication, only
// the place; an Age of 0 or less means no limit of age. The epoch must be the one
// that Open told, else it is ErrEpoch and nothing is stored.
func (b *Broker) Append(ctx context.Context, channel, epoch string, keep relay.Keep, pubs []relay.Publication) error {
	if err := b.append(ctx, channel, epoch, keep, pubs); err != nil {
		return fmt.Errorf("append to history of %s: %w", channel, err)
	}
	return nil
}

func (b *Broker) append(ctx context.Context, channel, epoch string, keep relay.Keep, pubs []relay.Publication) error {
	results, err := b.do(ctx, b.metaCommand(channel))
	if err != nil {
		return err
	}
	p, err := parsePlace(results[0])
	if err != nil {
		return err
	}
	if p.epoch != "" && p.epoch != epoch {
		return ErrEpoch
	}
	for len(pubs) > 0 && pubs[0].Offset <= p.offset {
		pubs = pubs[1:] // a second time
	}
	for len(pubs) > 0 {
		n := min(len(pubs), page)
		if err := b.appendPage(ctx, channel, epoch, keep, pubs[:n]); err != nil {
			return err
		}
		pubs = pubs[n:]
	}
	return b.trimAge(ctx, channel, epoch, keep)
}

// appendPage stores up to a page of publications; the offset comes last, so that
// what is cut off in the middle is done again by the next Append.
func (b *Broker) appendPage(ctx context.Context, channel, epoch string, keep relay.Keep, pubs []relay.Publication) error {
	stream, meta := streamKey(channel, epoch), metaKey(channel)
	cmds := make([]rueidis.Completed, 0, len(pubs)+3)
	var body []byte
	for i := range pubs {
		body = appendPublication(body[:0], &pubs[i], keep.Count <= 0)
		cmds = append(cmds, b.client.B().Xadd().Key(stream).Maxlen().Exact().Threshold(strconv.Itoa(max(keep.Count, 1))).
			Id(entryID(pubs[i].Offset)).FieldValue().FieldValue(fieldBody, string(body)).Build())
	}
	age, idle := max(keep.Age, 0), idleFor
	if age > 0 {
		idle = age
	}
	b.mu.Lock()
	run := b.runID
	b.mu.Unlock()
	cmds = append(cmds,
		b.client.B().Pexpire().Key(stream).Milliseconds(max(idle.Milliseconds(), 1)).Build(),
		b.client.B().Hset().Key(meta).FieldValue().FieldValue(fieldEpoch, epoch).FieldValue(fieldRun, run).
			FieldValue(fieldOffset, strconv.FormatUint(pubs[len(pubs)-1].Offset, 10)).
			FieldValue(fieldAge, strconv.FormatInt(age.Milliseconds(), 10)).Build(),
		b.client.B().Pexpire().Key(meta).Milliseconds(max(idleFor, age).Milliseconds()).Build(),
	)
	results, err := b.try(ctx, cmds...)
	if err != nil {
		return err
	}
	for i, r := range results {
		err := r.Error()
		if err == nil || rueidis.IsRedisNil(err) {
			continue
		}
		if i < len(pubs) && strings.Contains(err.Error(), "equal or smaller than the target stream top item") {
			continue // it is there already
		}
		return redisError(err)
	}
	return nil
}

// Read implements relay.Broker. When the first wanted publication is gone, what is
// left behind it is returned with ok false. It never returns a hole: behind one it
// stops, and the next Read says that something is gone.
func (b *Broker) Read(ctx context.Context, channel, epoch string, after uint64, limit int) (pubs []relay.Publication, ok bool, err error) {
	pubs, ok, err = b.read(ctx, channel, epoch, after, min(limit, maxRead))
	if err != nil {
		return nil, false, fmt.Errorf("read history of %s: %w", channel, err)
	}
	return pubs, ok, nil
}

func (b *Broker) read(ctx context.Context, channel, epoch string, after uint64, limit int) (pubs []relay.Publication, ok bool, err error) {
	ok = true
	for at := after; ; {
		want := min(limit-len(pubs), page)
		p, entries, err := b.readPage(ctx, channel, epoch, at, want)
		if err != nil {
			return nil, false, err
		}
		if p.epoch != epoch || after > p.offset {
			return nil, false, nil
		}
		oldest := b.oldest(p.age)
		for _, e := range entries {
			usable := !e.bare && e.TimeMS >= oldest
			if e.Offset != at+1 || !usable {
				if len(pubs) > 0 {
					return pubs, ok, nil // a hole
				}
				ok = false
			}
			if at = e.Offset; usable {
				pubs = append(pubs, e.Publication)
			}
		}
		if len(entries) < want || len(pubs) >= limit {
			if len(pubs) == 0 && limit > 0 && after < p.offset {
				ok = false // there were some and none is left
			}
			return pubs, ok, nil
		}
	}
}

// oldest is the time, in ms, before which a publication is too old to be read.
func (b *Broker) oldest(age time.Duration) int64 {
	if age <= 0 {
		return math.MinInt64
	}
	return b.now().Add(-age).UnixMilli()
}

// readPage reads a channel's place and up to count entries behind offset after.
func (b *Broker) readPage(ctx context.Context, channel, epoch string, after uint64, count int) (p place, entries []entry, err error) {
	cmds := []rueidis.Completed{b.metaCommand(channel)}
	if count > 0 {
		cmds = append(cmds, b.readCommand(channel, epoch, after, count))
	}
	results, err := b.do(ctx, cmds...)
	if err != nil {
		return p, nil, err
	}
	if p, err = parsePlace(results[0]); err == nil && count > 0 {
		entries, err = parseEntries(results[1])
	}
	return p, entries, err
}

// readCommand reads by XREAD, which finds its place at once in both kinds of Redis;
// the embedded one's XRANGE walks there.
func (b *Broker) readCommand(channel, epoch string, after uint64, count int) rueidis.Completed {
	return b.client.B().Xread().Count(int64(count)).Streams().Key(streamKey(channel, epoch)).Id(entryID(after)).Build()
}

// An entry is one publication as it is stored.
type entry struct {
	relay.Publication
	bare bool
}

func parseEntries(r rueidis.RedisResult) ([]entry, error) {
	streams, err := r.AsXRead()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	if err != nil {
		return nil, redisError(err)
	}
	var out []entry
	for _, raw := range streams { // one
		for _, x := range raw {
			var e entry
			if e.Publication, e.bare, err = decodePublication(x.FieldValues[fieldBody]); err != nil {
				return nil, err
			}
			if e.Offset, err = entryOffset(x.ID); err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// trimAge removes what is too old. Ids are offsets, so that the first young entry
// is searched for by halves; it is done at most 16 times within an age.
func (b *Broker) trimAge(ctx context.Context, channel, epoch string, keep relay.Keep) error {
	now := b.now()
	if keep.Age <= 0 || keep.Count <= 0 || !b.timeToTrim(channel, now, max(keep.Age/16, time.Second)) {
		return nil
	}
	cut := now.Add(-keep.Age).UnixMilli()
	first, err := b.entryAfter(ctx, channel, epoch, 0)
	if err != nil || first == nil || first.TimeMS >= cut {
		return err
	}
	last, err := b.lastEntry(ctx, channel, epoch)
	if err != nil || last <= first.Offset {
		return err
	}
	low := first.Offset
	var fault error
	n := sort.Search(int(min(last-low, math.MaxInt32)), func(i int) bool { // the first i whose entry is young
		e, err := b.entryAfter(ctx, channel, epoch, low+uint64(i)-1)
		if err != nil {
			fault = err
		}
		return err != nil || e == nil || e.TimeMS >= cut
	})
	if fault != nil {
		return fault
	}
	left := last - (low + uint64(n)) + 1 // at least the last
	_, err = b.do(ctx, b.client.B().Xtrim().Key(streamKey(channel, epoch)).Maxlen().Exact().Threshold(strconv.FormatUint(left, 10)).Build())
	return err
}

func (b *Broker) entryAfter(ctx context.Context, channel, epoch string, after uint64) (*entry, error) {
	results, err := b.do(ctx, b.readCommand(channel, epoch, after, 1))
	if err != nil {
		return nil, err
	}
	entries, err := parseEntries(results[0])
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	return &entries[0], nil
}

// timeToTrim says whether a channel was not looked at for pause, and notes that it
// is now.
func (b *Broker) timeToTrim(channel string, now time.Time, pause time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.trimmed[channel]; ok && now.Sub(last) < pause && !now.Before(last) {
		return false
	}
	if len(b.trimmed) >= maxTrimmed {
		clear(b.trimmed) // looking once too often is cheap
	}
	b.trimmed[channel] = now
	return true
}
