"""What tests of the store share: content, a clock that is told the time, and what must be true."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.cache.blobs.unfinished import measure_unfinished
from app.oci.reference import Digest
from app.store.blobs import ContentInfo, SizeLimits
from app.store.ledger import PLAIN_BLOB, Confirmation, Denial, Ledger, Member
from app.store.memory import open_memory
from app.store.memory_ledger import MemoryLedger
from app.store.storage import Storage
from app.store.store import Store, open_directory

REGISTRY = "docker.io"
ROOMY = SizeLimits(min_free=0)


@dataclass(slots=True)
class FakeClock:
    """A clock that goes on when it is told to, and by a tick whenever it is looked at."""

    boot: str = "first"
    time: float = 1000.0
    tick: float = 0.0

    def now(self) -> float:
        """Return the time."""
        self.time += self.tick
        return self.time


@dataclass
class Stores:
    """Opens stores, and closes them all in the end."""

    directory: Path
    clock: FakeClock = field(default_factory=FakeClock)
    opened: list[Store] = field(default_factory=list)

    def open(
        self, limits: SizeLimits = ROOMY, patience: float = 10, beside: Callable[[], int] = int
    ) -> Store:
        """Open another Store of the directory, as another worker does."""
        store = Store(self.directory, limits, self.clock, patience, beside)
        self.opened.append(store)
        return store

    def close(self) -> None:
        """Close them all."""
        while self.opened:
            self.opened.pop().close()


class FarLedger(MemoryLedger):
    """A ledger as another machine may have it: it promises no more than `Ledger` does.

    A block is no transaction, so each write is one by itself; and no version can be trusted.
    """

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """Write at once, whatever happens next."""
        self.state.version += 1
        yield self.state

    def read_version(self) -> None:
        """Return None."""


@dataclass
class Storages:
    """Opens storages that share all they keep, as workers do: one directory, or one memory."""

    directory: Path
    clock: FakeClock = field(default_factory=FakeClock)
    is_in_memory: bool = False
    opened: list[Storage] = field(default_factory=list)

    def open(self, limits: SizeLimits = ROOMY) -> Storage:
        """Open the storage of another worker."""
        if not self.is_in_memory:
            storage = open_directory(
                self.directory, limits, self.clock, lambda path: measure_unfinished(path)[1]
            )
        elif self.opened:
            storage = self.opened[0]
        else:
            storage = open_memory(self.directory / "unfinished", limits, self.clock)
        self.opened.append(storage)
        return storage

    def close(self) -> None:
        """Close them all."""
        while self.opened:
            self.opened.pop().close()


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of some bytes."""
    return Digest.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def described(data: bytes, media_type: str = "text/plain", registry: str = REGISTRY) -> ContentInfo:
    """Return what is to be said of some bytes when they are taken."""
    return ContentInfo(
        registry=registry, digest=digest_of(data), size=len(data), media_type=media_type
    )


def fetched_file(store_directory: Path, data: bytes) -> Path:
    """Make a finished file on the store's file system."""
    folder = store_directory.parent / "unfinished"
    folder.mkdir(exist_ok=True)
    path = folder / uuid4().hex
    path.write_bytes(data)
    return path


def put_files(directory: Path, contents: Iterable[bytes]) -> None:
    """Put content where a store that has no index yet will find it."""
    for data in contents:
        name = digest_of(data).partition(":")[2]
        path = directory / "content" / REGISTRY / "sha256" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def read(store: Store, digest: Digest, registry: str = REGISTRY) -> bytes | None:
    """Read what is kept, or None."""
    content = store.open(registry, digest)
    if content is None:
        return None
    with contextlib.closing(content.blob) as blob:
        data = blob.read()
    assert len(data) == content.size
    return data


def rows(directory: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask the index itself, or change it."""
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite", timeout=10)) as index:
        found = index.execute(query, values).fetchall()
        index.commit()
    return found


def files(directory: Path) -> set[str]:
    """Return every file of content."""
    content = directory / "content"
    return {str(path.relative_to(content)) for path in content.rglob("*") if path.is_file()}


def faults(directory: Path) -> list[str]:
    """Tell what is not as it must be while nothing is going on, once a store was opened."""
    with contextlib.closing(sqlite3.connect(directory / "index.sqlite", timeout=10)) as index:
        found = [*_faults_of_files(directory, index), *_faults_of_counts(index)]
        found += [f"left over: {row}" for row in index.execute("SELECT * FROM moving")]
        if (check := index.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            found.append(f"the index: {check}")
    return found


def _faults_of_files(directory: Path, index: sqlite3.Connection) -> Iterator[str]:
    content = directory / "content"
    for path in map(content.joinpath, files(directory)):
        if hashlib.new(path.parts[-3], path.read_bytes()).hexdigest() != path.name:
            yield f"{path} has wrong bytes"
    known = set()
    for registry, digest, size in index.execute("SELECT registry, digest, size FROM entries"):
        algorithm, _, name = digest.partition(":")
        where = f"{registry}/{algorithm}/{name[:2]}/{name}"
        known.add(where)
        if not (content / where).exists() or (content / where).stat().st_size != size:
            yield f"{where} is not a file of {size} bytes"
    yield from (f"{where} has no entry" for where in files(directory) - known)


def _faults_of_counts(index: sqlite3.Connection) -> Iterator[str]:
    def ask(query: str) -> list[tuple[Any, ...]]:
        return index.execute(query).fetchall()

    entries = "SELECT registry, count(*), sum(size) FROM entries GROUP BY registry ORDER BY 1"
    totals = "SELECT registry, entries, bytes FROM totals WHERE entries > 0 ORDER BY 1"
    if (held := ask(entries)) != (told := ask(totals)):
        yield f"the totals are {told} and not {held}"
    for name, present in ask("SELECT name, present FROM counts"):
        ((number,),) = ask(f"SELECT count(*) FROM {name}")  # noqa: S608
        if number != present:
            yield f"{name}: {number} rows, and {present} counted"
    for name, size in ask("SELECT name, bytes FROM sizes"):
        lengths = "coalesce(sum(length(CAST(key AS BLOB)) + length(CAST(value AS BLOB))), 0)"
        ((held,),) = ask(f"SELECT {lengths} FROM {name}")  # noqa: S608
        if held != size:
            yield f"{name}: {held} bytes, and {size} counted"


def grant(  # noqa: PLR0913 - each by its place
    ledger: Ledger, caller: str, registry: str, repository: str, seconds: float, *, asked: float
) -> bool:
    """Let a caller read a repository, unless it has been refused since."""
    confirmed = Confirmation(
        registry=registry,
        repository=repository,
        requested_at=asked,
        caller=caller,
        grant_seconds=seconds,
    )
    return ledger.record(confirmed).has_grant


def has_grant(ledger: Ledger, caller: str, registry: str, repository: str) -> bool:
    """Tell whether a caller may read a repository now."""
    return ledger.lookup(caller, registry, repository).seconds_left > 0


def revoke(ledger: Ledger, caller: str, registry: str, repository: str) -> None:
    """Refuse a caller."""
    ledger.refuse(Denial(registry=registry, repository=repository, caller=caller))


def make_public(ledger: Ledger, registry: str, repository: str, *, requested_at: float) -> bool:
    """Let everybody read a repository, unless anonymous callers have been refused since."""
    confirmed = Confirmation(
        registry=registry, repository=repository, requested_at=requested_at, is_public=True
    )
    return ledger.record(confirmed).is_public


def make_private(ledger: Ledger, registry: str, repository: str) -> None:
    """Refuse anonymous callers."""
    ledger.refuse(Denial(registry=registry, repository=repository, is_public=True))


def public_age(ledger: Ledger, registry: str, repository: str) -> float | None:
    """Tell how long ago an anonymous caller was let read a repository."""
    return ledger.lookup("", registry, repository).public_age


def lookup_member(ledger: Ledger, registry: str, repository: str, digest: Digest) -> Member | None:
    """Tell what a repository is known to hold."""
    return ledger.lookup("", registry, repository, digest).member


def record_member(  # noqa: PLR0913 - each by its place
    ledger: Ledger,
    registry: str,
    repository: str,
    digest: Digest,
    member: Member = PLAIN_BLOB,
    *,
    asked: float,
) -> None:
    """Have a repository hold a digest, unless that was denied since."""
    ledger.record(
        Confirmation(
            registry=registry,
            repository=repository,
            requested_at=asked,
            digest=digest,
            member=member,
        )
    )


def remove_member(ledger: Ledger, registry: str, repository: str, digest: Digest) -> None:
    """Have a repository hold a digest no more."""
    ledger.refuse(Denial(registry=registry, repository=repository, absent=digest))
