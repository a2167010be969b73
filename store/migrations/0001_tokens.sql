-- A counter only grows. The counter "token_rev" numbers every change of a token,
-- so that a reader asks for what is newer than the last number that it saw.
CREATE TABLE counter (
	name  TEXT    NOT NULL PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counter (name, value) VALUES ('token_rev', 0);

-- Settings of this data directory that are not configuration.
CREATE TABLE setting (
	name       TEXT    NOT NULL PRIMARY KEY,
	value      TEXT    NOT NULL,
	changed_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Times are milliseconds since 1970, 0 is "not". The lists hold JSON arrays of
-- strings. The token itself is nowhere: hash is the SHA-256 of it.
CREATE TABLE token (
	id           TEXT    NOT NULL PRIMARY KEY,
	name         TEXT    NOT NULL,
	hash         BLOB    NOT NULL CHECK (length(hash) = 32),
	agents       TEXT    NOT NULL CHECK (json_valid(agents)),
	send         TEXT    NOT NULL CHECK (json_valid(send)),
	subscribe    TEXT    NOT NULL CHECK (json_valid(subscribe)),
	publish      TEXT    NOT NULL CHECK (json_valid(publish)),
	roles        TEXT    NOT NULL CHECK (json_valid(roles)),
	created_ms   INTEGER NOT NULL,
	expires_ms   INTEGER NOT NULL DEFAULT 0,
	revoked_ms   INTEGER NOT NULL DEFAULT 0,
	last_used_ms INTEGER NOT NULL DEFAULT 0,
	rev          INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

CREATE INDEX token_by_age ON token (created_ms, id);
