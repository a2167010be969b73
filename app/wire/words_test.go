package wire

import (
	"encoding/json"
	"testing"
)

func TestKindWords(t *testing.T) {
	client, server := map[Kind]bool{}, map[Kind]bool{}
	for _, k := range ClientKinds() {
		client[k] = true
	}
	for _, k := range ServerKinds() {
		server[k] = true
	}
	for _, k := range AllKinds() {
		word := []byte(k.String())
		if got := clientKind(word); got != k && client[k] || got != KindNone && !client[k] {
			t.Errorf("client word %s: got %v", word, got)
		}
		if got := serverKind(word); got != k && server[k] || got != KindNone && !server[k] {
			t.Errorf("server word %s: got %v", word, got)
		}
	}
	if got, want := len(AllKinds()), 22; got != want {
		t.Errorf("got %d kinds, want %d", got, want)
	}
	if got, want := Kind(99).String(), "Kind(99)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFieldWords(t *testing.T) {
	for f := fEnd + 1; f < fieldCount; f++ {
		if got := fieldOf([]byte(fieldWords[f])); got != f {
			t.Errorf("word %q: got field %d, want %d (two words on one slot?)", fieldWords[f], got, f)
		}
	}
	for _, word := range []string{"", "x", "To", "to ", "datum", "\xff\xff", "ids"} {
		if got := fieldOf([]byte(word)); got != fEnd {
			t.Errorf("word %q: got %s, want none", word, fieldWords[got])
		}
	}
}

func TestClassWords(t *testing.T) {
	for _, c := range AllClasses() {
		back, err := ParseClass(c.String())
		if err != nil || back != c {
			t.Errorf("%v: got %v, %v", c, back, err)
		}
		text, err := json.Marshal(c)
		var read Class
		if err != nil || json.Unmarshal(text, &read) != nil || read != c {
			t.Errorf("%v in JSON: got %s, %v", c, text, read)
		}
	}
	if _, err := ParseClass("urgent"); err == nil {
		t.Error("urgent is no priority, but was read as one")
	}
	if _, err := json.Marshal(Class(9)); err == nil {
		t.Error("class 9 was written")
	}
}

func TestWordLists(t *testing.T) {
	for _, c := range AllCodes() {
		if !c.Valid() || !validCode(string(c)) {
			t.Errorf("code %s is not valid", c)
		}
	}
	if Code("nonsense").Valid() {
		t.Error("a made-up code is valid")
	}
	for _, s := range AllAgentStates() {
		if got, want := s.Valid(), s != Offline; got != want {
			t.Errorf("state %s: got valid %v, want %v", s, got, want)
		}
		if knownWord([]byte(s)) != string(s) {
			t.Errorf("state %s became another word", s)
		}
	}
	for _, s := range AllReceiptStates() {
		if got, want := s.Valid(), s != ReceiptDelivered && s != ReceiptExpired; got != want {
			t.Errorf("state %s: got valid %v, want %v", s, got, want)
		}
		if knownWord([]byte(s)) != string(s) {
			t.Errorf("state %s became another word", s)
		}
	}
	for _, c := range AllCloseCodes() {
		if got, want := c.Final(), c == 4000 || c == 4001 || c == 4003; got != want {
			t.Errorf("close code %d: got final %v, want %v", c, got, want)
		}
	}
}
