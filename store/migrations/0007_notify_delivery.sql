-- What became of each try to tell people: neither what was told nor what was
-- answered. Only the newest rows are kept.
CREATE TABLE notify_delivery (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	at_ms    INTEGER NOT NULL,
	message  TEXT    NOT NULL,
	channel  TEXT    NOT NULL,
	kind     TEXT    NOT NULL,
	target   TEXT    NOT NULL,
	rules    TEXT    NOT NULL,
	severity INTEGER NOT NULL,
	test     INTEGER NOT NULL,
	outcome  TEXT    NOT NULL,
	tries    INTEGER NOT NULL,
	took_us  INTEGER NOT NULL,
	status   INTEGER NOT NULL,
	class    TEXT    NOT NULL
) STRICT;
