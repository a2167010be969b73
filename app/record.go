package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// recordFile is where a node that runs says how it is reached, for the commands
// that work beside it.
const recordFile = "node.json"

// A Record is what a running node tells the commands on its machine.
type Record struct {
	PID     int       `json:"pid"`
	URL     string    `json:"url"` // on this machine, without a proxy
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Settings are what it was told, by key, where that is not the default. Secrets
	// are not among them; the password of an URL reads ***.
	Settings map[string]string `json:"settings,omitempty"`
}

// ReadRecord reads what the node on dir says. fs.ErrNotExist means that none runs
// there, or that it was not stopped in order and the note was removed. A note may
// be left of a node that was killed: only its URL tells.
func ReadRecord(dir string) (Record, error) {
	var r Record
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(dir, recordFile), err)
	}
	return r, nil
}

// LocalURL is where a node that listens on addr is reached from its own machine.
func (c *Config) LocalURL(addr string) string {
	scheme := "http://"
	if c.Encrypts() {
		scheme = "https://"
	}
	if host, port, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
	}
	return scheme + addr + c.BasePath
}

// settings are the values that are not the default, without secrets.
func (c *Config) settings() map[string]string {
	var plain Config
	plain.setDefaults()
	defaults, out := plain.Fields(), map[string]string{}
	for i, f := range c.Fields() {
		text := f.Text()
		if f.OnlyIn || f.Secret == "all" || text == defaults[i].Text() {
			continue
		}
		if f.Secret == "url" {
			text = hideURL(text)
		}
		out[f.Key] = text
	}
	return out
}

// Adopt takes the settings of a running node where c has the default.
func (c *Config) Adopt(r Record) {
	var plain Config
	plain.setDefaults()
	defaults := plain.Fields()
	for i, f := range c.Fields() {
		if text, ok := r.Settings[f.Key]; ok && f.Text() == defaults[i].Text() {
			_ = f.Set(text) // a value of another version is left out
		}
	}
}

func (a *App) writeRecord() error {
	r := Record{PID: os.Getpid(), URL: a.cfg.LocalURL(a.Addr()), Version: a.version, Started: time.Now().UTC().Truncate(time.Millisecond), Settings: a.cfg.settings()}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	path := filepath.Join(a.dataDir(), recordFile)
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (a *App) removeRecord() error {
	err := os.Remove(filepath.Join(a.dataDir(), recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// hideURL takes the password out of an address.
func hideURL(address string) string {
	at := strings.LastIndexByte(address, '@')
	scheme := strings.Index(address, "://")
	if at < 0 || scheme < 0 || at < scheme {
		return address
	}
	user, _, secret := strings.Cut(address[scheme+3:at], ":")
	if secret {
		user += ":***"
	}
	return address[:scheme+3] + user + address[at:]
}
