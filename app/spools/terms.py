"""What a spool's owner decides."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from app.oci.reference import Digest


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
