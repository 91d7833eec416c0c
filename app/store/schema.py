"""The tables of the index, and the triggers that keep their counts, sizes and bounds."""

from typing import Final

APPLICATION: Final = 0x446F6378
"""`Docx`, in the header of the file (https://sqlite.org/pragma.html#pragma_application_id)."""

VERSION: Final = 5
"""An index with a newer schema is refused; one with an older schema is rebuilt from the content."""

MAX_ROWS: Final = {
    "members": 1_000_000,
    "grants": 200_000,
    "publics": 100_000,
    "refusals": 100_000,
    "notes": 10_000,
    "tags": 50_000,
    "tokens": 50_000,
    "lists": 1_000,
}
"""The maximum number of rows that each table may have. A full table drops its oldest rows first.

Tags, tokens and lists are notes too. They have tables of their own, so that they displace only
their own kind: clients choose how many there are of each, and lists are large.
"""

MAX_BYTES: Final = {
    "notes": 8 << 20,
    "tags": 32 << 20,
    "tokens": 32 << 20,
    "lists": 64 << 20,
}
"""The maximum size of all keys and values in a table, in bytes. Clients and registries choose how
long those are.

The bytes do not count towards `DOCXY_CACHE_MAX_SIZE`: no request for a note can evict a layer.
"""

_TABLES: Final = """
CREATE TABLE entries(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    registry TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    taken REAL NOT NULL,
    used INTEGER NOT NULL,
    used_at REAL NOT NULL,
    UNIQUE(registry, digest)
);
CREATE INDEX entries_used ON entries(used);

CREATE TABLE totals(
    registry TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER entries_come AFTER INSERT ON entries BEGIN
    INSERT OR IGNORE INTO totals VALUES (NEW.registry, 0, 0);
    UPDATE totals SET entries = entries + 1, bytes = bytes + NEW.size
        WHERE registry = NEW.registry;
END;
CREATE TRIGGER entries_change AFTER UPDATE OF size ON entries BEGIN
    UPDATE totals SET bytes = bytes + NEW.size - OLD.size WHERE registry = NEW.registry;
END;
CREATE TRIGGER entries_go AFTER DELETE ON entries BEGIN
    UPDATE totals SET entries = entries - 1, bytes = bytes - OLD.size
        WHERE registry = OLD.registry;
    DELETE FROM members WHERE registry = OLD.registry AND digest = OLD.digest;
END;

CREATE TABLE moving(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
    registry TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL
);

CREATE TABLE members(
    registry TEXT NOT NULL,
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    media_type TEXT NOT NULL,
    shown INTEGER NOT NULL,
    UNIQUE(registry, digest, repository)
);
CREATE INDEX members_repository ON members(registry, repository);

CREATE TABLE grants(
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    caller TEXT NOT NULL,
    boot TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    UNIQUE(registry, repository, caller)
);
CREATE INDEX grants_until ON grants(until);

CREATE TABLE publics(
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    boot TEXT NOT NULL,
    since REAL NOT NULL,
    UNIQUE(registry, repository)
);

CREATE TABLE refusals(
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    subject TEXT NOT NULL,
    boot TEXT NOT NULL,
    at REAL NOT NULL,
    UNIQUE(registry, repository, subject)
);

CREATE TABLE counts(
    name TEXT PRIMARY KEY, present INTEGER NOT NULL, most INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE sizes(
    name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, most INTEGER NOT NULL
) WITHOUT ROWID;
"""

_NOTES_TABLE: Final = """
CREATE TABLE {table}(
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    boot TEXT NOT NULL,
    asked REAL NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    UNIQUE(kind, key)
);
CREATE INDEX {table}_until ON {table}(until);
INSERT INTO sizes VALUES ('{table}', 0, {most_bytes});
CREATE TRIGGER {table}_grow AFTER INSERT ON {table} BEGIN
    UPDATE sizes SET bytes = bytes
        + length(CAST(NEW.key AS BLOB)) + length(CAST(NEW.value AS BLOB)) WHERE name = '{table}';
END;
CREATE TRIGGER {table}_shrink AFTER DELETE ON {table} BEGIN
    UPDATE sizes SET bytes = bytes
        - length(CAST(OLD.key AS BLOB)) - length(CAST(OLD.value AS BLOB)) WHERE name = '{table}';
END;
"""

_ROW_LIMIT: Final = """
INSERT INTO counts VALUES ('{table}', 0, {most});
CREATE TRIGGER {table}_come AFTER INSERT ON {table} BEGIN
    UPDATE counts SET present = present + 1 WHERE name = '{table}';
    DELETE FROM {table} WHERE rowid IN (
        SELECT rowid FROM {table} ORDER BY rowid
        LIMIT (SELECT max(present - most, 0) FROM counts WHERE name = '{table}')
    );
END;
CREATE TRIGGER {table}_go AFTER DELETE ON {table} BEGIN
    UPDATE counts SET present = present - 1 WHERE name = '{table}';
END;
"""

SCHEMA: Final = "".join(
    (
        _TABLES,
        *(_NOTES_TABLE.format(table=table, most_bytes=most) for table, most in MAX_BYTES.items()),
        *(_ROW_LIMIT.format(table=table, most=most) for table, most in MAX_ROWS.items()),
    )
)
