-- Whose samples are kept. Number 0 is the whole fleet, with an empty name.
CREATE TABLE sample_node (
	id     INTEGER NOT NULL PRIMARY KEY,
	name   TEXT    NOT NULL UNIQUE,
	last_s INTEGER NOT NULL
) STRICT;

INSERT INTO sample_node (id, name, last_s) VALUES (0, '', 0);

-- Samples summed up over spans of 10 s, 1 min and 15 min; data is the form of
-- scale.Rollup. place is number of the span (0, 1, 2) << 58 + node << 34 + beginning
-- in seconds since 1970: rows of one node lie together, in the order of time, and no
-- index is needed. (A table without rowid would give every row of more than 1 KB a
-- page of its own.)
CREATE TABLE rollup (
	place INTEGER NOT NULL PRIMARY KEY,
	data  BLOB    NOT NULL
) STRICT;

-- The scaling log: one chain of hashes for each origin, which is the node that
-- wrote it. place is the order in which rows came here. All columns but place and
-- origin are part of what is hashed; at_ns is nanoseconds since 1970.
CREATE TABLE scale_entry (
	place   INTEGER NOT NULL PRIMARY KEY,
	origin  TEXT    NOT NULL,
	seq     INTEGER NOT NULL,
	at_ns   INTEGER NOT NULL,
	kind    TEXT    NOT NULL,
	actor   TEXT    NOT NULL,
	region  TEXT    NOT NULL,
	summary TEXT    NOT NULL,
	data    TEXT    NOT NULL,
	cause   INTEGER NOT NULL,
	prev    TEXT    NOT NULL,
	hash    TEXT    NOT NULL,
	UNIQUE (origin, seq)
) STRICT;

CREATE INDEX scale_entry_by_time ON scale_entry (at_ns);
CREATE INDEX scale_entry_by_kind ON scale_entry (kind, at_ns);

-- No statement of this program changes a row; a slip of anybody else's is refused.
CREATE TRIGGER scale_entry_stays BEFORE UPDATE ON scale_entry
BEGIN SELECT RAISE(ABORT, 'the scaling log is append-only'); END;
CREATE TRIGGER scale_entry_remains BEFORE DELETE ON scale_entry
BEGIN SELECT RAISE(ABORT, 'the scaling log is append-only'); END;

-- What the scaling engine must not forget over a restart, as JSON.
CREATE TABLE alert_state (
	name  TEXT NOT NULL PRIMARY KEY,
	state TEXT NOT NULL CHECK (json_valid(state))
) STRICT, WITHOUT ROWID;

CREATE TABLE silence (
	id      TEXT NOT NULL PRIMARY KEY,
	silence TEXT NOT NULL CHECK (json_valid(silence))
) STRICT, WITHOUT ROWID;
