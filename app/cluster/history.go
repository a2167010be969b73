package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agentnet/app/relay"

	"github.com/redis/rueidis"
)

// A channel has two keys. The hash says epoch, run id of Redis, offset, age and
// which Broker wrote last; the stream, one for each epoch, holds the publications under the ids offset-0,
// so that Redis itself refuses an offset that it has. At least the last entry is
// always kept, for that check.
const (
	fieldEpoch  = "e"
	fieldRun    = "r"
	fieldOffset = "o"
	fieldAge    = "a" // ms, 0: no limit
	fieldWriter = "w" // id of the Broker that opened or appended last
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
	// maxSuspects bounds the memory of channels whose Append failed.
	maxSuspects = 10_000
)

func metaKey(channel string) string { return prefix + "{" + channel + "}" }

func streamKey(channel, epoch string) string { return prefix + "{" + channel + "}:" + epoch }

func entryID(offset uint64) string { return strconv.FormatUint(offset, 10) + "-0" }

// writerKey is there when that Broker was closed in order, with nothing left to
// append. Without it its node died, and may have told offsets to subscribers that
// were never stored; they must not be given out again under the same epoch.
func writerKey(id string) string { return prefix + "{writer:" + id + "}" }

// A place is what the hash of a channel says.
type place struct {
	epoch, run string
	writer     string
	offset     uint64
	age        time.Duration
}

func (b *Broker) metaCommand(channel string) rueidis.Completed {
	return b.client.B().Hmget().Key(metaKey(channel)).Field(fieldEpoch, fieldRun, fieldWriter, fieldOffset, fieldAge).Build()
}

func parsePlace(r rueidis.RedisResult) (p place, err error) {
	fields, err := r.ToArray()
	if err != nil || len(fields) != 5 {
		return p, fmt.Errorf("redis: unexpected answer about a channel: %w", err)
	}
	texts := [5]string{}
	for i := range fields {
		if texts[i], err = fields[i].ToString(); err != nil && !rueidis.IsRedisNil(err) {
			return p, redisError(err)
		}
	}
	p.epoch, p.run, p.writer = texts[0], texts[1], texts[2]
	p.offset, _ = strconv.ParseUint(texts[3], 10, 64) // absent: 0
	ms, _ := strconv.ParseInt(texts[4], 10, 64)
	p.age = time.Duration(ms) * time.Millisecond
	return p, nil
}

// Open implements relay.Broker. What is stored counts as whole when Redis lost
// nothing since (its run id is the same), when the Broker that wrote last was
// closed in order or is this one, and when no Append of this one has failed.
func (b *Broker) Open(ctx context.Context, channel, newEpoch string) (relay.Position, error) {
	pos, err := b.open(ctx, channel, newEpoch)
	if err != nil {
		return pos, fmt.Errorf("open history of %s: %w", channel, err)
	}
	return pos, nil
}

func (b *Broker) open(ctx context.Context, channel, newEpoch string) (pos relay.Position, err error) {
	run, p, err := b.place(ctx, channel)
	if err != nil {
		return pos, err
	}
	whole := p.epoch != "" && p.run == run && !b.isSuspect(channel)
	if whole && p.writer != b.id {
		if whole, err = b.wasClosed(ctx, p.writer); err != nil {
			return pos, err
		}
	}
	if !whole {
		return relay.Position{Epoch: newEpoch}, b.begin(ctx, channel, p.epoch, newEpoch, run)
	}
	last, err := b.lastEntry(ctx, channel, p.epoch)
	if err != nil {
		return pos, err
	}
	// An Append that was cut off in the middle leaves entries that the hash does
	// not tell of yet.
	p.offset = max(p.offset, last)
	_, err = b.do(ctx, b.client.B().Hset().Key(metaKey(channel)).FieldValue().FieldValue(fieldWriter, b.id).
		FieldValue(fieldOffset, strconv.FormatUint(p.offset, 10)).Build())
	return relay.Position{Epoch: p.epoch, Offset: p.offset}, err
}

// place reads the run of Redis and what it says of a channel, at once where it can.
func (b *Broker) place(ctx context.Context, channel string) (run string, p place, err error) {
	cmds := []rueidis.Completed{b.metaCommand(channel)}
	if b.many {
		if run, err = b.readRunIDs(ctx); err != nil {
			return run, p, err
		}
	} else {
		cmds = append(cmds, b.infoCommand())
	}
	results, err := b.do(ctx, cmds...)
	if err != nil {
		return run, p, err
	}
	if !b.many {
		if run, err = b.takeRunID(results[1]); err != nil {
			return run, p, err
		}
	}
	p, err = parsePlace(results[0])
	return run, p, err
}

func (b *Broker) wasClosed(ctx context.Context, writer string) (bool, error) {
	if writer == "" {
		return false, nil
	}
	results, err := b.do(ctx, b.client.B().Exists().Key(writerKey(writer)).Build())
	if err != nil {
		return false, err
	}
	n, err := results[0].AsInt64()
	return n == 1, err
}

// begin starts a new epoch and drops what is stored of the old one.
func (b *Broker) begin(ctx context.Context, channel, oldEpoch, newEpoch, run string) error {
	key := metaKey(channel)
	cmds := []rueidis.Completed{
		b.client.B().Hset().Key(key).FieldValue().FieldValue(fieldEpoch, newEpoch).FieldValue(fieldRun, run).
			FieldValue(fieldWriter, b.id).FieldValue(fieldOffset, "0").Build(),
		b.client.B().Pexpire().Key(key).Milliseconds(idleFor.Milliseconds()).Build(),
	}
	if oldEpoch != "" {
		cmds = append(cmds, b.client.B().Del().Key(streamKey(channel, oldEpoch)).Build())
	}
	if _, err := b.do(ctx, cmds...); err != nil {
		return err
	}
	b.trust(channel)
	return nil
}

// Forget drops the stored history of a channel, so that the next Open begins a new
// epoch: for a channel of which publications were told to subscribers and could
// not be handed to Append.
func (b *Broker) Forget(ctx context.Context, channel string) error {
	b.suspect(channel)
	results, err := b.do(ctx, b.metaCommand(channel))
	if err != nil {
		return fmt.Errorf("forget history of %s: %w", channel, err)
	}
	p, err := parsePlace(results[0])
	if err == nil {
		_, err = b.do(ctx, b.client.B().Del().Key(metaKey(channel), streamKey(channel, p.epoch)).Build())
	}
	if err != nil {
		return fmt.Errorf("forget history of %s: %w", channel, err)
	}
	b.trust(channel)
	return nil
}

// suspect notes that what is stored of a channel may lack its end.
func (b *Broker) suspect(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.suspects) >= maxSuspects {
		b.suspectAll = true // rather a new epoch too many
		clear(b.suspects)
	}
	b.suspects[channel] = struct{}{}
}

func (b *Broker) trust(channel string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.suspects, channel)
}

func (b *Broker) isSuspect(channel string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.suspects[channel]
	return ok || b.suspectAll
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
		if !errors.Is(err, ErrEpoch) {
			b.suspect(channel)
		}
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
	b.trust(channel)
	if err := b.trimAge(ctx, channel, epoch, keep); err != nil {
		b.log.Warn("old history could not be removed; it is tried again", "channel", channel, "error", err)
	}
	return nil
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
	b.longest = max(b.longest, age)
	b.mu.Unlock()
	cmds = append(cmds,
		b.client.B().Pexpire().Key(stream).Milliseconds(max(idle.Milliseconds(), 1)).Build(),
		b.client.B().Hset().Key(meta).FieldValue().FieldValue(fieldEpoch, epoch).FieldValue(fieldRun, run).FieldValue(fieldWriter, b.id).
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
