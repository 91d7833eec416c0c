"""What tests of the spools are made of: scripted bodies, and a registry that is asked again."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.oci.reference import Digest
from app.source import BodyBroken, Payer, Reply, build_reply
from app.spools import filling
from app.spools.fetches import Fetches, Spool
from app.spools.filling import RemainingBody
from app.spools.lead import CompleteBlob, FetchLease, FetchOptions
from app.spools.reading import SpoolBody
from tests.servers import wait_until


def blob_of(size: int, seed: int = 0) -> bytes:
    """Return bytes of which every part is different."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - no secret


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def pieces_of(data: bytes, size: int = 1000) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


class Body:
    """A body that comes as far as it is let; it breaks where it is told to."""

    def __init__(self, data: bytes, *, piece: int = 1000, breaks: bool = False) -> None:
        self._pieces = pieces_of(data, piece)
        self._breaks = breaks
        self._more = threading.Condition()
        self._allowed = 0
        self.given = 0
        self.closed = 0

    def let(self, count: int) -> None:
        """Let so many more pieces come."""
        with self._more:
            self._allowed += count
            self._more.notify_all()

    def let_all(self) -> None:
        """Let all pieces come."""
        self.let(10**9)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._wait()
            self.given += 1
            yield piece
        if self._breaks:
            self._wait()
            message = "the registry broke off"
            raise BodyBroken(message)

    def _wait(self) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self._allowed > 0, 30)
            self._allowed -= 1

    def close(self) -> None:
        """Count."""
        self.closed += 1


@dataclass
class FakeAsk:
    """A registry that has the blob, and what it was asked for."""

    data: bytes
    knows_ranges: bool = True
    answer: Callable[[], Reply] | None = None
    only_verified: bool = False
    payer: Payer | None = None
    rests: list[int] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    times_verified: int = 0

    def fetch_rest(self, offset: int) -> Reply:
        """Answer for everybody."""
        self.rests.append(offset)
        return self._reply(offset, len(self.data))

    def fetch_range(self, start: int, end: int) -> Reply:
        """Answer for one."""
        self.parts.append((start, end))
        return self._reply(start, end)

    def record_verified(self) -> None:
        """Count."""
        self.times_verified += 1

    def _reply(self, start: int, end: int) -> Reply:
        if self.answer is not None:
            return self.answer()
        if not self.knows_ranges:
            return build_reply(200, [], self.data)
        where = f"bytes {start}-{end - 1}/{len(self.data)}"
        return build_reply(206, [("Content-Range", where)], self.data[start:end])


class Kept:
    """Takes what is whole, as a store does."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.wholes: list[CompleteBlob] = []
        self.error: OSError | None = None

    def __call__(self, whole: CompleteBlob) -> None:
        """Take it, or fail."""
        if self.error is not None:
            whole.path.unlink()
            raise self.error
        whole.path.rename(self.directory / whole.digest)
        self.wholes.append(whole)

    def data(self, digest: Digest) -> bytes:
        """Return what was kept."""
        return (self.directory / digest).read_bytes()

    def has(self, digest: Digest) -> bool:
        """Tell whether it was kept."""
        return any(whole.digest == digest for whole in self.wholes)


@dataclass
class Bench:
    """Fetches of one directory, as several processes would have them."""

    directory: Path
    keep: Kept
    full: bool = False

    def fetches(self, **terms: object) -> Fetches:
        """Return what another process would have."""
        known = {"adopt": self.keep, "make_room": self._room} | terms
        return Fetches(self.directory / "spools" / "docker.io", FetchOptions(**known))  # type: ignore[arg-type]

    def _room(self, size: int) -> None:
        assert size >= 0
        if self.full:
            raise OSError(28, "no room")

    def files(self) -> list[str]:
        """Return what kinds of files are there."""
        folder = self.directory / "spools" / "docker.io"
        return sorted(path.suffix for path in folder.iterdir()) if folder.exists() else []


def begun(
    fetches: Fetches, data: bytes, digest: Digest | None = None, payer: Payer | None = None
) -> tuple[FetchLease, Spool]:
    """Return the right to fetch, with its size told, and what its own client reads."""
    digest = digest or digest_of(data)
    lead = fetches.try_acquire(digest)
    assert lead is not None
    lead.start(len(data))
    spool = fetches.join(digest, payer)
    assert spool is not None
    return lead, spool


def fill(
    lead: FetchLease, body: Body, payer: Payer | None = None, *, whole: bool = True
) -> FakeAsk:
    """Fetch, and return whoever will be told that it was verified."""
    ask = FakeAsk(b"", payer=payer)
    filling.start_fetch_thread(lead, RemainingBody(body, body.close), ask, is_whole=whole)
    return ask


def read(spool: Spool, start: int, end: int, ask: FakeAsk) -> bytes:
    """Read a part, and close what it was read from."""
    reading = SpoolBody(spool, start, end, ask)
    try:
        return b"".join(reading)
    finally:
        reading.close()


def wait_for(condition: Callable[[], bool]) -> None:
    wait_until(condition, 10)
