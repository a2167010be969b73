package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
)

// An opaque token is
//
//	agn_ + id (12) + _ + secret (43) + checksum (6)
//
// with the digits 0-9 A-Z a-z throughout: one word to a double click, and
// agn_[0-9A-Za-z]{12}_[0-9A-Za-z]{49} to a secret scanner. The secret has 256 bits.
// The checksum is the CRC-32 of all before it: it tells a typing error from a
// wrong token without asking anybody, and proves nothing else.
const (
	tokenPrefix = "agn_"
	idLen       = 12
	secretLen   = 43
	sumLen      = 6
	tokenLen    = len(tokenPrefix) + idLen + 1 + secretLen + sumLen
)

const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

type tokenID [idLen]byte

// A Token is a row of the database: what a token is allowed and what became of
// it. A zero time is "not". Hash is the SHA-256 of the whole token.
type Token struct {
	ID        string
	Name      string
	Hash      [32]byte
	Agents    []string
	Send      []string
	Subscribe []string
	Publish   []string
	Roles     []string
	Created   time.Time
	Expires   time.Time
	Revoked   time.Time
	Used      time.Time
	Rev       uint64
}

// Tokens is where opaque tokens are kept. All methods may be called concurrently
// and return within ctx.
type Tokens interface {
	// CreateToken stores a new token; t.Rev is given by the store.
	CreateToken(ctx context.Context, t Token) error
	// TokensSince returns up to limit tokens whose Rev is greater than rev, by
	// rising Rev. Every creation and revocation gives a token a new Rev that is
	// greater than all before; fewer than limit rows means that there are no more.
	TokensSince(ctx context.Context, rev uint64, limit int) ([]Token, error)
	// RevokeToken ends a token for good; an unknown id is an error.
	RevokeToken(ctx context.Context, id string, at time.Time) error
	// TokensUsed notes when tokens were used last, in whole hours. It changes no Rev.
	TokensUsed(ctx context.Context, used map[string]time.Time) error
}

// mint makes a new token. The random source of crypto/rand does not fail.
func mint() (token, id string, hash [32]byte) {
	b := make([]byte, 0, tokenLen)
	b = append(b, tokenPrefix...)
	b = appendRandom(b, idLen)
	id = string(b[len(tokenPrefix):])
	b = append(b, '_')
	b = appendRandom(b, secretLen)
	b = appendSum(b, crc32.ChecksumIEEE(b))
	return string(b), id, sha256.Sum256(b)
}

// appendRandom adds n digits, each with equal chance: six random bits that are
// none of the 62 digits are thrown away.
func appendRandom(dst []byte, n int) []byte {
	var pool [64]byte
	for n > 0 {
		rand.Read(pool[:])
		for _, p := range pool {
			if p &= 63; int(p) < len(digits) && n > 0 {
				dst = append(dst, digits[p])
				n--
			}
		}
	}
	return dst
}

func appendSum(dst []byte, sum uint32) []byte {
	var s [sumLen]byte
	for i := sumLen - 1; i >= 0; i-- {
		s[i] = digits[sum%62]
		sum /= 62
	}
	return append(dst, s[:]...)
}

// split returns the id of a token that is well formed.
func split(token []byte) (id tokenID, ok bool) {
	if len(token) != tokenLen || string(token[:len(tokenPrefix)]) != tokenPrefix {
		return id, false
	}
	copy(id[:], token[len(tokenPrefix):])
	if token[len(tokenPrefix)+idLen] != '_' {
		return id, false
	}
	var room [sumLen]byte
	body := token[:tokenLen-sumLen]
	return id, string(appendSum(room[:0], crc32.ChecksumIEEE(body))) == string(token[tokenLen-sumLen:]) && allDigits(id[:])
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
			return false
		}
	}
	return true
}

// ParseToken returns the public id of an opaque token, or says what is wrong with
// its form. It asks nobody and cannot tell whether the token is valid; the error
// holds nothing of it.
func ParseToken(token string) (id string, err error) {
	switch {
	case !strings.HasPrefix(token, tokenPrefix):
		return "", fmt.Errorf("the token does not begin with %s: it was not made by this program", tokenPrefix)
	case len(token) != tokenLen:
		return "", fmt.Errorf("the token has %d characters, not %d: it was not copied whole", len(token), tokenLen)
	}
	tid, ok := split([]byte(token))
	if !ok {
		return "", errors.New("the token has a wrong character in it: copy it again")
	}
	return string(tid[:]), nil
}

// publicID takes what people give as the name of a token: its id, "agn_" with the
// id, or by mistake the token itself.
func publicID(s string) (string, error) {
	if id, err := ParseToken(s); err == nil {
		return id, nil
	}
	id := strings.TrimPrefix(s, tokenPrefix)
	if len(id) != idLen || !allDigits([]byte(id)) {
		return "", fmt.Errorf("a token id has %d letters and digits: see the list of tokens", idLen)
	}
	return id, nil
}
