"""A new index, made from the files that are there."""

import fcntl
import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from app.store import places, schema
from app.store.places import Places

_COMPANIONS: Final = ("-wal", "-shm", "-journal")


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """Open an index that exists; raise sqlite3.Error. Any thread may use it, one at a time."""
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
    )


def build(where: Places) -> None:
    """Make the index; raise OSError or sqlite3.Error. Nobody else may be doing it.

    What repositories hold and who may read them is not in the files, so that has to be learned
    anew; nor are media types. When they were used is not known either: they count as used now, so
    that nobody throws away what is used each day.
    """
    new = where.index.with_name(f"{where.index.name}.new")
    _remove(new)
    # Not os.open: under gevent its end comes late, and takes SQLite's locks along.
    new.open("xb").close()
    new.chmod(places.PRIVATE_FILE_MODE)  # what SQLite puts beside it gets the same
    with closing(connect(new, 0)) as connection:
        _fill(connection, where)
    _remove_companions(where.index)  # of one that was taken away: they would be taken for ours
    new.rename(where.index)
    places.sync_directory(where.directory)


def _fill(connection: sqlite3.Connection, where: Places) -> None:
    connection.executescript(schema.SCHEMA)
    now = time.time()
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO entries(registry, digest, size, media_type, taken, used_at, used) "
        "VALUES (?1, ?2, ?3, '', ?4, ?6, ?5)",
        # The order in which they came is the best guess at their use.
        (
            (file.registry, file.digest, file.size, file.changed / 1e9, max(file.changed, 0), now)
            for file in where.walk()
        ),
    )
    connection.execute("COMMIT")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        message = f"this file system allows no write-ahead log (journal mode {mode})"
        raise sqlite3.NotSupportedError(message)


def set_aside(where: Places, file: tuple[int, int]) -> None:
    """Put a broken index out of the way, unless another one is there by now; raise OSError.

    The last such is kept, for whoever wants to know what happened.
    """
    with where.locked(fcntl.LOCK_EX):
        if identity(where.index) != file:
            return
        broken = where.index.with_name(f"{where.index.name}.broken")
        _remove(broken)
        where.index.rename(broken)
        for end in _COMPANIONS:
            with suppress(FileNotFoundError):
                _beside(where.index, end).rename(_beside(broken, end))


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of that name, or None if there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116 - for each use of the index, and twice as fast
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_companions(path)


def _remove_companions(path: Path) -> None:
    for end in _COMPANIONS:
        _beside(path, end).unlink(missing_ok=True)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)
