package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

const (
	// MinPassword is in characters, maxPassword in bytes: argon2 would take more,
	// but nobody types more.
	MinPassword = 10
	maxPassword = 256
	saltLen     = 16
	keyLen      = 32
	// hashWait is how long one waits for its turn, hashQueue how many wait.
	hashWait      = 4 * time.Second
	hashQueue     = 32
	strangerQueue = 20
	// maxMemory and maxTime bound what a stored hash may ask for.
	maxMemory = 256 << 10 // KiB
	maxTime   = 16
)

// Cost is how much work a hash is. The default (19 MiB, 2 passes, 1 lane) is the
// recommendation of OWASP for argon2id: some 25 ms of one processor.
type Cost struct {
	Memory uint32 // KiB
	Time   uint32
	Lanes  uint8
}

var defaultCost = Cost{Memory: 19 << 10, Time: 2, Lanes: 1}

// worst are passwords of ten characters and more that lead the lists of stolen
// ones. Shorter ones are refused anyway.
const worst = " 1234567890 0123456789 1234567891 12345678910 123456789a 0987654321 9876543210 1111111111 0000000000 " +
	"1q2w3e4r5t 1qaz2wsx3edc qwertyuiop qwerty1234 qwerty12345 qwerty123456 qwertyuiop1 asdfghjkl1 asdfghjkl; zxcvbnm123 " +
	"password12 password123 password1234 password12345 passwordpassword passw0rd123 p@ssw0rd123 p@ssword123 password123! password1! " +
	"letmein123 welcome123 welcome1234 administrator admin12345 admin123456 adminadmin rootroot12 iloveyou123 iloveyou12 " +
	"football123 baseball123 sunshine123 princess123 superman123 trustno1234 changeme123 changemenow abcdefghij abcd123456 abc1234567 " +
	"qazwsxedcrfv 1q2w3e4r5t6y q1w2e3r4t5 michael123 jennifer123 agentnet123 agentnetagentnet "

// CheckPassword says what is wrong with a new password of name.
func CheckPassword(name, password string) error {
	bad := func(text string) error { return &Invalid{"password", text} }
	lower := strings.ToLower(password)
	switch {
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return bad("it is not text")
	case utf8.RuneCountInString(password) < MinPassword:
		return bad(fmt.Sprintf("use %d characters or more; four words that you can remember are good", MinPassword))
	case len(password) > maxPassword:
		return bad(fmt.Sprintf("use at most %d bytes", maxPassword))
	case strings.Trim(password, string([]rune(password)[0])) == "",
		!strings.Contains(lower, " ") && strings.Contains(worst, " "+lower+" "):
		return bad("it is one of the first that anybody would try")
	case len(name) > 3 && strings.Contains(lower, strings.ToLower(name)) && len(lower)-len(name) < 6:
		return bad("it is little more than the name")
	}
	return nil
}

// A hasher makes and checks hashes, few at a time: each takes memory and a
// processor, and both are needed elsewhere.
type hasher struct {
	cost    Cost
	slots   chan struct{}
	waiting atomic.Int32
	dummy   func() string // of no password that anybody knows; made when it is needed first
}

func newHasher(cost Cost, slots int) *hasher {
	h := &hasher{cost: cost, slots: make(chan struct{}, slots)}
	h.dummy = sync.OnceValue(func() string {
		var none [32]byte
		rand.Read(none[:])
		return h.encode(string(none[:]))
	})
	return h
}

// turn waits for a slot and returns what gives it back. Strangers have the first
// part of the queue only: they cannot fill it up before somebody who is known.
func (h *hasher) turn(ctx context.Context, stranger bool) (func(), error) {
	room := int32(hashQueue)
	if stranger {
		room = strangerQueue
	}
	if h.waiting.Add(1) > room {
		h.waiting.Add(-1)
		return nil, ErrBusy
	}
	defer h.waiting.Add(-1)
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-timer.C:
		return nil, ErrBusy
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

// hash makes the text that is stored for a password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	done, err := h.turn(ctx, false)
	if err != nil {
		return "", err
	}
	defer done()
	return h.encode(password), nil
}

func (h *hasher) encode(password string) string {
	var salt [saltLen]byte
	rand.Read(salt[:])
	c := h.cost
	key := argon2.IDKey([]byte(password), salt[:], c.Time, c.Memory, c.Lanes, keyLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.Memory, c.Time, c.Lanes, b64.EncodeToString(salt[:]), b64.EncodeToString(key))
}

// check compares a password with a stored hash. For "" it does the same work and
// answers false. again says that the hash was made with less work than is usual
// now.
func (h *hasher) check(ctx context.Context, stored, password string, stranger bool) (ok, again bool, err error) {
	done, err := h.turn(ctx, stranger)
	if err != nil {
		return false, false, err
	}
	defer done()
	real := stored != ""
	if !real {
		stored = h.dummy()
	}
	if len(password) > maxPassword {
		password, real = password[:maxPassword], false
	}
	cost, salt, key, err := parseHash(stored)
	if err != nil {
		return false, false, err
	}
	got := argon2.IDKey([]byte(password), salt, cost.Time, cost.Memory, cost.Lanes, uint32(len(key)))
	same := subtle.ConstantTimeCompare(got, key) == 1
	weaker := cost.Memory < h.cost.Memory || cost.Time < h.cost.Time
	return same && real, same && real && weaker, nil
}

var errHash = errors.New("a stored password hash cannot be read")

// parseHash reads $argon2id$v=19$m=…,t=…,p=…$salt$key.
func parseHash(text string) (c Cost, salt, key []byte, err error) {
	part := strings.Split(text, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errHash
	}
	if n, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &c.Memory, &c.Time, &c.Lanes); err != nil || n != 3 ||
		c.Memory < 8 || c.Memory > maxMemory || c.Time < 1 || c.Time > maxTime || c.Lanes < 1 || c.Lanes > 8 {
		return c, nil, nil, errHash
	}
	b64 := base64.RawStdEncoding.Strict()
	if salt, err = b64.DecodeString(part[4]); err != nil || len(salt) < 8 || len(salt) > 64 {
		return c, nil, nil, errHash
	}
	if key, err = b64.DecodeString(part[5]); err != nil || len(key) < 16 || len(key) > 64 {
		return c, nil, nil, errHash
	}
	return c, salt, key, nil
}
