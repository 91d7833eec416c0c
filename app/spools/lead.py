"""Who fetches a blob, for everybody."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import ESTALE
from pathlib import Path
from typing import Any, Final, Protocol, Self

from app.oci.reference import Digest
from app.source import Payer
from app.spools import files, record
from app.spools.files import Files, Place
from app.spools.record import Record, State
from app.spools.unread import Slots, is_read_by_others
from app.threads import RealThreads

# What a spool's owner decides.


def _nothing_is(_: Digest) -> bool:
    return False


def _none_left(_: float) -> int:
    return 0


def _tell_nobody(_: OSError) -> None:
    pass


_WHOLE: Final = 1 << 30
_PART: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadLimits:
    """How many bytes of a blob are fetched after its last reader has left.

    `whole` is for a fetch that began with a request for all of the blob, `part` for one that began
    with a `Range`: a client that wants one byte is no reason to fetch a gigabyte.
    """

    whole: int = _WHOLE
    part: int = _PART

    @classmethod
    def fixed(cls, size: int) -> Self:
        """Return the same limit for both."""
        return cls(whole=size, part=size)

    @classmethod
    def for_limited_clients(cls) -> Self:
        """Return the limits where each client may have only so much."""
        return cls.fixed(_PART)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A file with all bytes of a blob, verified."""

    path: Path
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms on which blobs are fetched.

    `room` is asked before so many bytes are written, `keep` gets what is whole; both may take long,
    and raise OSError. `is_kept` tells, on any thread, whether `keep` has got a blob before: whoever
    has the right to fetch looks once more. `unread` is how many bytes are fetched that nobody waits
    for; what was left unfinished is removed after `idle` seconds, and `tidy_others`, on any thread,
    does so with what takes the same room elsewhere. `failed` is told of what keeps a blob from
    being fetched for all.
    """

    keep: Callable[[Whole], None]
    room: Callable[[int], None]
    is_kept: Callable[[Digest], bool] = _nothing_is
    tidy_others: Callable[[float], int] = _none_left
    failed: Callable[[OSError], None] = _tell_nobody
    unread: UnreadLimits = UnreadLimits()
    idle: float = 24 * 3600.0


_THREADS: Final = RealThreads(4)


class Owner(Protocol):
    """Who has all fetches of this process, and their readers."""

    @property
    def unread_slots(self) -> Slots:
        """Return what bounds the fetches that nobody reads."""

    def make_room(self, size: int) -> None:
        """See to it that so many bytes fit; raise OSError."""

    def are_there(self, inode: int) -> bool:
        """Tell whether there are any."""

    def wake(self, inode: int) -> None:
        """Let them look again."""

    def has_ended(self, lead: "Lead") -> None:
        """Know that it fetches no more."""


class Lead:
    """The right to fetch a blob, which one has at a time; ends with `release`, or `filling.fill`.

    `offset` bytes are there already, unverified: they are read again before more is written.
    """

    def __init__(  # noqa: PLR0913 - each by its name
        self,
        *,
        digest: Digest,
        place: Place,
        opened: Files,
        terms: Terms,
        owner: Owner,
        is_kept: bool,
    ) -> None:
        self.digest = digest
        self.place = place
        self.files = opened
        self.terms = terms
        self.owner = owner
        self.said = opened.said
        self.payer: Payer | None = None
        """The client that is charged for what comes while nobody else reads."""
        self.is_kept = is_kept
        """Whether another has fetched it, between the look for it and this."""
        self.offset = opened.data.status().st_size
        self.inode = opened.data.status().st_ino
        self._released = False
        self.begun = threading.Event()
        """Set as soon as there is something to read, or never will be by this one."""

    @property
    def size(self) -> int | None:
        """The bytes of the whole blob, where that is known from an earlier fetch."""
        return None if self.said.state is State.ASKING else self.said.size

    @property
    def is_wanted(self) -> bool:
        """Whether anybody reads."""
        return self.owner.are_there(self.inode) or not self.files.data.is_free()

    def is_read_by(self, payer: Payer) -> None:
        """Charge a client that has come back: what is sent to it is not charged once more."""
        if self.payer is not None and self.payer.identity == payer.identity:
            self.payer = payer

    def is_wanted_by_others(self, identity: str) -> bool:
        """Tell whether anybody but this client reads; raise OSError."""
        return is_read_by_others(self.files.data, identity)

    def begin(self, size: int) -> None:
        """Let others join; raise OSError if there is no room, or bytes of another size are there.

        In that case this is still to be released.
        """
        if self.size not in {None, size}:
            raise OSError(ESTALE, "the registry tells another size than before")
        self.owner.make_room(size - self.offset)
        self.say(
            Record(
                state=State.RUNNING,
                size=size,
                inode=self.inode,
                failures=self.said.failures,
            )
        )
        self.begun.set()

    def break_off(self, length: int) -> None:
        """Give the right back with so many bytes; not everybody shall try in turn for nothing."""
        failures = 0 if length > self.offset else self.said.failures + 1
        if self.said.state is State.RUNNING:
            self.say(replace(self.said, failures=failures))
        self.release()

    def verified(self) -> None:
        """Tell that all bytes are there, and right; raise OSError."""
        self.say(replace(self.said, state=State.VERIFIED))

    def discard(self, why: State) -> None:
        """Give the right back, and let nobody go on from what is there."""
        try:
            self.say(replace(self.said, state=why))
        finally:
            self.off_loop(files.remove, self.files, self.place)

    def release(self) -> None:
        """Give the right back; what was fetched stays for whoever goes on. May be called again."""
        released, self._released = self._released, True
        if released:
            return
        self.owner.has_ended(self)
        try:
            if self.said.state is State.ASKING:
                self.off_loop(files.remove, self.files, self.place)
        finally:
            self.files.close()
            self.begun.set()
            self.owner.wake(self.inode)

    def say(self, said: Record) -> None:
        """Tell all processes."""
        self.said = said
        try:
            self.off_loop(record.write, self.files.record, said)
        finally:
            self.owner.wake(self.inode)

    def off_loop(self, work: Callable[..., object], *args: object) -> Any:  # noqa: ANN401 - whatever it gives
        """Do what waits for the disk."""
        return _THREADS.begin(work, *args).result()
