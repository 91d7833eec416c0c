"""The index: an SQLite database that all threads of all workers share."""

import fcntl
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from errno import EILSEQ, ENOTSUP, ESTALE
from pathlib import Path
from typing import Any, Final

from app.store import layout, schema
from app.store.errors import (
    BrokenIndex,
    StoreError,
    SurvivedErrors,
    build_error,
    is_broken,
    translate_errors,
)
from app.store.layout import Layout, get_identity
from app.threads import get_unpatched

# Building a new index from the content files.

_COMPANION_SUFFIXES: Final = ("-wal", "-shm", "-journal")


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """Return a connection to an existing index; raise sqlite3.Error.

    `patience` is how many seconds to wait for a lock. Any thread may use the connection, but only
    one at a time.
    """
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
    )


def build_index(store_layout: Layout) -> None:
    """Build the index from the content files; raise OSError or sqlite3.Error.

    The caller holds the directory's exclusive lock.

    The files do not tell which repositories hold them, who may read them, or what their media
    types are, so all of that must be learned again. Nor do they tell when they were last used. They
    count as used now, so that an operator's removal of unused content spares what is used daily.
    """
    new_path = store_layout.index.with_name(f"{store_layout.index.name}.new")
    _remove(new_path)
    # Do not use os.open here: under gevent, os.close runs late and would drop SQLite's locks.
    new_path.open("xb").close()
    new_path.chmod(layout.PRIVATE_FILE_MODE)  # SQLite gives its companion files the same mode
    with closing(connect(new_path, 0)) as connection:
        _insert_files(connection, store_layout)
    # SQLite would take the companions of a removed index for ours.
    _remove_companions(store_layout.index)
    new_path.rename(store_layout.index)
    layout.sync_directory(store_layout.directory)


def _insert_files(connection: sqlite3.Connection, store_layout: Layout) -> None:
    connection.executescript(schema.SCHEMA)
    now = time.time()
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO entries(registry, digest, size, media_type, taken, used_at, used) "
        "VALUES (?1, ?2, ?3, '', ?4, ?6, ?5)",
        # The order in which files were written is the best guess at the order of their use.
        (
            (file.registry, file.digest, file.size, file.mtime_ns / 1e9, max(file.mtime_ns, 0), now)
            for file in store_layout.walk()
        ),
    )
    connection.execute("COMMIT")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION}")
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        message = f"this file system allows no write-ahead log (journal mode {mode})"
        raise sqlite3.NotSupportedError(message)


def quarantine(store_layout: Layout, identity: tuple[int, int]) -> None:
    """Move a broken index out of the way; may raise OSError.

    `identity` is the identity of the broken index; if another index has replaced it, do nothing.
    The most recent broken index is kept for investigation.
    """
    with store_layout.lock(fcntl.LOCK_EX):
        if get_identity(store_layout.index) != identity:
            return
        broken_path = store_layout.index.with_name(f"{store_layout.index.name}.broken")
        _remove(broken_path)
        store_layout.index.rename(broken_path)
        for suffix in _COMPANION_SUFFIXES:
            with suppress(FileNotFoundError):
                _build_companion_path(store_layout.index, suffix).rename(
                    _build_companion_path(broken_path, suffix)
                )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_companions(path)


def _remove_companions(path: Path) -> None:
    for suffix in _COMPANION_SUFFIXES:
        _build_companion_path(path, suffix).unlink(missing_ok=True)


def _build_companion_path(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


_MAX_ATTEMPTS: Final = 5
"""Attempts at opening an index that vanishes or breaks meanwhile; each attempt rebuilds it."""

_SETTLING_TIME: Final = 100_000_000
"""Nanoseconds since the last write before the log's time is trusted. Another write in the same tick
of the clock would not show."""

_SETTINGS: Final = (
    # A power cut may undo the last transactions, but never a part of one. It ends all grants, too.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA journal_size_limit = 16777216",
    "PRAGMA temp_store = MEMORY",
)


@dataclass(frozen=True, slots=True)
class _PooledConnection:
    """A connection, the identity of its file, and the id of the process that may use it."""

    connection: sqlite3.Connection
    identity: tuple[int, int]
    process: int


class Index:
    """Reads and writes the index, and rebuilds it from the content if it is missing or broken.

    Each connection is lent to one thread at a time and is never used across a fork. The class uses
    no Python locks: under gevent they belong to the event loop.
    """

    def __init__(
        self, store_layout: Layout, patience: float, survived_errors: SurvivedErrors
    ) -> None:
        """`patience` is how many seconds to wait for another process's write."""
        self._layout = store_layout
        self._patience = patience
        self._survived_errors = survived_errors
        self._idle: deque[_PooledConnection] = deque()
        # The parent's connections. They are never closed, since that could drop the parent's locks.
        self._inherited: list[_PooledConnection] = []
        # The original class, since the store runs on real threads; gevent's is for greenlets.
        self._joined: Any = get_unpatched("threading", "local")()
        self._log = f"{store_layout.index}{_COMPANION_SUFFIXES[0]}"

    def check(self) -> None:
        """Check the whole index, and rebuild it if it is damaged; may raise StoreError."""
        try:
            with self.connection() as connection:
                (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if result != "ok":
                    raise _Inconsistent(result)
        except BrokenIndex:
            with self.connection():
                pass  # opening it rebuilds it

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for reading; may raise StoreError.

        Each statement sees the latest committed state. Within a `transaction` of this thread, it
        sees that transaction's state.
        """
        if (enclosing := self._get_joined()) is not None:
            yield enclosing
            return
        with self._lend() as connection:
            yield connection

    @contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """Lend a connection within a write transaction; may raise StoreError.

        The transaction is committed at the end of the block, or rolled back if the block raises.
        `patience` is how many seconds to wait for other writers; None means the index's own.

        Within a transaction of the same thread, the block is a part of that one: errors of SQLite
        leave it as they are, and end the whole.
        """
        if (enclosing := self._get_joined()) is not None:
            yield enclosing
            return
        with self._lend() as connection:
            if patience is not None:
                connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            self._joined.connection = connection
            changes = connection.total_changes
            try:
                yield connection
                connection.execute("COMMIT")
                if connection.total_changes != changes:
                    # Readers see a commit only after the log has been written. Values that they
                    # read in between must not look as new as this.
                    with suppress(OSError):
                        os.utime(self._log)
            finally:
                self._joined.connection = None
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                if patience is not None:
                    connection.execute(f"PRAGMA busy_timeout = {int(self._patience * 1000)}")

    def query_first(self, query: str, *values: Any) -> Any:  # noqa: ANN401 - a row, as SQLite has it
        """Return the first row of a query; None if it has no rows or the index cannot be read."""
        return next(iter(self.query(query, *values)), None)

    def query(self, query: str, *values: Any) -> list[Any]:  # noqa: ANN401 - whatever it takes
        """Return the rows of a query; [] if the index cannot be read."""
        rows: list[Any] = self.call_or_default(lambda: self._query(query, values), [])
        return rows

    def read_state(self) -> tuple[int, ...] | None:
        """Return the state of the index, which any later write changes; wait for nothing.

        None if it cannot be trusted: there is no write-ahead log, or the last write is less than
        100 ms old. SQLite writes each change to the log first (https://sqlite.org/wal.html), so the
        log's inode, size and modification time show whether there was one.
        """
        try:
            log = os.stat(self._log)  # noqa: PTH116 - for each request, and twice as fast
        except OSError:
            return None
        if time.time_ns() - log.st_mtime_ns < _SETTLING_TIME:
            return None
        return (log.st_ino, log.st_mtime_ns, log.st_size)

    def call_or_default(self, work: Callable[[], Any], default: Any) -> Any:  # noqa: ANN401 - whatever it gives
        """Return what `work` returns; if it raises StoreError, report that, return `default`."""
        try:
            return work()
        except StoreError as error:
            self._survived_errors.report(error)
            return default

    def close(self) -> None:
        """Close every connection that is not lent."""
        while self._idle:
            self._idle.pop().connection.close()

    def _query(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self.connection() as connection:
            return connection.execute(query, values).fetchall()

    def _get_joined(self) -> sqlite3.Connection | None:
        """Return the connection of the transaction that this thread is in; None outside of one."""
        connection: sqlite3.Connection | None = getattr(self._joined, "connection", None)
        return connection

    @contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        with translate_errors("index"):
            link = self._borrow()
            try:
                yield link.connection
            except sqlite3.Error as error:
                link.connection.close()
                if is_broken(error):
                    self._quarantine(link.identity, error)
                raise
            except BaseException:
                self._idle.append(link)
                raise
            self._idle.append(link)

    def _borrow(self) -> _PooledConnection:
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self._open()
            if link.process != os.getpid():
                self._inherited.append(link)
            elif link.identity == get_identity(self._layout.index):
                return link
            else:
                link.connection.close()

    def _open(self) -> _PooledConnection:
        self._layout.prepare()
        for _ in range(_MAX_ATTEMPTS):
            if (link := self._try_open()) is not None:
                return link
            with self._layout.lock(fcntl.LOCK_EX):
                if get_identity(self._layout.index) is None:
                    build_index(self._layout)
        raise build_error(ESTALE, "the index does not stay")

    def _try_open(self) -> _PooledConnection | None:
        with self._layout.lock(fcntl.LOCK_SH):
            identity = get_identity(self._layout.index)
            if identity is None:
                return None
            try:
                return _PooledConnection(self._connect(), identity, os.getpid())
            except sqlite3.DatabaseError as error:
                if not is_broken(error):
                    raise
                failure = error
        self._quarantine(identity, failure)
        return None

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._layout.index, self._patience)
        try:
            for setting in _SETTINGS:
                connection.execute(setting)
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            self._check_version(application, version)
            # SQLite opens the files beside the index by name. Make it do so now, while the lock
            # guarantees that they belong to this index.
            connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_version(self, application: int, version: int) -> None:
        if application != schema.APPLICATION and self._layout.index.stat().st_size:
            raise build_error(ENOTSUP, f"{self._layout.index} is not Docxy's")
        if version > schema.VERSION:
            reason = (
                f"{self._layout.index} was made by a newer Docxy (schema {version}, this one knows "
                f"{schema.VERSION}); use that one, or another directory"
            )
            raise build_error(ENOTSUP, reason)
        if version < schema.VERSION:
            reason_for_rebuild = f"its schema is {version}"
            raise _Inconsistent(reason_for_rebuild)

    def _quarantine(self, identity: tuple[int, int], error: sqlite3.Error) -> None:
        self._survived_errors.report(
            BrokenIndex(EILSEQ, f"the index is broken, and made anew: {error}")
        )
        quarantine(self._layout, identity)


class _Inconsistent(sqlite3.DatabaseError):
    """The index is readable, but it is damaged or has an older schema."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
