-- Times are milliseconds since 1970, 0 is "not". The password is an argon2id hash;
-- the second factor has to be readable and is the only secret that is kept as it is.
CREATE TABLE account (
	name       TEXT    NOT NULL PRIMARY KEY, -- in lower case; never changes
	role       TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
	disabled   INTEGER NOT NULL DEFAULT 0,
	password   TEXT    NOT NULL,
	second     TEXT    NOT NULL,
	outside    TEXT    NOT NULL, -- who vouches for the person; '' for the password
	since_ms   INTEGER NOT NULL, -- sessions that began before it are over
	created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX account_by_outside ON account (outside) WHERE outside <> '';

-- What only this node knows of an account.
CREATE TABLE account_use (
	name    TEXT    NOT NULL PRIMARY KEY,
	seen_ms INTEGER NOT NULL DEFAULT 0, -- the last sign-in
	step    INTEGER NOT NULL DEFAULT 0  -- of the last code of the second factor
) STRICT, WITHOUT ROWID;

CREATE TABLE recovery (
	account TEXT NOT NULL,
	hash    BLOB NOT NULL CHECK (length(hash) = 32),
	PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;

-- Browsers that are signed in. hash is the SHA-256 of the secret in the cookie.
CREATE TABLE session (
	hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
	id         TEXT    NOT NULL,
	account    TEXT    NOT NULL,
	stage      TEXT    NOT NULL,
	how        TEXT    NOT NULL,
	address    TEXT    NOT NULL,
	browser    TEXT    NOT NULL,
	created_ms INTEGER NOT NULL,
	seen_ms    INTEGER NOT NULL,
	expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_by_account ON session (account);
CREATE INDEX session_by_id ON session (id);

-- One-time links, by the SHA-256 of their secret.
CREATE TABLE link (
	hash       BLOB    NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
	kind       TEXT    NOT NULL,
	account    TEXT    NOT NULL,
	created_ms INTEGER NOT NULL,
	expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who did what, in one chain of hashes. Rows are only added; the oldest may be
-- removed once their end is noted in the setting audit_base.
CREATE TABLE audit (
	seq     INTEGER NOT NULL PRIMARY KEY,
	at_ms   INTEGER NOT NULL,
	node    TEXT    NOT NULL,
	actor   TEXT    NOT NULL,
	role    TEXT    NOT NULL,
	via     TEXT    NOT NULL,
	address TEXT    NOT NULL,
	action  TEXT    NOT NULL,
	target  TEXT    NOT NULL,
	outcome TEXT    NOT NULL,
	detail  TEXT    NOT NULL,
	prev    TEXT    NOT NULL,
	hash    TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_action ON audit (action, seq);
