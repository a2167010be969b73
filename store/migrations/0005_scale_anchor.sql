-- Where the chain of an origin begins here, after its oldest entries were archived
-- or, for an origin of another node, were so before this one got it. seq and hash
-- are of the entry before the first one; gone_seq and gone_hash of the last one that
-- left this database, which is before it where a node was away for long. The newest
-- entry of this data directory's own log that holds anchors signs them.
CREATE TABLE scale_anchor (
	origin    TEXT    NOT NULL PRIMARY KEY,
	seq       INTEGER NOT NULL,
	hash      TEXT    NOT NULL,
	gone_seq  INTEGER NOT NULL,
	gone_hash TEXT    NOT NULL,
	entries   INTEGER NOT NULL,
	file      TEXT    NOT NULL,
	digest    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER scale_anchor_grows BEFORE UPDATE ON scale_anchor
WHEN new.origin <> old.origin OR new.seq < old.seq OR new.gone_seq < old.gone_seq
BEGIN SELECT RAISE(ABORT, 'the anchor of the scaling log never goes back'); END;
CREATE TRIGGER scale_anchor_remains BEFORE DELETE ON scale_anchor
BEGIN SELECT RAISE(ABORT, 'the anchor of the scaling log stays'); END;

-- Entries leave only behind an anchor.
DROP TRIGGER scale_entry_remains;
CREATE TRIGGER scale_entry_remains BEFORE DELETE ON scale_entry
WHEN old.seq > coalesce((SELECT gone_seq FROM scale_anchor WHERE origin = old.origin), 0)
BEGIN SELECT RAISE(ABORT, 'the scaling log is append-only'); END;
