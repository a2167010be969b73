-- Control data that is the same on all nodes is written together with a row of
-- change: what was changed, by which data directory (origin), as its how-manieth
-- change, and when (stamp: milliseconds << 16 + counter, a hybrid logical clock).
-- For each kind and key one change is current; it wins by (life, rank, stamp,
-- origin, number). Ranks: 0 is an update, 1 one that only a deletion follows
-- (a revocation), 2 a deletion. A key that is made again after a deletion has the
-- next life. applied is 0 for a current change that this program does not
-- understand: a later one may.
CREATE TABLE change (
	origin  TEXT    NOT NULL,
	number  INTEGER NOT NULL,
	stamp   INTEGER NOT NULL,
	life    INTEGER NOT NULL,
	rank    INTEGER NOT NULL,
	kind    TEXT    NOT NULL,
	key     TEXT    NOT NULL,
	body    TEXT    NOT NULL,
	current INTEGER NOT NULL,
	applied INTEGER NOT NULL,
	PRIMARY KEY (origin, number)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX change_current ON change (kind, key) WHERE current = 1;
CREATE INDEX change_overwritten ON change (stamp) WHERE current = 0;
CREATE INDEX change_pending ON change (kind) WHERE current = 1 AND applied = 0;

-- Up to which number this data directory has the changes of each origin, without
-- gaps but for what was overwritten. One origin is its own. It is random: names of
-- nodes are used again, a data directory is not.
CREATE TABLE change_origin (
	origin TEXT    NOT NULL PRIMARY KEY,
	head   INTEGER NOT NULL,
	own    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX change_own ON change_origin (own) WHERE own = 1;

INSERT INTO change_origin (origin, head, own)
	SELECT lower(hex(randomblob(10))), (SELECT count(*) FROM token), 1;

-- The last stamp that was given or seen.
INSERT INTO counter (name, value)
	SELECT 'change_stamp', coalesce(max(max(created_ms, revoked_ms)), 0) << 16 FROM token;

-- The tokens so far are this data directory's first changes.
INSERT INTO change (origin, number, stamp, life, rank, kind, key, body, current, applied)
	SELECT (SELECT origin FROM change_origin), row_number() OVER (ORDER BY rev), max(created_ms, revoked_ms) << 16, 0, revoked_ms <> 0, 'token', id,
		json_object('name', name, 'hash', lower(hex(hash)), 'agents', json(agents), 'send', json(send), 'subscribe', json(subscribe),
			'publish', json(publish), 'roles', json(roles), 'created_ms', created_ms, 'expires_ms', expires_ms, 'revoked_ms', revoked_ms), 1, 1
	FROM token;
