"""What a spool's owner decides."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.oci.reference import Digest


def _nothing_is(_: Digest) -> bool:
    return False


def _none_left(_: float) -> int:
    return 0


UNREAD_LIMIT: Final = 1 << 30


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
    and raise OSError, having told the log why. `is_kept` tells, on any thread, whether `keep` has
    got a blob before: whoever has the right to fetch looks once more. `unread_limit` is how many
    bytes are fetched that nobody waits for; what was left unfinished is removed after `idle`
    seconds, and `tidy_others`, on any thread, does so with what takes the same room elsewhere.
    """

    keep: Callable[[Whole], None]
    room: Callable[[int], None]
    is_kept: Callable[[Digest], bool] = _nothing_is
    tidy_others: Callable[[float], int] = _none_left
    unread_limit: int = UNREAD_LIMIT
    idle: float = 24 * 3600.0
