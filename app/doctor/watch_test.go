package doctor

import (
	"context"
	"testing"
)

func TestWatchTellsEachFindingAndLooksAtTheDatabaseLast(t *testing.T) {
	planned := Planned()
	told := map[int]int{}
	last := ""
	before := -1
	cfg := Config{Data: t.TempDir(), Database: func(context.Context) (Database, error) { before = len(told); return Database{}, nil }}
	all := Watch(t.Context(), cfg, func(place int, f Finding) {
		told[place]++
		last = f.Check
		if planned[place].Check != f.Check || planned[place].Result != "" || f.Result == "" {
			t.Errorf("place %d: got %s %q, planned %s %q", place, f.Check, f.Result, planned[place].Check, planned[place].Result)
		}
	})
	if len(all) != len(planned) || len(told) != len(planned) {
		t.Errorf("got %d findings, told %d, want %d", len(all), len(told), len(planned))
	}
	for place, n := range told {
		if n != 1 || all[place].Check != planned[place].Check {
			t.Errorf("place %d: told %d times, got %s, want %s once", place, n, all[place].Check, planned[place].Check)
		}
	}
	if last != heavy || before != len(planned)-1 {
		t.Errorf("got %s last, and the database read after %d others, want %s after all others", last, before, heavy)
	}
}
