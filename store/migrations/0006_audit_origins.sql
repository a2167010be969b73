-- The audit log becomes one chain of hashes for each origin, the data directory
-- that wrote it, so that each node holds those of all. place is the order in which
-- rows came here. All columns but place and origin are part of what is hashed.
CREATE TABLE audit_of_all (
	place   INTEGER NOT NULL PRIMARY KEY,
	origin  TEXT    NOT NULL,
	seq     INTEGER NOT NULL,
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
	hash    TEXT    NOT NULL,
	UNIQUE (origin, seq)
) STRICT;

-- Ends of what is not kept here of an origin: what follows one of them follows its
-- hash, although the rows up to it are gone.
CREATE TABLE audit_base (
	origin TEXT    NOT NULL,
	seq    INTEGER NOT NULL,
	hash   TEXT    NOT NULL,
	PRIMARY KEY (origin, seq)
) STRICT, WITHOUT ROWID;

-- What was written so far is this data directory's own.
INSERT INTO setting (name, value, changed_ms)
	SELECT 'audit.origin', coalesce((SELECT node FROM audit WHERE node NOT IN ('', 'command') ORDER BY seq DESC LIMIT 1), 'node') || '~' || lower(hex(randomblob(4))), 0
	WHERE EXISTS (SELECT 1 FROM audit) OR EXISTS (SELECT 1 FROM setting WHERE name = 'audit_base');

INSERT INTO audit_of_all
	SELECT seq, (SELECT value FROM setting WHERE name = 'audit.origin'), seq, at_ms, node, actor, role, via, address, action, target, outcome, detail, prev, hash
	FROM audit ORDER BY seq;

INSERT INTO audit_base (origin, seq, hash)
	SELECT (SELECT value FROM setting WHERE name = 'audit.origin'), json_extract(value, '$.Seq'), json_extract(value, '$.Hash')
	FROM setting WHERE name = 'audit_base';

DELETE FROM setting WHERE name = 'audit_base';
DROP TABLE audit;
ALTER TABLE audit_of_all RENAME TO audit;

CREATE INDEX audit_by_actor ON audit (actor, place);
CREATE INDEX audit_by_action ON audit (action, place);
