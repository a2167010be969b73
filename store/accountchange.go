package store

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"agentnet/app/account"
)

// Kinds of changes about people. All of it is the same on all nodes: who may sign
// in, who has signed in, and which recovery codes are left. The time of the last
// sign-in, the step of the last code, and one-time links are of each node alone.
const (
	accountKind  = "account"
	sessionKind  = "session"
	recoveryKind = "recovery"
)

// accountText is an account as a change carries it.
type accountText struct {
	Role     account.Role `json:"role"`
	Disabled bool         `json:"disabled,omitempty"`
	Password string       `json:"password,omitempty"` // argon2id
	Second   string       `json:"second,omitempty"`
	Outside  string       `json:"outside,omitempty"`
	Since    int64        `json:"since_ms"`
	Created  int64        `json:"created_ms"`
}

func textOf(a *account.Account) accountText {
	return accountText{a.Role, a.Disabled, a.Password, a.Second, a.Outside, toMS(a.Since), toMS(a.Created)}
}

// applyAccount writes an account of another node. Its sessions that began before
// its Since are over by that alone. A node cannot refuse what another has done: two
// nodes that were apart may have taken the role from two admins, and then there is
// none; the command line makes one.
func applyAccount(tx *sql.Tx, c *Change) error {
	if c.Rank == Deleted {
		return removeAccount(tx, c.Key)
	}
	var t accountText
	if err := json.Unmarshal(c.Body, &t); err != nil {
		return fmt.Errorf("%w: account %.64q: %v", ErrBadChange, c.Key, err)
	}
	if _, err := account.ParseRole(string(t.Role)); err != nil || account.CheckName(c.Key) != nil {
		return fmt.Errorf("%w: account %.64q: its name or its role is none", ErrBadChange, c.Key)
	}
	return putAccount(tx, &account.Account{Name: c.Key, Role: t.Role, Disabled: t.Disabled, Password: t.Password, Second: t.Second, Outside: t.Outside,
		Since: fromMS(t.Since), Created: fromMS(t.Created)})
}

// recoveryText is a recovery code as a change carries it; its key is the hash.
type recoveryText struct {
	Account string `json:"account"`
}

func recoveryKey(hash [32]byte) string { return hex.EncodeToString(hash[:]) }

// keyHash reads a hash that is a key.
func keyHash(c *Change) ([]byte, error) {
	hash, err := hex.DecodeString(c.Key)
	if err != nil || len(hash) != 32 {
		return nil, fmt.Errorf("%w: %s %.80q: the key is no hash of 32 bytes", ErrBadChange, c.Kind, c.Key)
	}
	return hash, nil
}

func applyRecovery(tx *sql.Tx, c *Change) error {
	hash, err := keyHash(c)
	if err != nil {
		return err
	}
	if c.Rank == Deleted {
		_, err := tx.Exec(`DELETE FROM recovery WHERE hash = ?`, hash)
		return err
	}
	var t recoveryText
	if err := json.Unmarshal(c.Body, &t); err != nil {
		return fmt.Errorf("%w: recovery code: %v", ErrBadChange, err)
	}
	_, err = tx.Exec(`INSERT INTO recovery (account, hash) VALUES (?, ?) ON CONFLICT (account, hash) DO NOTHING`, t.Account, hash)
	return err
}

// sessionText is a session as a change carries it; its key is the hash.
type sessionText struct {
	ID      string `json:"id"`
	Account string `json:"account"`
	Stage   string `json:"stage,omitempty"`
	How     string `json:"how"`
	Address string `json:"address"`
	Browser string `json:"browser"`
	Created int64  `json:"created_ms"`
	Seen    int64  `json:"seen_ms"`
	Expires int64  `json:"expires_ms"`
}

func sessionTextOf(t *account.Session) sessionText {
	return sessionText{t.ID, t.Account, t.Stage, t.How, t.Address, t.Browser, toMS(t.Created), toMS(t.Seen), toMS(t.Expires)}
}

func applySession(tx *sql.Tx, c *Change) error {
	hash, err := keyHash(c)
	if err != nil {
		return err
	}
	if c.Rank == Deleted {
		_, err := tx.Exec(`DELETE FROM session WHERE hash = ?`, hash)
		return err
	}
	var t sessionText
	if err := json.Unmarshal(c.Body, &t); err != nil {
		return fmt.Errorf("%w: session: %v", ErrBadChange, err)
	}
	return putSession(tx, &account.Session{Hash: [32]byte(hash), ID: t.ID, Account: t.Account, Stage: t.Stage, How: t.How, Address: t.Address, Browser: t.Browser,
		Created: fromMS(t.Created), Seen: fromMS(t.Seen), Expires: fromMS(t.Expires)})
}
