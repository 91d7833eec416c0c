"""What tests of transfers are made of: a scripted registry, and processes that fetch its blob."""

import hashlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from app.cache.blobs.fetching import BlobOrigin
from app.cache.blobs.request import BlobRequest
from app.oci.errors import ClientGone, UpstreamUnavailable
from app.oci.reference import Digest
from app.source import (
    BodyBroken,
    Client,
    Payer,
    Place,
    PlaceExpired,
    Reply,
    Request,
    build_reply,
)
from app.transfer.connections import Connection
from app.transfer.lease import Span
from app.transfer.reading import BlobBody
from app.transfer.shared_blob import CompleteBlob, TransferOptions
from app.transfer.transfers import Beginning, Transfer, Transfers
from tests.servers import wait_until

PATIENCE = 60.0
"""Seconds after which a test gives up: more than any machine needs."""


def blob_of(size: int, seed: int = 0) -> bytes:
    """Return bytes of which every part is different."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - no secret


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of the bytes."""
    return Digest.parse(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    wait_until(condition, PATIENCE)


class Gate:
    """Lets as many pieces pass as it is told."""

    def __init__(self, allowed: float = math.inf) -> None:
        self._more = threading.Condition()
        self._allowed = allowed

    def let(self, count: float = math.inf) -> None:
        """Let so many more pieces pass."""
        with self._more:
            self._allowed += count
            self._more.notify_all()

    def pass_one(self, is_over: Callable[[], bool]) -> None:
        """Wait until one more piece may pass; raise BodyBroken once `is_over` returns True."""
        deadline = time.monotonic() + PATIENCE
        with self._more:
            while self._allowed <= 0:
                if is_over():
                    message = "the client left"
                    raise BodyBroken(message)
                assert time.monotonic() < deadline, "the gate was never opened"
                self._more.wait(0.02)
            self._allowed -= 1


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def _is_present() -> bool:
    return False


def _find_no_fault(_: int) -> str:
    return ""


def _ignore_piece(_: int) -> None:
    pass


class HurriedClock(Clock):
    """A time that goes on by a second whenever somebody looks: no pause takes long."""

    def __call__(self) -> float:
        """Return the time in seconds."""
        self.now += 1
        return self.now


@dataclass
class Origin:
    """A registry with one blob, as the requests of one client reach it (`BlobRequest`).

    `fault` names what goes wrong with a request of a fetch, by its number, from 1 on. A body that
    ends too early ends at `cut_at`, or in the middle if that is None. `record_piece` is called with
    the size of each piece before it is sent.
    """

    data: bytes
    expected: Digest | None = None
    """The digest by which clients ask, if the blob does not have it."""
    piece: int = 64 * 1024
    gate: Gate = field(default_factory=Gate)
    fault: Callable[[int], str] = _find_no_fault
    cut_at: int | None = None
    knows_ranges: bool = True
    redirects: bool = False
    only_verified: bool = False
    payer: Payer | None = None
    client: Client | None = None
    reader: tuple[str, str] = ("alice", "team/app")
    confirmed_at: float = 1.0
    stall_seconds: float = PATIENCE
    record_piece: Callable[[int], None] = _ignore_piece
    asked: list[Span] = field(default_factory=list)
    """What was asked for on behalf of all readers."""
    asked_alone: list[Span] = field(default_factory=list)
    """What was asked for on behalf of one reader."""
    asked_place: list[Span] = field(default_factory=list)
    """What was asked for at the place that the registry redirects to."""
    sent: int = 0
    repeated: int = 0
    """Bytes of those that come before the asked ones, because the whole was sent."""
    open_most: int = 0
    verified: int = 0
    generation: int = 0
    """Places of earlier generations serve nothing any more."""
    retry_after: str = ""
    """What it tells with a refusal."""
    place_status: int = 0
    """The status with which the place refuses everything; 0 if it does not."""
    ended_stalls: int = 0
    """How many answers that stalled were given up."""
    _open: set[object] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def digest(self) -> Digest:
        """The digest by which clients ask for the blob."""
        return self.expected or digest_of(self.data)

    @property
    def open_now(self) -> int:
        """How many answers are open."""
        return len(self._open)

    # What a BlobRequest has.

    @property
    def request(self) -> Request:
        """The client's request."""
        return Request(method="GET", client=self.client)

    def fetch_part(self, start: int, end: int | None, client: Client | None) -> Reply:
        """Answer with the bytes, or with what goes wrong."""
        span = (start, len(self.data) if end is None else end)
        with self._lock:
            if not isinstance(client, Connection):
                self.asked_alone.append(span)
                return self._answer(span, "", client)
            self.asked.append(span)
            fault = self.fault(len(self.asked))
            if client.is_gone():
                raise ClientGone
            return self._answer(span, fault, client)

    @property
    def place(self) -> Place:
        """The place that the registry redirects to now."""
        return Place(f"https://storage.example/{self.generation}")

    def fetch_from_place(self, span: Span, client: Client | None, place: Place) -> Reply:
        """Answer with the bytes, unless the place is of an earlier generation."""
        with self._lock:
            self.asked_place.append(span)
            if place != self.place:
                raise PlaceExpired
            if self.place_status:
                return build_reply(self.place_status, [], b"")
            return self._answer(span, "", client)

    def record_verified(self) -> None:
        """Count."""
        self.verified += 1

    # Answers.

    def _answer(self, span: Span, fault: str, client: Client | None) -> Reply:
        if fault == "refused":
            message = "it does not answer"
            raise UpstreamUnavailable(message)
        if fault.isdecimal():
            fields = [("Retry-After", self.retry_after)] if self.retry_after else []
            return build_reply(int(fault), fields, b"")
        size, wanted = len(self.data), span[0]
        if fault == "whole" or not self.knows_ranges:
            reply = Reply(status=200, length=size)
            span = (0, size)
        else:
            start, end = self._misplace(span) if fault == "elsewhere" else span
            total = size + 1 if fault == "another size" else size
            where = [("Content-Range", f"bytes {start}-{end - 1}/{total}")]
            reply = Reply(status=206, headers=where, length=end - start)
            span = (start, end)
        opened = object()
        self._open.add(opened)
        self.open_most = max(self.open_most, len(self._open))
        return replace(
            reply,
            body=self._send(span, wanted, fault, client),
            close=lambda: self._open.discard(opened),
            place=self.place if self.redirects else None,
        )

    def _misplace(self, span: Span) -> Span:
        start = span[0] - 1 if span[0] else min(1, span[1] - 1)
        return (start, span[1])

    def _send(self, span: Span, wanted: int, fault: str, client: Client | None) -> Iterator[bytes]:
        is_gone = _is_present if client is None else client.is_gone
        is_early = fault in {"cut", "stall", "short", "unexpected"}
        middle = (span[0] + span[1]) // 2 if self.cut_at is None else self.cut_at
        data = self.data + bytes(self.piece) if fault == "long" else self.data
        stop = middle if is_early else len(data) if fault == "long" else span[1]
        for at in range(span[0], stop, self.piece):
            self.gate.pass_one(is_gone)
            piece = data[at : min(stop, at + self.piece)]
            self.record_piece(len(piece))
            self.sent += len(piece)
            self.repeated += max(0, min(len(piece), wanted - at))
            yield bytes(len(piece)) if fault == "corrupt" else piece
            if is_gone():
                message = "the client left"
                raise BodyBroken(message)
        if fault == "unexpected":
            raise LookupError
        if fault == "stall":
            self._stall(is_gone)
        if fault in {"cut", "stall"}:
            message = "the registry broke off"
            raise BodyBroken(message)

    def _stall(self, is_gone: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.stall_seconds
        while time.monotonic() < deadline:
            if is_gone():
                self.ended_stalls += 1
                return
            threading.Event().wait(0.01)


def slow_origin(data: bytes, **fields: Any) -> Origin:
    """Return a registry that sends a thousand bytes at a time, and none before it is let."""
    return Origin(data, piece=1000, gate=Gate(0), **fields)


def start(beginning: Beginning, size: int, payer: Payer | None = None) -> Transfer:
    """Let readers in, as after the registry's first answer, but with no bytes of it."""
    return beginning.let_in(beginning.announce(size), payer)


class Cache:
    """The transfers of one process, and what its machine keeps."""

    def __init__(self, directory: Path, beside: "Cache | None" = None, **options: Any) -> None:
        """Open the transfers of a process; one `beside` it is on the same machine."""
        self.kept: dict[str, bytes] = {} if beside is None else beside.kept
        self.refusal: OSError | None = None
        """What the cache raises instead of keeping a blob."""
        self.room_asked: list[int] = []
        self.has_room: Callable[[], bool] = lambda: True
        self.failures: list[OSError] = []
        self.folder = directory / "cache" / "unfinished" / "docker.io"
        known: dict[str, Any] = {
            "adopt": self._adopt,
            "make_room": self._make_room,
            "is_cached": self.kept.__contains__,
            "report_failure": self.failures.append,
            "patience": 20.0,
            "clock": HurriedClock(),
        }
        self.transfers = Transfers(self.folder, TransferOptions(**known | options))

    def _adopt(self, complete: CompleteBlob) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.kept[complete.digest] = complete.path.read_bytes()

    def _make_room(self, size: int) -> None:
        self.room_asked.append(size)
        if not self.has_room():
            raise OSError(28, "no room")

    def enter(self, origin: Origin) -> Transfer:
        """Return the transfer of a blob, begun if need be, with nothing asked of the registry."""
        entered = self.transfers.begin_or_join(origin.digest, origin.client, origin.payer)
        if isinstance(entered, Beginning):
            return start(entered, len(origin.data), origin.payer)
        return entered

    def open(self, origin: Origin, span: Span | None = None) -> BlobBody:
        """Return what a client reads from that asks for a blob, or for a part of it."""
        return open_body(origin, self.enter(origin), span, partial(self.enter, origin))

    def read(self, origin: Origin, span: Span | None = None) -> bytes:
        """Return what a client gets that asks for a blob, or for a part of it."""
        entered = self.transfers.begin_or_join(origin.digest, origin.client, origin.payer)
        if isinstance(entered, Beginning):
            if entered.is_cached:
                entered.release()
                return self.kept[origin.digest][slice(*span or (None,))]
            entered = start(entered, len(origin.data), origin.payer)
        return read_all(open_body(origin, entered, span, partial(self.enter, origin)))

    def list_files(self) -> list[str]:
        """Return the suffixes of the files that are there."""
        return sorted(path.suffix for path in self.folder.iterdir()) if self.folder.exists() else []

    def wait_until_fetched(self, origin: Origin) -> None:
        """Wait until no fetch of the blob is running in any process of this test."""
        name = f"blob {origin.digest}"
        wait_for(lambda: not any(thread.name == name for thread in threading.enumerate()))

    def wait_until_idle(self, *origins: Origin) -> None:
        """Wait until no process of the machine fetches or reads the blobs any more."""
        wait_for(lambda: not any(self.transfers.is_running(one.digest) for one in origins))


def _reenter_nothing() -> None:
    pass


def ask_for(
    origin: Origin,
    transfer: Transfer,
    reenter: Callable[[], Transfer | None] = _reenter_nothing,
    *,
    whole: bool = True,
) -> BlobOrigin:
    """Return what asks a registry in the name of its client."""
    return BlobOrigin(cast("BlobRequest", origin), transfer, reenter, is_whole=whole)


def start_fetch(
    origin: Origin,
    transfer: Transfer,
    wanted: Sequence[Span] | None = None,
    *,
    whole: bool = True,
) -> None:
    """Begin to fetch, though nobody waits for the bytes."""
    wanted = wanted or [(0, transfer.blob.size)]
    transfer.fetch(ask_for(origin, transfer, whole=whole), wanted, whole=whole)


def open_body(
    origin: Origin,
    transfer: Transfer,
    span: Span | None = None,
    reenter: Callable[[], Transfer | None] = _reenter_nothing,
) -> BlobBody:
    """Return what a client reads from; closing it closes the transfer.

    `reenter` returns the transfer that replaces one whose bytes were wrong.
    """
    span = span or (0, transfer.blob.size)
    asking = ask_for(origin, transfer, reenter, whole=span == (0, transfer.blob.size))
    return BlobBody(asking.read(), span, origin.client)


def read_all(body: BlobBody) -> bytes:
    """Read to the end, and close."""
    try:
        return b"".join(body)
    finally:
        body.close()
