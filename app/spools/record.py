"""What is said of a fetch, in a file beside its bytes."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from app.spools.shared_file import SharedFile, put

_LENGTH: Final = 1024
"""Bytes of the file, always: what is written over must not need room on a full disk."""


class State(StrEnum):
    """How far a fetch is."""

    ASKING = "asking"
    """The registry has not answered yet."""
    RUNNING = "running"
    VERIFIED = "verified"
    """All bytes are there, and are what the digest says."""
    WRONG = "wrong"
    """All bytes were there, and are not what the digest says."""
    GIVEN_UP = "given up"
    """The disk takes no more: who reads goes on without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One such statement.

    `inode` tells the file of the bytes from another one of the same name; `failures` counts the
    fetchers in a row that brought nothing.
    """

    state: State = State.ASKING
    size: int = 0
    inode: int = 0
    failures: int = 0


def write(file: SharedFile, record: Record) -> None:
    """Write over what the file says; raise OSError."""
    put(file, json.dumps(asdict(record)).encode().ljust(_LENGTH), 0)


def read(file: SharedFile) -> Record | None:
    """Return what the file says, or None for what cannot be read, perhaps just now."""
    data = file.pread(_LENGTH, 0)
    return _parsed(data) if data else Record()


@lru_cache(maxsize=64)
def _parsed(data: bytes) -> Record | None:
    # Whoever reads looks a thousand times for each GiB, and hardly ever finds anything new.
    try:
        fields = json.loads(data)
        return Record(**fields | {"state": State(fields["state"])})
    except (ValueError, KeyError, TypeError):
        return None
