package cluster

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strconv"
	"time"

	"agentnet/app/relay"

	"github.com/redis/rueidis"
)

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
