package scale

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// chainOf seals n notes.
func chainOf(t *testing.T, n int) []Entry {
	t.Helper()
	log := NewMemoryLog(n)
	for i := range n {
		e, err := Note(start.Add(time.Duration(i)*time.Second), "ada", fmt.Sprintf("note <%d> & more", i+1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(context.Background(), []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := log.Entries(context.Background(), 0, n)
	if err != nil || len(out) != n {
		t.Fatalf("got %d entries, %v, want %d", len(out), err, n)
	}
	return out
}

// reseal gives entries their numbers and hashes anew, as a forger would.
func reseal(t *testing.T, entries []Entry) []Entry {
	t.Helper()
	out, err := SealAll(Head{}, entries)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestVerifyNamesTheRow(t *testing.T) {
	whole := chainOf(t, 9)
	head := whole[8].Head()
	tests := []struct {
		name   string
		tamper func([]Entry) []Entry
		want   []string // "kind seq"
	}{
		{"untouched", func(e []Entry) []Entry { return e }, nil},
		{"summary edited", func(e []Entry) []Entry { e[3].Summary += "!"; return e }, []string{"edited 4"}},
		{"time edited", func(e []Entry) []Entry { e[3].At = e[3].At.Add(1); return e }, []string{"edited 4"}},
		{"actor edited", func(e []Entry) []Entry { e[3].Actor = "eve"; return e }, []string{"edited 4"}},
		{"data added", func(e []Entry) []Entry { e[3].Data = json.RawMessage(`{}`); return e }, []string{"edited 4"}},
		{"cause edited", func(e []Entry) []Entry { e[3].Cause = 1; return e }, []string{"edited 4"}},
		{"edited and hashed anew", func(e []Entry) []Entry {
			e[3].Summary += "!"
			e[3].Hash, _ = e[3].sum()
			return e
		}, []string{"replaced 5"}},
		{"removed", func(e []Entry) []Entry { return slices.Delete(e, 3, 4) }, []string{"removed 4"}},
		{"two removed", func(e []Entry) []Entry { return slices.Delete(e, 3, 5) }, []string{"removed 4", "removed 5"}},
		{"first removed", func(e []Entry) []Entry { return slices.Delete(e, 0, 1) }, []string{"removed 1"}},
		{"last removed", func(e []Entry) []Entry { return e[:8] }, []string{"truncated 9"}},
		{"all removed", func(e []Entry) []Entry { return nil }, []string{"truncated 9"}},
		{"reordered", func(e []Entry) []Entry { e[3], e[4] = e[4], e[3]; return e }, []string{"reordered 4"}},
		{"numbers swapped", func(e []Entry) []Entry {
			e[3].Seq, e[4].Seq = 5, 4
			e[3], e[4] = e[4], e[3]
			return e
		}, []string{"edited 4", "replaced 4", "edited 5", "replaced 5", "replaced 6"}},
		{"doubled", func(e []Entry) []Entry { return slices.Insert(e, 4, e[3]) }, []string{"reordered 4"}},
		{"removed and renumbered", func(e []Entry) []Entry {
			e = slices.Delete(e, 3, 4)
			e[3].Seq = 4
			e[3].Hash, _ = e[3].sum()
			return e[:4]
		}, []string{"replaced 4", "truncated 9"}},
		{"forged throughout", func(e []Entry) []Entry { e[0].Summary = "forged"; return reseal(t, e) }, []string{"replaced 9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			entries := tt.tamper(slices.Clone(whole))
			var v Verifier
			for i := range entries {
				v.Add(&entries[i])
			}
			faults, _, _ := v.Finish(head)
			var got []string
			for _, f := range faults {
				got = append(got, fmt.Sprintf("%s %d", f.Kind, f.Seq))
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q\n%v", got, tt.want, faults)
			}
		})
	}
}

func TestVerifyWhatWasRead(t *testing.T) {
	log := NewMemoryLog(2000)
	for i := range 1200 {
		e, _ := Note(start, "ada", fmt.Sprint(i))
		if _, err := log.Append(context.Background(), []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	faults, rows, end, err := Verify(context.Background(), log, Head{})
	if err != nil || len(faults) > 0 || rows != 1200 || end.Seq != 1200 {
		t.Errorf("got %v, %d rows, end %d, %v, want 1200 whole rows", faults, rows, end.Seq, err)
	}
	// After a restart only what is new is read.
	log2, _ := log.Entries(context.Background(), 1000, 500)
	v := NewVerifier(Head{Seq: 1000, Hash: log2[0].Prev})
	for i := range log2 {
		v.Add(&log2[i])
	}
	if faults, rows, _ := v.Finish(end); len(faults) > 0 || rows != 200 {
		t.Errorf("got %v, %d rows, want 200 whole rows", faults, rows)
	}
}

// TestCanonicalFormIsFixed holds the encoding: a change of it would break every
// log that exists.
func TestCanonicalFormIsFixed(t *testing.T) {
	e := Entry{At: start.In(time.FixedZone("x", 3600)), Kind: KindNote, Actor: "ada", Summary: "a <b> & c", Data: json.RawMessage("{ \"x\": 1 }"), Cause: 3}
	sealed, err := Seal(Head{Seq: 6, Hash: "ab"}, e)
	if err != nil {
		t.Fatal(err)
	}
	open := sealed
	open.Hash = ""
	raw, err := Canonical(open)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"seq":7,"at":"2026-11-23T14:00:00Z","kind":"note","actor":"ada","summary":"a \u003cb\u003e \u0026 c","data":{"x":1},"cause":3,"prev":"ab","hash":""}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
	if len(sealed.Hash) != 64 || strings.Trim(sealed.Hash, "0123456789abcdef") != "" {
		t.Errorf("got hash %q, want 64 hexadecimal digits", sealed.Hash)
	}
	var back Entry
	stored, _ := json.Marshal(sealed)
	if err := json.Unmarshal(stored, &back); err != nil {
		t.Fatal(err)
	}
	if sum, _ := back.sum(); sum != sealed.Hash {
		t.Errorf("after a round trip: got %s, want %s", sum, sealed.Hash)
	}
}

func TestCauseIn(t *testing.T) {
	a, _ := Note(start, "ada", "a")
	b, _ := Note(start, "ada", "b")
	b.CauseIn = 1
	out, err := SealAll(Head{Seq: 40, Hash: "x"}, []Entry{a, b})
	if err != nil || out[1].Cause != 41 || out[1].CauseIn != 0 {
		t.Errorf("got %+v, %v, want the cause 41", out, err)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"seq":1,"at":"2026-11-23T14:00:00Z","kind":"decision","data":{"policy":{"targets":[{"signal":"cpu","value":1}]},"inputs":{"nodes":[{"name":"a"}]}}}`))
	f.Add([]byte(`{"kind":"alert","data":{"rule":{"name":"x"}}}`))
	f.Add([]byte(`{"kind":"walk","data":{"question":{"rule":{"class":"error"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e Entry
		if json.Unmarshal(raw, &e) != nil {
			return
		}
		// What somebody wrote into the file may be refused, but must not hurt.
		if again, err := Replay(e); err == nil {
			if twice, err := Replay(again); err != nil || twice.Hash != again.Hash {
				t.Errorf("got %v, %v, want the same twice", twice.Hash, err)
			}
		}
	})
}
