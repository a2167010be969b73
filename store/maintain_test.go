package store

import (
	"database/sql"
	"errors"
	"strings"
	"testing"
)

// fill writes n rows of 4 KiB into a table of the test.
func fill(t *testing.T, s *Store, n int) error {
	t.Helper()
	_, err := write(t.Context(), s, func(tx *sql.Tx) (int, error) {
		if _, err := tx.Exec(`CREATE TABLE IF NOT EXISTS ballast (b BLOB)`); err != nil {
			return 0, err
		}
		for range n {
			if _, err := tx.Exec(`INSERT INTO ballast VALUES (randomblob(4096))`); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	return err
}

func TestCompactGivesSpaceBack(t *testing.T) {
	s := open(t, Config{})
	if err := fill(t, s, 4000); err != nil {
		t.Fatal(err)
	}
	if freed, err := s.Compact(t.Context()); err != nil || freed != 0 {
		t.Errorf("nothing is free: got %d, %v", freed, err)
	}
	if _, err := write(t.Context(), s, func(tx *sql.Tx) (int, error) {
		_, err := tx.Exec(`DELETE FROM ballast`)
		return 0, err
	}); err != nil {
		t.Fatal(err)
	}
	before, err := Inspect(t.Context(), s.Path(), CheckNone, false)
	if err != nil {
		t.Fatal(err)
	}
	freed, err := s.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	after, err := Inspect(t.Context(), s.Path(), CheckFull, false)
	if err != nil {
		t.Fatal(err)
	}
	if freed < 10<<20 || after.Free > keepFree || before.Free-after.Free != freed || after.Bytes > before.Bytes {
		t.Errorf("got %d bytes freed; before %+v, after %+v", freed, before, after)
	}
}

func TestASizeBoundRefusesAndLetsTheRestLive(t *testing.T) {
	s := open(t, Config{MaxBytes: 2 << 20})
	err := fill(t, s, 1000)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "database.max_bytes") {
		t.Fatalf("got %v, want ErrFull that names the key", err)
	}
	mustCreate(t, s, token(1)) // a small write still has room
	if err := s.Check(t.Context(), CheckFull); err != nil {
		t.Error(err)
	}
}

func TestInspect(t *testing.T) {
	s := open(t, Config{})
	mustCreate(t, s, token(1))
	in, err := Inspect(t.Context(), s.Path(), CheckFull, false) // beside the writer
	if err != nil || in.Schema != in.Knows || in.Bytes == 0 || in.WAL == 0 {
		t.Errorf("got %+v, %v", in, err)
	}
	copied := t.TempDir() + "/copy.db"
	if err := CopyFile(t.Context(), s.Path(), copied); err != nil {
		t.Fatal(err)
	}
	if in, err := Inspect(t.Context(), copied, CheckFull, true); err != nil || in.Schema != in.Knows || in.WAL != 0 {
		t.Errorf("the copy: got %+v, %v", in, err)
	}
	if _, err := Inspect(t.Context(), t.TempDir(), CheckFull, true); !errors.Is(err, ErrForeign) {
		t.Errorf("a folder: got %v, want ErrForeign", err)
	}
}
