// Package parcel is what nodes send each other: the parcels that travel between
// the relays of a fleet, and their compact binary form.
//
// A parcel begins with one byte for the version of this form and one for its
// kind. Numbers are varints, texts follow their length, and payloads go through
// untouched. Fields may be added at the end of a kind, behind Coder.Added: older
// nodes leave them unread, and newer ones find them zero in what older ones wrote.
// What is part of a list cannot grow, for the next entry follows it at once. A kind or a version that a node does not
// know is left alone and counted by the caller. Reading never fails loudly on
// hostile bytes: it answers false.
package parcel

// Version is the form that Append writes. A change that older nodes cannot read
// has another one.
const Version = 1

// Kind says what a parcel is.
type Kind uint8

// The kinds of version 1.
const (
	KindLetter Kind = iota + 1
	KindOutcomes
	KindReceipt
	KindAsk
	KindAnswer
	KindCancel
	KindReply
	KindMail
	KindTake
	KindHandover
	KindTaken
	KindTail
	KindPublish
	KindPubs
	KindSync
	KindState
	KindEvent
	KindQuery
	KindFound
	KindListed
	// Kinds is one more than the last, for arrays indexed by Kind.
	Kinds
)

// A Body is one kind of parcel. Code describes its fields in both directions.
type Body interface {
	Kind() Kind
	Code(c *Coder)
}

// Append writes a parcel.
func Append(dst []byte, b Body) []byte {
	c := Coder{b: append(dst, Version, uint8(b.Kind()))}
	b.Code(&c)
	return c.b
}

// KindOf is the kind of a parcel; 0 for one that this version does not read.
func KindOf(p []byte) Kind {
	if len(p) < 2 || p[0] != Version || p[1] == 0 || Kind(p[1]) >= Kinds {
		return 0
	}
	return Kind(p[1])
}

// Read fills in b, whose kind must be that of the parcel. Texts and payloads of b
// alias p. ok is false when the parcel is cut off or malformed; then b must not be
// used.
func Read(p []byte, b Body) (ok bool) {
	if KindOf(p) != b.Kind() {
		return false
	}
	c := Coder{b: p[2:], reading: true}
	b.Code(&c)
	return !c.bad
}
